//! Prometheus' own client, from Debian's package `prometheus`, against the API.

use std::process::{Command, Output};

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

    let refused = promtool(&["query", "instant", &plain, "1"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a token is needed"));
}

/// The lines, in any order.
fn assert_lines(text: &str, expected: &[&str]) {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}
