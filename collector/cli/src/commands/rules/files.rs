//! `pitwatch rules check` and `pitwatch rules test`: rule files and their unit tests, without a collector.

use std::fmt::Write as _;
use std::path::PathBuf;

use pitwatch_alerting::engine::Options;
use pitwatch_alerting::{RuleFile, Semantics, limits};
use pitwatch_rules::{prepare, unit};

use crate::commands::{Report, counted};

/// Every mistake of rule files, with its line.
pub(in crate::commands) fn check(files: &[PathBuf]) -> Report {
    let mut report = Report::default();
    let mut wrong = 0;
    for path in files {
        let name = path.display();
        // Writing to a text cannot fail.
        let _ = match rules_of(path) {
            Ok(count) => writeln!(report.text, "{name}: good, {}", counted(count, "rule", "rules")),
            Err(mistakes) => {
                wrong += 1;
                writeln!(report.text, "{mistakes}")
            }
        };
    }
    if wrong > 0 {
        let _ = writeln!(report.text, "{wrong} of {} with mistakes", counted(files.len(), "file", "files"));
    }
    Report { is_bad_news: wrong > 0, ..report }
}

fn rules_of(path: &PathBuf) -> Result<usize, String> {
    let name = path.display().to_string();
    let bytes = std::fs::metadata(path).map_err(|error| format!("{name}: {error}"))?.len();
    if bytes > limits::RULE_FILE_MAX_BYTES as u64 {
        return Err(format!("{name}: {bytes} bytes, more than {}", limits::RULE_FILE_MAX_BYTES));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let file = RuleFile::parse(&name, &text, prepare).map_err(|mistakes| mistakes.to_string())?;
    Ok(file.groups.iter().map(|group| group.rules.len()).sum())
}

/// Runs unit tests and says what failed, as `promtool test rules` does.
pub(in crate::commands) fn test(files: &[PathBuf], pitwatch: bool) -> Report {
    let semantics = if pitwatch { Options::default().semantics } else { Semantics::Prometheus };
    let mut report = Report::default();
    for path in files {
        let verdict = unit::run(path, semantics);
        let text = &mut report.text;
        let _ = writeln!(text, "Unit Testing:  {}", path.display());
        for warning in &verdict.warnings {
            let _ = writeln!(text, "  WARNING: {warning}");
        }
        if verdict.errors.is_empty() {
            let _ = writeln!(text, "  SUCCESS\n");
        } else {
            report.is_bad_news = true;
            let _ = writeln!(text, "  FAILED:\n{}\n", verdict.errors.join("\n"));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_and_failures_are_bad_news() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = write("good.yml", "groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]");
        let bad = write("bad.yml", "groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'up =='}\n");
        let report = check(std::slice::from_ref(&good));
        assert!(report.text.ends_with("good.yml: good, 1 rule\n") && !report.is_bad_news, "{report:?}");
        let report = check(&[good, bad, dir.path().join("none.yml")]);
        assert!(report.is_bad_news && report.text.contains("bad.yml:4: expr: 1:6: parse error"), "{}", report.text);
        assert!(report.text.ends_with("2 of 3 files with mistakes\n"), "{}", report.text);

        let expects = |alerts: &str| {
            format!(
                "rule_files: [good.yml]\ntests:\n- interval: 1m\n  input_series: [{{series: 'up{{a=\"b\"}}', values: '0'}}]\n  \
                 alert_rule_test: [{{eval_time: 0m, alertname: A, exp_alerts: [{alerts}]}}]\n"
            )
        };
        let (right, wrong) = (write("right.yml", &expects("{exp_labels: {a: b}}")), write("wrong.yml", &expects("")));
        let report = test(&[right, wrong], false);
        let text = report.text.replace(&dir.path().display().to_string(), "DIR");
        assert!(report.is_bad_news);
        insta::assert_snapshot!(text, @r#"
        Unit Testing:  DIR/right.yml
          SUCCESS

        Unit Testing:  DIR/wrong.yml
          FAILED:
            alertname: A, time: 0s, 
                exp:[], 
                got:[
                    0:
                      Labels:{a="b", alertname="A"}
                      Annotations:{}
                    ]
        "#);
    }
}
