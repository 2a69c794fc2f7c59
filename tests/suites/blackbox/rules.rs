//! Rule files: taken anew when they change, all or none; previews over real history; unit tests from the command line.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::Collector;
use serde_json::Value;

use crate::support::{Level, said, wait_for};

const SOON: Duration = Duration::from_secs(20);
const ONE: &str = "groups:
  - name: test
    rules:
      - alert: LevelHigh
        expr: test_level > 5
";

fn names(api: &Api) -> Vec<String> {
    let Ok((_, body)) = api.get("/api/v1/rules", &[]) else { return Vec::new() };
    let groups = body["data"]["groups"].as_array().cloned().unwrap_or_default();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    rules.filter_map(|rule| rule["name"].as_str().map(str::to_owned)).collect()
}

fn wait_for_names(api: &Api, expected: &[&str]) -> anyhow::Result<()> {
    wait_for(&format!("the rules {expected:?}"), SOON, || (names(api) == expected).then_some(()))
}

#[test]
fn rule_files_are_taken_anew_all_or_none() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut collector = Collector::start(&dir.path().join("collector"), "", ONE)?;
    let api = collector.api()?;
    let rules = dir.path().join("collector/rules");
    assert_eq!(names(&api), ["LevelHigh"]);

    // By themselves when a file appears.
    std::fs::write(
        rules.join("more.yml"),
        ONE.replace("LevelHigh", "LevelVeryHigh").replace("name: test", "name: more"),
    )?;
    wait_for_names(&api, &["LevelVeryHigh", "LevelHigh"])?;

    // None, if one has a mistake; and it is said.
    std::fs::write(
        rules.join("bad.yml"),
        "groups:\n  - name: bad\n    rules:\n      - alert: X\n        expr: 'up =='\n",
    )?;
    let reload: Output = collector.cli(&["rules", "reload"])?;
    assert!(!reload.status.success());
    assert!(said(&reload).contains("bad.yml:5: expr: "), "{}", said(&reload));
    assert_eq!(names(&api), ["LevelVeryHigh", "LevelHigh"]);
    api.wait_for("pitwatch_collector_rules_refused", SOON, |rows| rows.first().is_some_and(|row| row.1 == 1.0))?;

    // On SIGHUP.
    std::fs::remove_file(rules.join("bad.yml"))?;
    std::fs::remove_file(rules.join("more.yml"))?;
    collector.process().signal("HUP")?;
    wait_for_names(&api, &["LevelHigh"])?;
    let reload = collector.cli(&["rules", "reload"])?;
    assert!(reload.status.success() && said(&reload).contains("1 rule"), "{}", said(&reload));
    api.wait_for("pitwatch_collector_rules_refused", SOON, |rows| rows.first().is_some_and(|row| row.1 == 0.0))?;

    // A viewer may not.
    let token = said(&collector.cli(&["token", "create", "--role", "viewer", "--for", "ann"])?);
    let token = token.split_whitespace().find(|word| word.starts_with("pw")).unwrap_or_default().to_owned();
    let url = api_url(&collector)?;
    let refused = collector.cli(&["--collector", &url, "--token", &token, "rules", "reload"])?;
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    Ok(())
}

fn api_url(collector: &Collector) -> anyhow::Result<String> {
    let file = std::fs::read_to_string(collector.data_dir().join("cli.json"))?;
    let file: Value = serde_json::from_str(&file)?;
    Ok(file["url"].as_str().unwrap_or_default().to_owned())
}

fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn a_preview_counts_what_happened_here() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let level = Level::start(&dir.path().join("level"), "meter", &collector)?;
    let api = collector.api()?;
    api.wait_for("test_level", SOON, |rows| rows.len() == 1)?;
    for _ in 0..3 {
        level.set(9.0);
        std::thread::sleep(Duration::from_secs(2));
        level.set(1.0);
        std::thread::sleep(Duration::from_secs(2));
    }
    let file = write(dir.path(), "new.yml", ONE)?;
    let file = file.to_str().unwrap();
    let shown = collector.cli(&["rules", "preview", file, "--since", "2m", "--step", "500ms", "-o", "json"])?;
    assert!(shown.status.success(), "{}", said(&shown));
    let body: Value = serde_json::from_slice(&shown.stdout)?;
    assert_eq!(body["data"]["fired"], 3, "{body}");
    assert_eq!(body["data"]["rules"][0]["hosts"]["meter"], 3, "{body}");
    let table = collector.cli(&["rules", "preview", file, "--since", "2m", "--step", "500ms"])?;
    assert!(said(&table).contains("would have fired 3 times in the last 2 min"), "{}", said(&table));
    let bad = write(dir.path(), "bad.yml", "groups: [{nmae: x}]")?;
    let refused = collector.cli(&["rules", "preview", bad.to_str().unwrap()])?;
    assert!(said(&refused).contains("unknown field"), "{}", said(&refused));
    Ok(())
}
