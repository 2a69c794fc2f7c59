//! Every file of /proc and /sys that the agent reads, holding anything: the first byte says which file, the rest is in
//! it. The answers that are not files (sockets, D-Bus) are given the same bytes.

#![no_main]

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pitwatch_agent::signals::{self, Now, Signals, SignalsConfig};

/// Below a root that is /proc, /sys and / at once.
const FILES: [&str; 52] = [
    "stat", "meminfo", "vmstat", "diskstats", "loadavg", "schedstat", "mdstat", "1/mounts", "net/dev", "net/netstat",
    "net/snmp", "net/snmp6", "net/sockstat", "net/sockstat6", "net/softnet_stat", "net/arp", "net/rpc/nfs", "net/stat/nf_conntrack",
    "pressure/cpu", "pressure/memory", "pressure/io", "sys/fs/file-nr", "sys/kernel/random/entropy_avail",
    "sys/net/netfilter/nf_conntrack_count", "self/statm", "7/stat", "7/io", "7/cmdline", "7/cgroup", "etc/os-release",
    "run/udev/data/b8:0", "class/net/eth0/speed", "class/net/bonding_masters", "class/hwmon/hwmon0/temp1_input",
    "class/thermal/thermal_zone0/temp", "devices/system/clocksource/clocksource0/available_clocksource",
    "fs/cgroup/a.service/cpu.stat", "fs/cgroup/a.service/memory.events", "fs/cgroup/a.service/io.stat",
    "net/rpc/nfsd", "net/ip_vs_stats", "net/ip_vs", "spl/kstat/zfs/arcstats", "spl/kstat/zfs/tank/io",
    "spl/kstat/zfs/tank/state", "spl/kstat/zfs/tank/objset-0x36", "fs/xfs/sda1/stats/stats",
    "fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/commit_stats",
    "fs/btrfs/0abb23a9-579b-43e6-ad30-227ef47fcb9d/devinfo/1/error_stats", "class/powercap/intel-rapl:0/name",
    "class/infiniband/mlx4_0/ports/1/rate", "etc/selinux/config",
];

/// Made once: threads of sources live on, and so do files that are held open.
static HOST: LazyLock<(PathBuf, Mutex<(Signals, Now)>)> = LazyLock::new(|| {
    let root = PathBuf::from(format!("/dev/shm/pitwatch-fuzz-proc-{}", std::process::id()));
    for file in FILES.into_iter().chain(["fs/cgroup/cgroup.controllers"]) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("every file is in a directory")).expect("a directory");
        std::fs::write(path, b"").expect("a file");
    }
    let config = SignalsConfig {
        proc_root: root.clone(),
        sys_root: root.clone(),
        root: root.clone(),
        ..SignalsConfig::default()
    };
    let mut signals = Signals::new(&config, &[]);
    signals.be_patient(Duration::from_secs(10));
    (root, Mutex::new((signals, Now::read())))
});

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    signals::try_sockets_answer(bytes);
    signals::try_dbus_message(bytes);
    let (root, host) = &*HOST;
    let path = root.join(FILES[usize::from(*which) % FILES.len()]);
    std::fs::write(&path, bytes).expect("a file");
    let mut host = host.lock().expect("no panic before");
    let (signals, now) = &mut *host;
    now.monotonic += Duration::from_secs(60);
    for group in 0..signals.groups().len() {
        signals.gather(group as u16, *now).take_changes();
    }
    std::fs::write(&path, b"").expect("a file");
});
