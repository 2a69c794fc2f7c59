//! The program against a real collector's API: it finds it, asks it, reads every answer, and ends with the right status.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy.toml knows only functions marked #[test]"
)]
#![allow(dead_code, reason = "the server is the API's own test server, of which not all is used here")]

#[path = "../../tests/api/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;

use server::Server;

/// What a run said, and its exit status.
struct Said {
    out: String,
    err: String,
    status: i32,
}

/// A server and the directory in which it left its address and token.
struct Here {
    server: Server,
    dir: tempfile::TempDir,
}

impl Here {
    fn start() -> Self {
        let server = Server::start();
        let dir = tempfile::tempdir().unwrap();
        server.access.write_local_file(dir.path(), &server.url(""), None).unwrap();
        Self { server, dir }
    }

    fn run(&self, args: &[&str]) -> Said {
        run(self.dir.path(), args)
    }

    /// Runs, expects the status, and returns what was said.
    fn says(&self, status: i32, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.status, status, "{args:?}: {}{}", said.out, said.err);
        said.out
    }
}

fn run(dir: &Path, args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_pitwatch"))
        .args(args)
        .env("PITWATCH_COLLECTOR_DIR", dir)
        .env_remove("PITWATCH_COLLECTOR")
        .env_remove("PITWATCH_TOKEN")
        .env("COLUMNS", "70")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    Said {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        status: output.status.code().unwrap(),
    }
}

#[test]
fn queries_are_answered_in_every_format() {
    let here = Here::start();
    let time = (here.server.end_ms / 1000).to_string();
    let rate = "sum by (instance) (rate(node_network_receive_bytes_total[1m]))";
    let ask = |rest: &[&str]| here.says(0, &[&["query", rate, "--time", &time], rest].concat());
    insta::assert_snapshot!(ask(&[]), @"
    INSTANCE   VALUE
    db-1      1 MB/s
    web-1     2 MB/s
    2 series
    ");
    let csv = format!("instance,timestamp,value\ndb-1,{time},1000000\nweb-1,{time},2000000\n");
    assert_eq!(ask(&["-o", "csv"]), csv);
    let json: serde_json::Value = serde_json::from_str(&ask(&["-o", "json"])).unwrap();
    assert_eq!(json["data"]["result"][1]["value"][1], "2000000");
    let plot = ask(&["-o", "plot", "--range", "30s"]);
    assert!(plot.contains("2 MB/s ┤") && plot.contains("a db-1  last 1 MB/s"), "{plot}");
    assert!(!plot.contains('\u{1b}'), "no colour where there is no terminal");
    let range = ask(&["--range", "20s", "--step", "5s"]);
    assert!(range.starts_with("INSTANCE     MIN    MEAN     MAX    LAST  TREND\n"), "{range}");
    assert_eq!(
        here.says(0, &["query", "node_memory_MemTotal_bytes{instance=\"db-1\"}", "-o", "table"]).lines().count(),
        3
    );
}

#[test]
fn a_query_is_explained() {
    let here = Here::start();
    let time = (here.server.end_ms / 1000).to_string();
    let said = here.run(&["query", "rate(node_cpu_seconds_total[10s])", "--time", &time, "--explain", "-o", "csv"]);
    assert_eq!((said.status, said.out.lines().count()), (0, 5), "{}", said.err);
    assert!(said.err.starts_with("touched   4 series, 40 samples; "), "{}", said.err);
    for stage in ["parse", "wait", "select", "read", "evaluate", "write", "total"] {
        assert!(said.err.lines().any(|line| line.starts_with(stage) && line.ends_with(" ms")), "{stage}: {}", said.err);
    }
}

#[test]
fn lists_are_read_and_judged() {
    let here = Here::start();
    let hosts = here.says(1, &["hosts"]);
    insta::assert_snapshot!(hosts.lines().last().unwrap(), @"3 hosts: 1 well, 1 alerting, 1 silent");
    assert!(hosts.lines().nth(1).unwrap().starts_with("web-1  game  ✖ alerting  50%  75%  75% /  2.5 MB/s"), "{hosts}");
    assert!(here.says(1, &["alerts"]).contains("receiver chat: 1 waiting, nothing delivered yet: HTTP 500"));
    assert!(here.says(1, &["rules"]).contains("job:load in /etc/pitwatch/rules/node.yml: many-to-many"));
    assert!(here.says(1, &["agents", "list"]).contains("4 agents: 2 connected, 1 away, 1 revoked"));
    let status = here.says(1, &["status"]);
    assert!(status.contains("✔ ready") && status.contains("1 KiB"), "{status}");
    for list in [&["hosts"][..], &["alerts"], &["rules"], &["agents", "list"], &["token", "list"], &["status"]] {
        let csv = here.run(&[list, &["-o", "csv"]].concat());
        assert!(csv.out.lines().count() > 1 && csv.err.is_empty(), "{list:?}: {}{}", csv.out, csv.err);
        let json = here.run(&[list, &["-o", "json"]].concat()).out;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["status"], "success", "{list:?}");
    }
}

#[test]
fn a_host_has_a_page() {
    let here = Here::start();
    let page = here.says(1, &["host", "web-1"]);
    assert!(page.starts_with("web-1   ✖ alerting for "), "{page}");
    for part in ["role=game", "agent 0.1.0 connected", "CPU ", "50%", "network in", "2 MB/s", "FILESYSTEMS", "ext4"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(here.run(&["host", "db-1"]).status, 0);
    let json: serde_json::Value = serde_json::from_str(&here.says(1, &["host", "web-1", "-o", "json"])).unwrap();
    assert_eq!((&json["host"]["name"], &json["filesystems"][0]["mountpoint"]), (&"web-1".into(), &"/".into()));
    let typo = here.run(&["host", "web1"]);
    assert_eq!(typo.status, 2);
    assert!(typo.err.starts_with("error: there is no host \"web1\"\n  did you mean?   web-1\n"), "{}", typo.err);
    assert!(here.run(&["host", "web-1", "--time", "soon"]).err.contains("write now, -5m"));
}

#[test]
fn the_fleet_is_written_once_where_there_is_no_terminal() {
    let here = Here::start();
    let top = here.says(1, &["top"]);
    assert!(top.starts_with("  HOST      STATE"), "{top}");
    assert!(top.lines().nth(1).unwrap().starts_with("  web-1     ✖ alerting  "), "{top}");
    assert!(top.ends_with("3 hosts: 1 well, 1 alerting, 1 silent\n") && !top.contains('\u{1b}'), "{top}");
    let one = here.says(1, &["top", "--filter", "DB"]);
    assert_eq!(one.lines().count(), 3, "{one}");
    assert_eq!(here.run(&["top", "--every", "1ms"]).status, 2);
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let here = Here::start();
    let found = here.says(1, &["doctor"]);
    for part in [
        "✖ history: lost at the start: /x.blk: the footer is damaged",
        "✖ agent web-1: 12 series refused, too many",
        "✖ rule job:load: cannot be evaluated: many-to-many",
        "✖ receiver chat: 1 notification is waiting, nothing was ever delivered: HTTP 500",
        "✖ agent old-1: away",
        "looked at the collector 0.1.0, 4 agents, 2 rules, 1 receiver",
    ] {
        assert!(found.contains(part), "{part} in {found}");
    }
    assert!(!found.contains("gone-1"), "a revoked agent is nobody's trouble: {found}");
    assert_eq!(here.says(0, &["doctor", "--agent", "db-1"]), "✔ nothing is wrong with agent db-1\n");
    assert_eq!(here.run(&["doctor", "--agent", "db1"]).status, 2);
    let json: serde_json::Value = serde_json::from_str(&here.says(1, &["doctor", "-o", "json"])).unwrap();
    assert_eq!(json["findings"][0]["level"], "wrong");
}

#[test]
fn completions_and_manual_pages_need_no_collector() {
    let nowhere = tempfile::tempdir().unwrap();
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef pitwatch"), ("fish", "complete -c pitwatch")] {
        let said = run(nowhere.path(), &["completions", shell]);
        assert!(said.status == 0 && said.out.contains(part) && said.out.contains("doctor"), "{shell}: {}", said.err);
    }
    let dir = nowhere.path().join("man");
    assert_eq!(run(nowhere.path(), &["man", dir.to_str().unwrap()]).status, 0);
    for page in ["pitwatch.1", "pitwatch-host.1", "pitwatch-token-create.1"] {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".TH pitwatch"), "{page}");
    }
}

#[test]
fn tokens_are_made_used_and_taken_back() {
    let here = Here::start();
    let enroll = here.says(0, &["token", "create", "--name", "db-2", "--ttl", "2m"]);
    let line =
        "sudo pitwatch-agent enroll --collector watch.example:4717 --name db-2 --token pwe1_for_db-2_by_local_120";
    assert!(enroll.contains(line), "{enroll}");
    let api = here.says(0, &["token", "create", "--role", "viewer", "--for", "ann's laptop"]);
    let token =
        api.lines().find_map(|line| line.trim().strip_prefix("pwa1_")).map(|rest| format!("pwa1_{rest}")).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    let url = here.server.url("");
    let as_viewer = |args: &[&str]| run(elsewhere.path(), &[args, &["--collector", &url, "--token", &token]].concat());
    assert_eq!(as_viewer(&["query", "1"]).status, 0);
    let refused = as_viewer(&["agents", "revoke", "db-1"]);
    assert_eq!(refused.status, 3);
    assert!(refused.err.contains("the role admin is needed, this token has the role viewer"), "{}", refused.err);

    let listed = here.says(0, &["token", "list", "-o", "csv"]);
    let id = listed.lines().find(|line| line.contains("ann's laptop")).unwrap().split(',').nth(1).unwrap().to_owned();
    assert!(here.says(0, &["token", "revoke", &id]).contains("ann's laptop"));
    assert_eq!(as_viewer(&["query", "1"]).status, 3);
    assert!(here.says(0, &["agents", "revoke", "db-1"]).starts_with("revoked db-1"));
    assert_eq!(*here.server.world.revoked.lock().unwrap(), [("db-1".to_owned(), "local".to_owned())]);
}

#[test]
fn errors_say_what_to_do_and_have_their_status() {
    let here = Here::start();
    let wrong = here.run(&["query", "sum("]);
    assert_eq!(wrong.status, 2);
    assert!(wrong.err.starts_with("error: invalid parameter \"query\": 1:5: parse error"), "{}", wrong.err);
    assert_eq!(here.run(&["query", "up", "--step", "5s"]).status, 2);
    let nonsense = here.run(&["hsots"]);
    assert_eq!(nonsense.status, 2);
    assert!(nonsense.err.contains("similar subcommands exist") && nonsense.err.contains("'hosts'"), "{}", nonsense.err);
    assert_eq!(here.run(&["agents", "revoke", "nobody"]).status, 2);
    assert!(here.says(0, &["--help"]).contains("Examples:"));

    let nowhere = tempfile::tempdir().unwrap();
    let lost = run(nowhere.path(), &["hosts"]);
    assert_eq!(lost.status, 3);
    assert!(lost.err.contains("no collector is known here"), "{}", lost.err);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let closed = run(nowhere.path(), &["hosts", "--collector", &port, "--token", "t"]);
    assert_eq!(closed.status, 3);
    let expected = format!(
        "error: cannot reach the collector at {port} (connection refused)\n  \
         is it running?   systemctl status pitwatch-collector\n  \
         elsewhere?       pitwatch --collector HOST:4718 … or PITWATCH_COLLECTOR\n"
    );
    assert_eq!(closed.err, expected);
}
