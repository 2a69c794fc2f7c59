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
