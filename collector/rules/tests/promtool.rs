//! Unit tests of rules here and with Debian's `promtool test rules`, word for word: the same files, the same verdicts,
//! the same alerts, labels, texts and values.
//!
//! - files of `promtool/`: written by hand, over what test files may say, and over broken and hostile ones;
//! - for every rule pack of the field, files made from its own expressions: series that its selectors mean, and every
//!   alert asked for at several times as if none were to fire, so that both say which do.

// The helpers of these tests are not in test functions, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pitwatch_alerting::rules::RuleKind;
use pitwatch_alerting::{RuleFile, Semantics};
use pitwatch_promql::{Expr, MatchOp};
use pitwatch_rules::{prepare, unit};

/// Errors that both tell in words of their own: only that they are told is compared.
const OWN_WORDS: [&str; 3] = ["parse error", "yaml: ", "err: "];

fn packs() -> Vec<PathBuf> {
    let dir = std::env::var_os("RULES_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/rules"), PathBuf::from);
    yml(&dir)
}

fn yml(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yml"));
    files.sort();
    files
}

/// Whether `promtool` finds all well, and what it says.
fn promtool(path: &Path) -> (bool, String) {
    let run = Command::new("promtool").args(["test", "rules"]).arg(path).output();
    let run = run.expect("promtool is in Debian's package prometheus");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    (run.status.success(), said.trim_start_matches("  FAILED:\n").trim().to_owned())
}

/// The same here.
fn ours(path: &Path) -> (bool, String) {
    let verdict = unit::run(path, Semantics::Prometheus);
    (verdict.errors.is_empty(), verdict.errors.join("\n").trim().to_owned())
}

/// Texts without what each tells in its own words.
fn told(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let cut = OWN_WORDS.iter().filter_map(|words| line.find(words)).min();
        lines.push(line[..cut.unwrap_or(line.len())].trim_end().to_owned());
    }
    lines
}

#[track_caller]
fn compare(path: &Path, texts_too: bool) -> usize {
    let ((they_pass, they), (we_pass, we)) = (promtool(path), ours(path));
    let file = || std::fs::read_to_string(path).unwrap();
    assert_eq!(they_pass, we_pass, "{}\n{they}\n--- here ---\n{we}\n---\n{}", path.display(), file());
    if texts_too && !they_pass {
        let (they, we) = (told(&they), told(&we));
        let differs = they.iter().zip(&we).position(|(a, b)| a != b);
        let at = differs.unwrap_or(they.len().min(we.len())).saturating_sub(8);
        let part = |lines: &[String]| lines.iter().skip(at).take(24).cloned().collect::<Vec<_>>().join("\n");
        assert!(they == we, "{}\n{}\n--- here ---\n{}\n", path.display(), part(&they), part(&we));
    }
    we.matches("Labels:").count()
}

#[test]
fn files_written_by_hand_have_the_same_verdicts() {
    let mut seen = (0, 0);
    for path in yml(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promtool")) {
        if !path.file_name().unwrap().to_string_lossy().starts_with("test-") {
            continue;
        }
        // Those about mistakes have messages of their own.
        let texts_too = !path.to_string_lossy().contains("test-wrong");
        compare(&path, texts_too);
        match ours(&path).0 {
            true => seen.0 += 1,
            false => seen.1 += 1,
        }
    }
    assert!(seen.0 >= 5 && seen.1 >= 12, "{seen:?}");
}

/// promtool takes groups that `group_eval_order` does not name in the order of a Go map, another at each run: nothing to
/// compare with. Here they run in their file's order.
#[test]
fn groups_without_an_order_run_in_their_files_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promtool/own-order-file.yml");
    assert_eq!(ours(&path), (true, String::new()));
}

#[test]
fn the_packs_of_the_field_fire_the_same_alerts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut alerts, mut packs_fired) = (0, 0);
    for pack in packs() {
        let mut of_pack = 0;
        for variant in 0..3 {
            let Some(text) = test_file(&pack, variant) else { continue };
            let path = dir.path().join(format!("{variant}-{}", pack.file_name().unwrap().to_string_lossy()));
            std::fs::write(&path, text).unwrap();
            of_pack += compare(&path, true);
        }
        packs_fired += usize::from(of_pack > 0);
        alerts += of_pack;
    }
    println!("{alerts} alerts of {packs_fired} packs are the same");
    assert!(alerts > 500 && packs_fired >= 15, "{alerts} alerts of {packs_fired} packs");
}

/// A test file over the selectors of a pack's expressions.
fn test_file(pack: &Path, variant: u64) -> Option<String> {
    let text = std::fs::read_to_string(pack).unwrap();
    let file = RuleFile::parse("pack", &text, prepare).unwrap_or_else(|errors| panic!("{errors}"));
    let (mut series, mut names) = (BTreeSet::new(), BTreeSet::new());
    for rule in file.groups.iter().flat_map(|group| &group.rules) {
        if matches!(rule.kind, RuleKind::Alert(_)) {
            names.insert(rule.name.to_string());
        }
        selectors(&rule.prepared.expr, &mut series);
    }
    if names.is_empty() {
        return None;
    }
    let mut out = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n- interval: 59s500ms\n  external_labels: {{dc: eu}}\n  \
         external_url: http://prometheus.example\n  input_series:\n",
        pack.display()
    );
    for (nth, one) in series.iter().enumerate() {
        // Beside the steps: a sample at the very begin of a window is one of the window to this promtool, and none to
        // Prometheus 3.
        let values = format!("_ {}", values(one, nth as u64, variant));
        writeln!(out, "  - series: '{one}'\n    values: '{values}'").unwrap();
    }
    out.push_str("  alert_rule_test:\n");
    for minutes in [0, 1, 7, 30, 65] {
        for name in &names {
            writeln!(out, "  - {{eval_time: {minutes}m, alertname: '{name}', exp_alerts: []}}").unwrap();
        }
    }
    out.push_str("  promql_expr_test:\n");
    for expr in ["ALERTS", "ALERTS_FOR_STATE", "count by (__name__) ({__name__=~\".+:.+\"})"] {
        writeln!(out, "  - {{expr: '{expr}', eval_time: 31m, exp_samples: []}}").unwrap();
    }
    Some(out)
}

/// Series that an expression's selectors mean, two hosts each.
fn selectors(expr: &Expr, out: &mut BTreeSet<String>) {
    expr.for_each_selector(&mut |selector| {
        let Some(name) = &selector.name else { return };
        for host in ["one", "two"] {
            let mut labels = vec![format!("instance=\"{host}:9100\""), "job=\"j\"".to_owned()];
            for matcher in selector.matchers.iter().filter(|m| m.name != "__name__") {
                let value = match matcher.op {
                    MatchOp::Eq => matcher.value.clone(),
                    MatchOp::Re => matcher.value.split('|').next().unwrap_or("").replace(".*", "x").replace(".+", "x"),
                    MatchOp::Ne | MatchOp::Nre => continue,
                };
                let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':');
                if !value.is_empty() && value.chars().all(is_plain) {
                    labels.retain(|label| !label.starts_with(&format!("{}=", matcher.name)));
                    labels.push(format!("{}=\"{value}\"", matcher.name));
                }
            }
            out.insert(format!("{name}{{{}}}", labels.join(",")));
        }
    });
}

/// Values that differ by series and variant: flat, growing, falling, jumping, ending.
fn values(series: &str, nth: u64, variant: u64) -> String {
    let mut hash = variant.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ nth;
    for byte in series.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let pick = (hash >> 33) % 9;
    let scale = [0.5, 1.0, 7.0, 95.0, 1500.0, 2e9][((hash >> 20) % 6) as usize];
    match pick {
        0 => "0x70".to_owned(),
        1 => "1x70".to_owned(),
        2 => format!("{scale}x70"),
        3 => format!("0+{scale}x70"),
        4 => format!("{}-{}x70", scale * 100.0, scale),
        5 => format!("{scale}x20 0x10 {scale}x40"),
        6 => format!("0x5 {scale}x20 stale _x10 {scale}x30"),
        7 => format!("{scale}+{}x30 0+{scale}x38", scale / 3.0),
        _ => format!("0x29 {scale}x40"),
    }
}
