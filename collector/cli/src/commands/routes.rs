//! `pitwatch routes`: an `alertmanager.yml` checked, and who would hear of an alert, without a collector.

use std::path::Path;

use pitwatch_alerting::{LabelSet, Routing};

use super::{Report, counted};
use crate::args::RoutesCommand;

/// Largest file, in bytes.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn run(command: &RoutesCommand) -> Report {
    match command {
        RoutesCommand::Check { file } => match read(file) {
            Ok(routing) => {
                let remarks = routing.remarks.iter().map(|remark| format!("{remark}\n")).collect();
                let text = format!(
                    "{}: good, {}, {}, {}\n\n{}",
                    file.display(),
                    counted(routing.routes().len(), "route", "routes"),
                    counted(routing.receivers.len(), "receiver", "receivers"),
                    counted(routing.inhibit_rules.len(), "inhibit rule", "inhibit rules"),
                    routing.to_text()
                );
                Report { remarks, ..Report::text(text) }
            }
            Err(mistakes) => bad(mistakes),
        },
        RoutesCommand::Test { file, labels, expect } => match read(file).and_then(|routing| test(&routing, labels)) {
            Ok(receivers) => {
                let is_bad_news = expect.as_ref().is_some_and(|expected| *expected != receivers);
                let remarks = match (is_bad_news, expect) {
                    (true, Some(expected)) => format!("expected {expected}\n"),
                    _ => String::new(),
                };
                Report { remarks, is_bad_news, ..Report::text(format!("{receivers}\n")) }
            }
            Err(mistakes) => bad(mistakes),
        },
    }
}

fn bad(mistakes: String) -> Report {
    Report { remarks: mistakes + "\n", is_bad_news: true, ..Report::default() }
}

fn read(file: &Path) -> Result<Routing, String> {
    let about = std::fs::metadata(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    if about.len() > FILE_MAX_BYTES {
        return Err(format!("{}: over {FILE_MAX_BYTES} bytes", file.display()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let variable = |name: &str| std::env::var(name).ok();
    Routing::parse(&file.display().to_string(), &text, &variable).map_err(|errors| errors.to_string())
}

/// The receivers of an alert with these labels, separated by commas.
fn test(routing: &Routing, labels: &[String]) -> Result<String, String> {
    let pair = |text: &String| {
        let (name, value) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is no label such as severity=critical"))?;
        Ok((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    let labels = LabelSet::new(labels.iter().map(pair).collect::<Result<Vec<_>, String>>()?);
    Ok(routing.receivers_of(&labels).join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_hear_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("am.yml");
        let text =
            "route: {receiver: a, routes: [{matchers: [x=y], receiver: b}]}\nreceivers: [{name: a}, {name: b}]\n";
        std::fs::write(&file, text).unwrap();
        let test = |expect: Option<&str>| {
            let labels = vec!["x=y".to_owned()];
            run(&RoutesCommand::Test { file: file.clone(), labels, expect: expect.map(str::to_owned) })
        };
        assert_eq!((test(None).text.as_str(), test(None).is_bad_news), ("b\n", false));
        assert!(test(Some("a")).is_bad_news && !test(Some("b")).is_bad_news);
        assert!(run(&RoutesCommand::Check { file: file.clone() }).text.contains(r#"{x="y"} → b"#));
        std::fs::write(&file, "route: {}\n").unwrap();
        assert!(
            run(&RoutesCommand::Check { file: file.clone() })
                .remarks
                .contains("am.yml:1: the first route needs a receiver")
        );
    }
}
