//! Prometheus' own programs, from Debian's package `prometheus`, against the API.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;

fn promtool(args: &[&str]) -> Output {
    Command::new("promtool").args(args).output().expect("promtool is in Debian's package prometheus")
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn promtool_queries_and_lists() {
    let server = Server::start();
    // This release takes a token only as the password in the address.
    let url = format!("http://any:{}@{}", server.viewer, server.address);
    let time = (server.end_ms / 1000).to_string();
    let instant = promtool(&["query", "instant", "--time", &time, &url, "sum by (instance) (node_load1)"]);
    assert_lines(
        &said(&instant),
        &[&format!("{{instance=\"db-1\"}} => 0.25 @[{time}]"), &format!("{{instance=\"web-1\"}} => 0.5 @[{time}]")],
    );

    let bearer = format!("Authorization=Bearer {}", server.viewer);
    let start = (server.end_ms / 1000 - 10).to_string();
    let plain = server.url("");
    let range = [
        "query",
        "range",
        "--header",
        &bearer,
        "--start",
        &start,
        "--end",
        &time,
        "--step",
        "5s",
        &plain,
        "node_load1",
    ];
    assert!(said(&promtool(&range)).contains(&format!("0.5 @[{time}]")));
    let series = promtool(&["query", "series", "--match", "node_load1", &url]);
    assert!(said(&series).contains("instance=\"web-1\""));
    let labels = promtool(&["query", "labels", &url, "instance"]);
    assert_lines(&said(&labels), &["db-1", "web-1"]);

    let of_one = promtool(&["query", "labels", "--match", "node_load1{note!=\"\"}", "--start", &start, &url, "note"]);
    assert_lines(&said(&of_one), &["a\"b\\c<d>"]);
    let scalar = promtool(&["query", "instant", "--time", &time, &url, "1 + 1"]);
    assert!(said(&scalar).starts_with(&format!("scalar: 2 @[{time}]")), "{}", said(&scalar));
    let json = promtool(&["query", "-o", "json", "instant", "--time", &time, &url, "node_load1{instance=\"db-1\"}"]);
    let json: serde_json::Value = serde_json::from_str(&said(&json)).unwrap();
    assert_eq!(json[0]["value"][1], "0.25");
    let window = promtool(&["query", "instant", "--time", &time, &url, "node_load1{instance=\"db-1\"}[2s]"]);
    assert_eq!(said(&window).matches("0.25 @[").count(), 2);
    let wrong = promtool(&["query", "instant", &url, "sum("]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("1:5: parse error"));

    let refused = promtool(&["query", "instant", &plain, "1"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a token is needed"));
}

#[test]
fn federation_is_in_the_text_format() {
    let server = Server::start();
    let answer = server.get("/federate?match[]=node_load1&match[]=%7B__name__%3D~%22node_load1%7Cnode_cpu.*%22%7D");
    assert_eq!((answer.status, &*answer.kind), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let lines: Vec<&str> = answer.body.lines().collect();
    let end = server.end_ms;
    assert_eq!(lines.len(), 8, "{}", answer.body);
    assert_eq!(lines[0], "# TYPE node_cpu_seconds_total counter");
    assert!(lines[1].starts_with("node_cpu_seconds_total{cpu=\"0\",instance=\"db-1\",mode=\"idle\"} "), "{}", lines[1]);
    assert_eq!(lines[5], "# TYPE node_load1 gauge");
    assert_eq!(lines[6], format!("node_load1{{instance=\"db-1\",note=\"a\\\"b\\\\c<d>\"}} 0.25 {end}"));
    assert_eq!(server.get("/federate").body, "", "nothing is asked for");
    assert_eq!(server.get("/federate?match[]=rate(x[1m])").error().0, 400);
    let checked = promtool_check(&answer.body);
    assert!(checked.is_empty(), "{checked}");
}

/// What `promtool check metrics` finds wrong, its advice on names aside.
fn promtool_check(text: &str) -> String {
    use std::io::Write as _;
    let mut check = Command::new("promtool");
    let mut check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    let lines = String::from_utf8_lossy(&said.stderr).into_owned();
    lines.lines().filter(|line| !line.contains("no help text")).collect()
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_prometheus_federates() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "scrape_configs:\n- job_name: pitwatch\n  scrape_interval: 1s\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{ 'match[]': ['node_load1'] }}\n  authorization: {{ credentials: '{}' }}\n  static_configs:\n  \
         - targets: ['{}']\n",
        server.viewer, server.address
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _prometheus = Running(prometheus);
    let url = format!("http://127.0.0.1:{port}");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = promtool(&["query", "instant", &url, "sum by (instance) (node_load1)"]);
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        if text.contains("{instance=\"db-1\"} => 0.25") && text.contains("{instance=\"web-1\"} => 0.5") {
            return;
        }
        assert!(Instant::now() < until, "{text}{}", String::from_utf8_lossy(&seen.stderr));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The lines, in any order.
fn assert_lines(text: &str, expected: &[&str]) {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}
