//! A full disk under the collector: acks stop, it says so everywhere, and it recovers by itself with nothing lost.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Agent, Collector};
use pitwatch_tests::webhook::{Webhook, is};

use crate::support::{FAST, assert_whole, figure, said, unix_ms, wait_for, wait_for_tick};

const RULES: &str = "groups:
  - name: test
    rules:
      - alert: DiskFull
        expr: pitwatch_collector_wal_stalled == 1
        for: 0s
      - alert: AgentSilent
        expr: pitwatch_agent_up == 0
        for: 0s
";

/// A small file system in memory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if this user may not mount.
    fn mount(dir: &Path, size: &str) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(dir)?;
        let options = format!("size={size},mode=0700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "pitwatch-test"]).arg(dir).output()?;
        Ok(mount.status.success().then(|| Self(dir.to_owned())))
    }

    /// Takes all the room there is.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills the disk, and again what the collector's other files give back (the state store shrinks as it commits), until
/// the log finds no room. Answers the file to be removed.
fn fill_until_stalled(disk: &SmallDisk, api: &Api) -> anyhow::Result<PathBuf> {
    wait_for("the log is stalled", Duration::from_secs(60), || {
        let filler = disk.fill().ok()?;
        (figure(api, "pitwatch_collector_wal_stalled").ok()? == 1.0).then_some(filler)
    })
}

#[test]
fn a_full_disk_stops_acks_says_so_and_loses_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("collector");
    let Some(disk) = SmallDisk::mount(&home.join("data"), "48m")? else {
        eprintln!("this user may not mount a file system: a full disk was not tested");
        return Ok(());
    };
    let hook = Webhook::start()?;
    let mut collector = Collector::start(&home, &hook.config(), RULES)?;
    let mut agent = Agent::start(&dir.path().join("agent"), "real-1", &collector, FAST)?;
    let api = collector.api()?;
    wait_for_tick(&api, "real-1", unix_ms() + 2_000, Duration::from_secs(20))?;

    let filler = fill_until_stalled(&disk, &api)?;
    const SAID: &str = "cannot write history, so nothing is acknowledged until it works again: ";
    let log = collector.process().log();
    assert!(log.contains(SAID) && log.contains("No space left on device"), "{log}");
    let status = collector.cli(&["status"])?;
    assert_eq!(status.status.code(), Some(1));
    assert!(
        said(&status).contains("✖ not ready: history cannot be written, nothing is acknowledged: "),
        "{}",
        said(&status)
    );
    assert!(said(&status).contains("No space left on device"), "{}", said(&status));
    // Alerts go on: that of the disk fires, and nobody says that the agents are gone, for it is not they.
    hook.wait_for("DiskFull", "firing", Duration::from_secs(20))?;
    let frames = || figure(&api, "pitwatch_collector_commits_total");
    let before = frames()?;
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(frames()?, before, "commits went on");
    assert!(figure(&api, "pitwatch_collector_commit_failures_total")? >= 2.0);
    assert!(collector.process().runs() && agent.process().runs());

    fs::remove_file(&filler)?;
    wait_for("it writes again", Duration::from_secs(20), || {
        (figure(&api, "pitwatch_collector_wal_stalled").ok()? == 0.0).then_some(())
    })?;
    wait_for_tick(&api, "real-1", unix_ms(), Duration::from_secs(20))?;
    assert!(collector.process().log().contains("the disk takes writes again; acknowledging what waited"));
    hook.wait_for("DiskFull", "resolved", Duration::from_secs(20))?;
    assert_eq!(collector.cli(&["status"])?.status.code(), Some(0));
    assert_whole(&api, "real-1", 1_000)?;
    let messages = hook.messages();
    assert!(!messages.iter().any(|message| is(message, "AgentSilent", "firing")), "{messages:?}");

    // Once more, and a kill in the middle of it: what was never acknowledged comes again from the agent. It starts
    // although there is no room, says so, and goes on when there is.
    let filler = fill_until_stalled(&disk, &api)?;
    std::thread::sleep(Duration::from_secs(2));
    collector.process().kill();
    let log = collector.dir.join("collector.log");
    let times = |said: &str| fs::read_to_string(&log).unwrap_or_default().matches(said).count();
    let before = times(SAID);
    std::thread::scope(|scope| {
        let freeing = scope.spawn(|| {
            let stalled = wait_for("it starts and is stalled", Duration::from_secs(20), || {
                // Opening the state store may give some room back.
                if times("collector ready") == 2 {
                    disk.fill().ok()?;
                }
                (times(SAID) > before).then_some(())
            });
            std::thread::sleep(Duration::from_secs(3));
            fs::remove_file(&filler)?;
            stalled
        });
        collector.restart()?;
        freeing.join().expect("the thread that makes room")
    })?;
    let log = collector.process().log();
    assert_eq!(log.matches("collector ready").count(), 2, "{log}");
    wait_for("the command line finds it again", Duration::from_secs(20), || {
        collector.cli(&["status"]).ok()?.status.success().then_some(())
    })?;
    let api = collector.api()?;
    wait_for_tick(&api, "real-1", unix_ms(), Duration::from_secs(30))?;
    assert_whole(&api, "real-1", 1_000)
}
