//! Real changes to the host, as `pitwatch-agent once` sees them: a process that burns a core, a file that is written, sockets
//! that open, a filesystem that fills, an interface that goes down; a mount that hangs; and what is left of the signals
//! without root.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_tests::programs::{Agent, Collector, Process, path};

use crate::support::{assert_whole, said, wait_for_tick};

const DISK_BYTES: u64 = 32 << 20;
const WRITTEN_BYTES: usize = 12 << 20;
const NOBODY: &str = "65534";

pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} is not there"))?;
    anyhow::ensure!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
    Ok(output)
}

/// The series that a run of `once` printed, by name and labels.
fn series(output: &Output) -> anyhow::Result<BTreeMap<String, f64>> {
    anyhow::ensure!(output.status.success(), "once: {}", said(output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').context(line.to_owned()));
    pairs.map(|pair| pair.and_then(|(series, value)| Ok((series.to_owned(), value.parse()?)))).collect()
}

pub(crate) fn once() -> anyhow::Result<BTreeMap<String, f64>> {
    series(&Command::new(path("pitwatch-agent")?).arg("once").output()?)
}

/// The one series of a metric with this text among its labels.
fn value(of: &BTreeMap<String, f64>, metric: &str, label: &str) -> anyhow::Result<f64> {
    let mut found =
        of.iter().filter(|(series, _)| series.starts_with(&format!("{metric}{{")) && series.contains(label));
    let (_, value) = found.next().with_context(|| format!("no {metric} with {label}"))?;
    anyhow::ensure!(found.next().is_none(), "several {metric} with {label}");
    Ok(*value)
}

/// A filesystem on a loop device, unmounted and given back when dropped.
pub(crate) struct Disk {
    pub(crate) device: String,
    pub(crate) point: String,
}

impl Disk {
    /// Made in `dir` by `mkfs.TYPE` with `options`. `None` where there are no loop devices, or not for this user.
    pub(crate) fn mount(dir: &Path, bytes: u64, fstype: &str, options: &[&str]) -> anyhow::Result<Option<Self>> {
        if !Path::new("/dev/loop-control").exists() {
            eprintln!("this host has no loop devices: not tried");
            return Ok(None);
        }
        let (file, point) = (dir.join(fstype), dir.join(format!("{fstype}-mounted")));
        fs::File::create(&file)?.set_len(bytes)?;
        fs::create_dir(&point)?;
        let file = file.to_str().context("a path of text")?;
        let output = Command::new("losetup").args(["--find", "--show", file]).output()?;
        if !output.status.success() {
            eprintln!("no loop device for this user: not tried: {}", said(&output));
            return Ok(None);
        }
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let disk = Self { device, point: point.to_str().context("a path of text")?.to_owned() };
        run(&format!("mkfs.{fstype}"), &[&["-q"][..], options, &[&disk.device]].concat())?;
        run("mount", &[&disk.device, &disk.point])?;
        Ok(Some(disk))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.point).output();
        let _ = Command::new("losetup").args(["--detach", &self.device]).output();
    }
}

#[test]
fn a_filesystem_that_fills_and_turns_read_only_is_seen() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(disk) = Disk::mount(dir.path(), DISK_BYTES, "ext4", &["-m", "0"])? else { return Ok(()) };
    let mark = format!("mountpoint=\"{}\"", disk.point);
    let before = once()?;
    fs::write(Path::new(&disk.point).join("fill"), vec![7; WRITTEN_BYTES])?;
    run("sync", &["-f", &disk.point])?;
    let after = once()?;
    let (was, is) =
        (value(&before, "node_filesystem_avail_bytes", &mark)?, value(&after, "node_filesystem_avail_bytes", &mark)?);
    let less = was - is;
    anyhow::ensure!((less - WRITTEN_BYTES as f64).abs() < 1e6, "{less} bytes less than before");
    let files = |of| value(of, "node_filesystem_files_free", &mark);
    anyhow::ensure!(files(&before)? - files(&after)? == 1.0, "one file more");
    let device = format!("device=\"{}\"", disk.device);
    anyhow::ensure!(value(&after, "node_filesystem_readonly", &device)? == 0.0);
    run("mount", &["-o", "remount,ro", &disk.point])?;
    anyhow::ensure!(value(&once()?, "node_filesystem_readonly", &device)? == 1.0);
    drop(disk);
    anyhow::ensure!(value(&once()?, "node_filesystem_size_bytes", &mark).is_err(), "it is gone");
    Ok(())
}

/// The sum of a metric's series with this text among their labels.
fn sum(of: &BTreeMap<String, f64>, metric: &str, label: &str) -> f64 {
    let found = of.iter().filter(|(series, _)| series.starts_with(&format!("{metric}{{")) && series.contains(label));
    found.map(|(_, value)| value).sum()
}

#[test]
fn a_process_that_burns_a_core_is_seen_and_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    // It ends by itself, should nobody end it.
    let mut burner = Command::new("sh");
    burner.args(["-c", "n=0; while [ $n -lt 100000000 ]; do n=$((n+1)); done"]);
    let before = once()?;
    let burner = Process::start(&mut burner, &dir.path().join("burner.log"))?;
    std::thread::sleep(Duration::from_secs(2));
    let after = once()?;
    drop(burner);
    let user =
        |of| sum(of, "node_cpu_seconds_total", "mode=\"user\"") + sum(of, "node_cpu_seconds_total", "mode=\"nice\"");
    anyhow::ensure!(user(&after) - user(&before) > 0.5, "a core burned for two seconds and more");
    let pids: Vec<_> = after
        .iter()
        .filter(|(series, _)| series.starts_with("pitwatch_process_info{") && series.contains("while [ $n"))
        .filter_map(|(series, _)| series.split("pid=\"").nth(1)?.split('"').next())
        .collect();
    let burns = |pid: &&str| sum(&after, "pitwatch_process_cpu_ratio", &format!("pid=\"{pid}\"")) > 0.1;
    anyhow::ensure!(pids.iter().any(burns), "none of {pids:?} burns");
    Ok(())
}

#[test]
fn a_file_that_is_written_and_sockets_that_open_are_seen() -> anyhow::Result<()> {
    const SOCKETS: usize = 200;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let before = once()?;
    let file = dir.path().join("file");
    fs::write(&file, vec![7; WRITTEN_BYTES])?;
    run("sync", &[file.to_str().context("a path of text")?])?;
    let listeners: Vec<_> = (0..SOCKETS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let after = once()?;
    let more = |metric: &str, label: &str| sum(&after, metric, label) - sum(&before, metric, label);
    // Other tests open and close some meanwhile.
    let most = SOCKETS as f64 * 0.7;
    anyhow::ensure!(more("node_tcp_connection_states", "state=\"listen\"") > most);
    anyhow::ensure!(more("node_sockstat_TCP_inuse", "") > most);
    anyhow::ensure!(more("node_filefd_allocated", "") > most);
    drop(listeners);
    match sum(&before, "node_disk_writes_completed_total", "") {
        0.0 => eprintln!("this host shows no disks that were written to: not compared"),
        _ => anyhow::ensure!(more("node_disk_written_bytes_total", "") >= WRITTEN_BYTES as f64, "on some disk"),
    }
    Ok(())
}

/// A filesystem whose server never answers, as of a file server that is gone: FUSE, mounted in namespaces of the agent's own, so
/// that nobody else hangs.
#[test]
fn a_mount_that_hangs_delays_nothing_else() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let point = dir.path().join("dead");
    fs::create_dir(&point)?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let agent = Agent::configure(&dir.path().join("agent"), "real-1", collector.agents, "")?;
    let output = agent.enroll(&collector.enroll_token()?)?;
    anyhow::ensure!(output.status.success(), "{}", said(&output));
    let script = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead \"$1\" || exit 77; \
                  exec \"$2\" run --config \"$3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"]);
    command.arg(&point).arg(path("pitwatch-agent")?).arg(agent.dir.join("agent.toml"));
    let mut process = Process::start(&mut command, &agent.dir.join("agent.log"))?;
    std::thread::sleep(Duration::from_secs(1));
    if !process.runs() {
        eprintln!("no FUSE or no namespaces for this user: not tried: {}", process.log());
        return Ok(());
    }
    let api = collector.api()?;
    let error = format!(
        "node_filesystem_device_error{{instance=\"real-1\",mountpoint={:?}}} == 1",
        point.display().to_string()
    );
    api.wait_for(&error, Duration::from_secs(60), |rows| rows.len() == 1)?;
    let from_ms = wait_for_tick(&api, "real-1", 0, Duration::from_secs(10))?;
    wait_for_tick(&api, "real-1", from_ms + 3_000, Duration::from_secs(20))?;
    // The whole time, the moments when the mount was asked among them.
    assert_whole(&api, "real-1", 3_000)?;
    for metric in ["node_filesystem_avail_bytes", "pitwatch_processes", "node_network_up"] {
        api.wait_for(&format!("{metric}{{instance=\"real-1\"}}"), Duration::from_secs(30), |rows| !rows.is_empty())?;
    }
    Ok(())
}

/// A network namespace of the test's own.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[test]
fn an_interface_that_goes_down_and_sockets_that_open_are_seen() -> anyhow::Result<()> {
    let name = format!("pitwatch-{}-host", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &name]).output()?;
    if !made.status.success() {
        eprintln!("no network namespaces for this user: not tried: {}", said(&made));
        return Ok(());
    }
    let namespace = Namespace(name);
    let name = &*namespace.0;
    run("ip", &["-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other"])?;
    let agent = path("pitwatch-agent")?;
    let once = || series(&Command::new("ip").args(["netns", "exec", name]).arg(&agent).arg("once").output()?);
    let mark = "device=\"one\"";
    anyhow::ensure!(value(&once()?, "node_network_up", mark)? == 0.0);
    for device in ["one", "other"] {
        run("ip", &["-n", name, "link", "set", device, "up"])?;
    }
    let up = once()?;
    anyhow::ensure!(value(&up, "node_network_up", mark)? == 1.0);
    anyhow::ensure!(value(&up, "node_network_carrier", mark)? == 1.0);
    run("ip", &["-n", name, "link", "set", "other", "down"])?;
    let down = once()?;
    anyhow::ensure!(value(&down, "node_network_carrier", mark)? == 0.0);
    let changes = |of| value(of, "node_network_carrier_changes_total", mark);
    anyhow::ensure!(changes(&down)? > changes(&up)?);
    // The sockets of the namespace, not of the host.
    let listening = |of| value(of, "node_tcp_connection_states", "state=\"listen\"");
    anyhow::ensure!(listening(&down)? == 0.0);
    Ok(())
}

#[test]
fn without_root_the_vitals_are_there_and_the_doctor_says_what_is_not() -> anyhow::Result<()> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        eprintln!("not root: what root may see cannot be compared");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let agent = dir.path().join("pitwatch-agent");
    fs::copy(path("pitwatch-agent")?, &agent)?;
    for path in [dir.path(), &agent] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let as_nobody_runs = |capabilities: &str, program: &Path, argument: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"]);
        setpriv.arg(format!("--inh-caps={capabilities}")).arg(format!("--ambient-caps={capabilities}"));
        setpriv.arg(program).arg(argument).output()
    };
    let as_nobody = |capabilities: &str, command: &str| as_nobody_runs(capabilities, &agent, command);
    let plain = series(&as_nobody("-all", "once")?)?;
    for metric in ["node_load1", "node_memory_MemFree_bytes", "node_timex_sync_status", "pitwatch_processes"] {
        anyhow::ensure!(plain.contains_key(&format!("{metric}{{job=\"node\"}}")), "no {metric}");
    }
    anyhow::ensure!(plain.keys().any(|series| series.starts_with("node_tcp_connection_states{")));
    anyhow::ensure!(plain.keys().any(|series| series.starts_with("node_filesystem_avail_bytes{")));

    let refused = as_nobody("-all", "doctor")?;
    let text = said(&refused);
    anyhow::ensure!(refused.status.code() == Some(1), "{text}");
    anyhow::ensure!(text.contains("missing  other users' processes: IO") && text.contains("CAP_SYS_PTRACE"), "{text}");
    let capabilities = "+sys_ptrace,+dac_read_search,+syslog";
    let allowed = as_nobody(capabilities, "doctor")?;
    let text = said(&allowed);
    // In some sandboxes nobody but its owner may read process 1, whatever his capabilities: then it must be said.
    let may_read = as_nobody_runs(capabilities, Path::new("cat"), "/proc/1/io")?.status.success();
    anyhow::ensure!(text.contains("good     other users' processes: IO") == may_read, "{text}");
    anyhow::ensure!(text.contains("good     filesystems of the whole host"), "{text}");
    Ok(())
}
