//! Schemathesis over the whole API of a real collector with a real agent: whatever the description allows, and what it
//! does not, is answered as the description says, and never with a fault of the collector.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pitwatch_tests::programs::{Agent, Collector};

use crate::support::said;

/// How long it may try.
const SECONDS: &str = "75";
/// The same requests in each run.
const SEED: &str = "4717";
/// A rule that records and one that fires, so that lists are not empty.
const RULES: &str = "groups:
  - name: some
    interval: 1s
    rules:
      - record: instance:load1
        expr: node_load1
      - alert: Always
        expr: node_load1 >= 0
        annotations: { summary: '{{ $labels.instance }} has a load' }
";

/// Where `make schemathesis` put it.
fn schemathesis() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schemathesis/bin/schemathesis");
    assert!(program.is_file(), "{} is not there: run `make schemathesis` first", program.display());
    program
}

#[test]
fn the_api_is_as_it_is_described() {
    let program = schemathesis();
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(&temp.path().join("collector"), "", RULES).unwrap();
    let _agent = Agent::start(&temp.path().join("agent"), "seen-1", &collector, "").unwrap();
    let api = collector.api().unwrap();
    api.wait_for("ALERTS{alertstate=\"firing\"}", Duration::from_secs(30), |rows| !rows.is_empty()).unwrap();
    let (status, document) = api.get_text("/api/v1/openapi.json", &[]).unwrap();
    assert_eq!(status, 200);
    let file = temp.path().join("openapi.json");
    std::fs::write(&file, document).unwrap();

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(program);
    command.arg("--config-file").arg(here.join("schemathesis.toml"));
    command.arg("run").arg(&file).args(["--url", &format!("http://{}", collector.http)]);
    command.args(["--header", &format!("Authorization: Bearer {}", collector.token().unwrap())]);
    command.args([
        "--seed",
        SEED,
        "--max-time",
        SECONDS,
        "--request-timeout",
        "20",
        "--continue-on-failure",
        "--no-color",
    ]);
    command.env("SCHEMATHESIS_HOOKS", here.join("schemathesis.py")).current_dir(temp.path());
    let output = command.output().unwrap();
    let text = said(&output);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    // The connection of before has been idle for too long.
    assert_eq!(collector.api().unwrap().get("/-/ready", &[]).unwrap().0, 200);
}
