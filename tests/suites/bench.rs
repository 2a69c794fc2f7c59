//! Each benchmark of `tests/bench.sh`, tiny, so that none can rot; its figures mean nothing here.

use std::process::Command;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("a benchmark starts");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}\n{text}\n{errors}");
    text.into_owned()
}

/// The cells of the first row that begins with `first`.
fn row(text: &str, first: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.starts_with(&format!("| {first} |")));
    let line = line.unwrap_or_else(|| panic!("no row {first:?} in\n{text}"));
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn number(cell: &str) -> f64 {
    cell.parse().unwrap_or_else(|_| panic!("no number: {cell:?}"))
}

#[test]
fn a_small_fleet_joins_is_measured_and_comes_back() {
    let arguments = ["--agents", "20", "--series", "20", "--seconds", "5", "--settle", "1", "--rules", "10"];
    let text = run(env!("CARGO_BIN_EXE_pitwatch-fleet"), &arguments);
    let steady = row(&text, "20");
    assert_eq!(steady[1], "21");
    assert!(number(&steady[2]) > 0.0, "{text}");
    assert!(steady[8].split('/').all(|lag| number(lag) >= 0.0), "{text}");
    assert_eq!(steady[13], "0", "frames were dropped:\n{text}");
    assert!(text.contains("| 20 | planned restart |") && text.contains("| 20 | kill -9 |"), "{text}");
}

#[test]
fn a_few_breaches_reach_the_webhook() {
    let text = run(env!("CARGO_BIN_EXE_pitwatch-latency"), &["--breaches", "6", "--agents", "6", "--series", "10"]);
    let breach = row(&text, "breach → webhook");
    assert_eq!(breach[1], "6");
    assert!(number(&breach[2]) > 0.0, "{text}");
}

#[test]
fn a_real_agent_is_measured() {
    let text = run(env!("CARGO_BIN_EXE_pitwatch-wire"), &["--seconds", "5"]);
    assert!(number(&row(&text, "wire, UDP payload both ways, B/sample")[1]) > 0.0, "{text}");
    assert!(number(&row(&text, "agent RSS, MiB")[1]) > 0.0, "{text}");
}

/// A recording of a made-up host.
fn recording(path: &std::path::Path) {
    let mut text = String::new();
    for nth in 0..60 {
        text += &format!("# T {}\n", 1_700_000_000_000_i64 + nth * 1000);
        for (name, value) in [("node_load1", nth % 7), ("node_context_switches_total", nth * 31)] {
            text += &format!("{name} {value}\n");
        }
        for mode in ["idle", "user"] {
            text += &format!("node_cpu_seconds_total{{cpu=\"0\",mode=\"{mode}\"}} {}\n", nth as f64 / 2.0);
        }
    }
    let packed = zstd::encode_all(text.as_bytes(), 1).expect("it packs");
    std::fs::write(path, packed).expect("it is written");
}

#[test]
fn the_peers_are_fed_and_asked_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (replay, queries) = (dir.path().join("replay.zst"), dir.path().join("queries.tsv"));
    recording(&replay);
    std::fs::write(&queries, "busy\trange\tsum by (mode) (rate(node_cpu_seconds_total[30s]))\n").unwrap();
    let (replay, queries) = (replay.display().to_string(), queries.display().to_string());
    let small =
        ["--hosts", "2", "--seconds", "130", "--query-hosts", "2", "--query-seconds", "130", "--query-range", "60"];
    let mut arguments = vec!["--replay", &*replay, "--queries", &*queries, "--parts", "store,queries"];
    arguments.extend(small);
    let text = run(env!("CARGO_BIN_EXE_pitwatch-peers"), &arguments);
    let disk = row(&text, "blocks (VM: data), bytes a sample");
    assert!(disk[1..4].iter().all(|cell| number(cell) > 0.0), "{text}");
    let differ = row(&text, "answers that differ from ours");
    assert_eq!(number(&differ[3]), 0.0, "Prometheus answers otherwise:\n{text}");
}
