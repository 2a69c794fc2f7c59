//! Events of a real agent: told once, whatever is killed, and listed by the API, the command line and PromQL.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::Process;
use serde_json::Value;

use crate::support::{pair, said, wait_for};

/// What the last boot left: this boot is another one.
fn another_boot(agent: &Path, id: &str, log_seen: &str) -> anyhow::Result<()> {
    Ok(fs::write(agent.join("data/boot"), format!("{id} 1700000000000 running {log_seen}\n"))?)
}

fn events(api: &Api, parameters: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    let (status, body) = api.get("/api/v1/pitwatch/events", parameters)?;
    anyhow::ensure!(status == 200, "HTTP {status}: {body}");
    Ok(body["data"]["events"].as_array().cloned().unwrap_or_default())
}

/// The ids of the restarts that are known, the newest first.
fn reboots(api: &Api) -> Vec<String> {
    let found = events(api, &[("kind", "reboot"), ("host", "real-1")]).unwrap_or_default();
    found.iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_event_is_told_once_over_kills_of_both_sides() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, mut agent) = pair(dir.path(), "real-1", "")?;
    assert_eq!(reboots(&collector.api()?), [""; 0], "a first start is no restart of the host");
    let limit = Duration::from_secs(20);

    agent.process().kill();
    another_boot(&agent.dir, "earlier-1", "0")?;
    agent.restart()?;
    wait_for("the first event", limit, || (reboots(&collector.api().ok()?).len() == 1).then_some(()))?;
    // What is seen is durable only with the next commit, milliseconds later.
    std::thread::sleep(Duration::from_secs(1));
    collector.process().kill();

    // While the collector is away the agent is killed twice, with an event each time.
    for boot in ["earlier-2", "earlier-3"] {
        agent.process().kill();
        another_boot(&agent.dir, boot, "99999999")?;
        agent.restart()?;
        wait_for("an event in the agent's log", limit, || {
            agent.process().log().contains("the host was restarted without a stop").then_some(())
        })?;
        std::thread::sleep(Duration::from_millis(300));
    }
    agent.process().kill();
    collector.restart()?;
    assert_eq!(reboots(&collector.api()?).len(), 1, "what was acknowledged before the kill is there");
    agent.restart()?;
    let ids = wait_for("all events", limit, || Some(reboots(&collector.api().ok()?)).filter(|ids| ids.len() == 3))?;
    collector.process().kill();
    collector.restart()?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(reboots(&collector.api()?), ids, "the same events, each once");
    assert_eq!(crate::support::figure(&collector.api()?, "pitwatch_collector_agent_lost_events_total")?, 0.0);

    let output = collector.cli(&["events", "--kind", "reboot", "--since", "365d"])?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("3 events"), "{}", said(&output));
    let output = collector.cli(&["events", "--since", "soon"])?;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    Ok(())
}

#[test]
fn events_can_be_used_in_rules() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (collector, mut agent) = pair(dir.path(), "real-1", "")?;
    assert!(agent.process().stop()?);
    another_boot(&agent.dir, "earlier", "99999999")?;
    agent.restart()?;
    let api = collector.api()?;
    let expr = "increase(pitwatch_events_total{instance=\"real-1\",kind=\"reboot\",severity=\"warning\"}[1m]) > 0";
    api.wait_for(expr, Duration::from_secs(60), |rows| rows.len() == 1)?;
    let kinds = api.query("count(pitwatch_events_total{instance=\"real-1\"})")?;
    assert_eq!(kinds[0].1, 14.0, "every kind is there from the start");
    Ok(())
}

#[test]
fn a_watched_process_that_is_killed_is_told() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("victim.pid");
    let start = || -> anyhow::Result<Process> {
        let victim = Process::start(std::process::Command::new("sleep").arg("300"), &dir.path().join("victim.log"))?;
        fs::write(&file, format!("{}\n", victim.id()))?;
        Ok(victim)
    };
    let mut victim = start()?;
    let config = format!("[signals]\nprocess_cadence = \"1s\"\n[watch.victim]\npid_file = {file:?}\n");
    let (collector, _agent) = pair(dir.path(), "real-1", &config)?;
    let api = collector.api()?;
    let limit = Duration::from_secs(30);
    api.wait_for("pitwatch_watch_up{watch=\"victim\"} == 1", limit, |rows| rows.len() == 1)?;
    victim.kill();
    api.wait_for("pitwatch_watch_up{watch=\"victim\"} == 0", limit, |rows| rows.len() == 1)?;
    let told = |kinds: &[&str]| {
        let all: Vec<Value> =
            kinds.iter().flat_map(|kind| events(&api, &[("kind", kind)]).unwrap_or_default()).collect();
        all.iter().any(|event| event["labels"]["watch"] == "victim").then_some(())
    };
    // How it ended is known to others than its parent only on newer kernels.
    wait_for("the event of its end", limit, || told(&["process_stopped", "process_crashed"]))?;
    let _again = start()?;
    api.wait_for("pitwatch_watch_restarts_total{watch=\"victim\"} == 1", limit, |rows| rows.len() == 1)?;
    wait_for("the event of its start", limit, || told(&["process_started"]))?;
    Ok(())
}

/// A process that takes more than its control group may is killed by the kernel: told with its name and its group, counted by
/// the kernel and by its service. Needs root and a memory controller, of version 2 or 1.
#[test]
fn a_process_killed_for_want_of_memory_is_told() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(group) = MemoryGroup::new()? else {
        eprintln!("skipped: no control group with a limit of memory can be made here");
        return Ok(());
    };
    let (file, go, script) = (dir.path().join("hungry.pid"), dir.path().join("go"), dir.path().join("hungry.sh"));
    let config =
        format!("[signals]\nprocess_cadence = \"1s\"\nservice_cadence = \"1s\"\n[watch.hungry]\npid_file = {file:?}\n");
    let (collector, _agent) = pair(dir.path(), "real-1", &config)?;
    let api = collector.api()?;
    let limit = Duration::from_secs(30);
    // It waits in its group until the agent has seen it, and then takes all the memory that there is. Its parent sees it off.
    let steps = format!(
        "echo $$ > {}\necho $$ > {}/cgroup.procs\nuntil [ -e {} ]; do sleep 0.1; done\nexec tail /dev/zero\n",
        file.display(),
        group.dir,
        go.display()
    );
    fs::write(&script, steps)?;
    let parent = format!("sh {}; sleep 300", script.display());
    let _parent =
        Process::start(std::process::Command::new("sh").args(["-c", &parent]), &dir.path().join("hungry.log"))?;
    api.wait_for("pitwatch_watch_up{watch=\"hungry\"} == 1", limit, |rows| rows.len() == 1)?;
    let before = api.query("node_vmstat_oom_kill")?[0].1;
    if group.is_version_2 {
        api.wait_for(&format!("{} == 0", group.kills()), limit, |rows| rows.len() == 1)?;
    }
    fs::write(&go, "")?;
    api.wait_for(&format!("node_vmstat_oom_kill > {before}"), limit, |rows| rows.len() == 1)?;
    let pid = fs::read_to_string(&file)?;
    let event = wait_for("the event of the kernel's log", limit, || {
        let found = events(&api, &[("kind", "oom_kill")]).ok()?;
        found.into_iter().find(|event| event["labels"]["pid"].as_str() == Some(pid.trim()))
    })?;
    assert_eq!((event["severity"].as_str(), event["labels"]["name"].as_str()), (Some("critical"), Some("tail")));
    assert_eq!(event["labels"]["scope"], "cgroup");
    assert!(event["labels"]["cgroup"].as_str().is_some_and(|of| group.dir.ends_with(of)), "{event}");
    wait_for("the event of the watch", limit, || {
        let found = events(&api, &[("kind", "process_oom_killed")]).ok()?;
        found.iter().any(|event| event["labels"]["watch"] == "hungry").then_some(())
    })?;
    let told = "increase(pitwatch_events_total{kind=\"oom_kill\"}[1m]) > 0";
    api.wait_for(told, limit, |rows| rows.len() == 1)?;
    if group.is_version_2 {
        api.wait_for(&format!("{} == 1", group.kills()), limit, |rows| rows.len() == 1)?;
    } else {
        eprintln!("skipped: pitwatch_unit_oom_kills_total, as the memory controller of this host is of version 1");
    }
    Ok(())
}

/// A service's control group with a limit of memory.
struct MemoryGroup {
    dir: String,
    is_version_2: bool,
}

impl MemoryGroup {
    const LIMIT_BYTES: &str = "33554432";

    fn new() -> anyhow::Result<Option<Self>> {
        let name = format!("pitwatch-test-{}.service", std::process::id());
        for (root, is_version_2) in [("/sys/fs/cgroup", true), ("/sys/fs/cgroup/memory", false)] {
            let controllers = fs::read_to_string(format!("{root}/cgroup.subtree_control")).unwrap_or_default();
            if is_version_2 && !controllers.split_whitespace().any(|name| name == "memory") {
                continue;
            }
            let dir = format!("{root}/{name}");
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = Self { dir, is_version_2 };
            let limit = if is_version_2 { "memory.max" } else { "memory.limit_in_bytes" };
            if fs::write(format!("{}/{limit}", group.dir), Self::LIMIT_BYTES).is_ok() {
                // Where there is swap, the limit is not to be got round by it.
                let _ = fs::write(format!("{}/memory.swap.max", group.dir), "0");
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    fn kills(&self) -> String {
        let name = self.dir.rsplit('/').next().unwrap_or_default();
        format!("pitwatch_unit_oom_kills_total{{unit=\"{name}\"}}")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A filesystem on a loop device that is mounted anew as read-only, as the kernel does after an error. Needs root.
#[test]
fn a_filesystem_that_turns_read_only_is_told() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(mount) = Mount::new(dir.path())? else {
        eprintln!("skipped: no loop device can be mounted here");
        return Ok(());
    };
    let (collector, _agent) = pair(dir.path(), "real-1", "")?;
    std::thread::sleep(Duration::from_secs(2));
    run("mount", &["-o", "remount,ro", &mount.0])?;
    let api = collector.api()?;
    let event = wait_for("the event", Duration::from_secs(30), || {
        events(&api, &[("kind", "filesystem_readonly")])
            .ok()?
            .into_iter()
            .find(|event| event["labels"]["mountpoint"].as_str() == Some(&mount.0))
    })?;
    assert_eq!((event["severity"].as_str(), event["labels"]["fstype"].as_str()), (Some("critical"), Some("ext4")));
    Ok(())
}

struct Mount(String);

impl Mount {
    fn new(dir: &Path) -> anyhow::Result<Option<Self>> {
        let (image, at) = (dir.join("image"), dir.join("mnt"));
        fs::File::create(&image)?.set_len(8 * 1024 * 1024)?;
        fs::create_dir(&at)?;
        let (image, at) = (image.display().to_string(), at.display().to_string());
        let made = run("mkfs.ext4", &["-q", "-F", &image]).and_then(|()| run("mount", &["-o", "loop", &image, &at]));
        Ok(made.ok().map(|()| Self(at)))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.0]);
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = std::process::Command::new(program).args(arguments).output()?;
    anyhow::ensure!(output.status.success(), "{program}: {}", said(&output));
    Ok(())
}
