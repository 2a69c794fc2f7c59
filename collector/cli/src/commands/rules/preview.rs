//! `pitwatch rules preview`: how often the rules of a file would have fired, by rule and host, from history.

use std::collections::BTreeMap;

use crate::answers::{AlertPreview, PreviewData, RulePreview};
use crate::args::PreviewArgs;
use crate::commands::{Report, Screen, age, counted, list, own};
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone};
use crate::units::seconds;

pub(in crate::commands) async fn run(args: &PreviewArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file);
    let text = text.map_err(|error| CliError::Usage(format!("cannot read {name}: {error}")))?;
    let mut query = vec![("since", args.since.clone()), ("name", name)];
    query.extend(args.step.clone().map(|step| ("step", step)));
    let answer = client.post_text(&own(&["rules", "preview"]), &query, text).await?;
    list(crate::args::ListArgs { output: args.output }, answer, screen, arrange)
}

/// What a rule would have done on one host.
#[derive(Default)]
struct OnHost {
    fired: u64,
    seconds: f64,
    last_ms: i64,
    is_firing: bool,
}

fn arrange(data: &PreviewData, screen: &Screen) -> (Table, bool) {
    let columns = vec![
        Column::left("RULE", "rule"),
        Column::left("HOST", "host"),
        Column::right("FIRED", "fired"),
        Column::right("FOR", "firing_seconds"),
        Column::left("LAST", "last_fired_ms"),
        Column::left("NOW", "is_firing"),
        Column::left("GROUP", "group"),
    ];
    let mut table = Table::new(columns);
    let mut rules: Vec<&RulePreview> = data.rules.iter().collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.fired));
    for rule in &rules {
        let hosts = by_host(&rule.alerts);
        if hosts.is_empty() {
            table.push(row(rule, "", &OnHost::default(), screen));
        }
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        hosts.sort_by_key(|(_, on)| std::cmp::Reverse(on.fired));
        for (host, on) in hosts {
            table.push(row(rule, host, &on, screen));
        }
    }
    let span = seconds((data.end_ms - data.start_ms) as f64 / 1000.0);
    let mut summary = format!(
        "{}: would have fired {} in the last {span}",
        counted(data.rules.len(), "rule", "rules"),
        if data.fired == 1 { "once".to_owned() } else { format!("{} times", data.fired) }
    );
    for rule in &rules {
        if rule.more_alerts > 0 {
            summary.push_str(&format!("\n{}: {} more alerts are only counted", rule.rule, rule.more_alerts));
        }
        if let Some(error) = &rule.error {
            let error = crate::table::one_line(error);
            summary.push_str(&format!("\n{} failed at {} steps: {error}", rule.rule, rule.failures));
        }
    }
    (table.summary(summary), false)
}

fn by_host(alerts: &[AlertPreview]) -> BTreeMap<&str, OnHost> {
    let mut hosts: BTreeMap<&str, OnHost> = BTreeMap::new();
    for alert in alerts {
        let on = hosts.entry(alert.labels.get("instance").map_or("", String::as_str)).or_default();
        on.fired += alert.fired;
        on.seconds += alert.firing_seconds;
        on.last_ms = on.last_ms.max(alert.last_fired_ms);
        on.is_firing |= alert.is_firing;
    }
    hosts
}

fn row(rule: &RulePreview, host: &str, on: &OnHost, screen: &Screen) -> Vec<Cell> {
    let has_fired = on.fired > 0;
    vec![
        Cell::new(&*rule.rule),
        Cell::new(host),
        Cell::with_exact(on.fired.to_string(), on.fired),
        if has_fired { Cell::with_exact(seconds(on.seconds), on.seconds) } else { Cell::default() },
        age(has_fired.then_some(on.last_ms), screen),
        Cell::with_exact(if on.is_firing { "✖ firing" } else { "" }, on.is_firing),
        Cell::new(&*rule.group).tone(Tone::Faint),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn rules_that_fired_most_come_first_by_host() {
        let data: PreviewData = serde_json::from_str(
            r#"{"start_ms":0,"end_ms":604800000,"step_ms":60000,"fired":4,"rules":[
                {"group":"g","rule":"Quiet","fired":0,"hosts":{},"alerts":[],"more_alerts":0,"failures":0,"error":null},
                {"group":"g","rule":"Hot","fired":4,"hosts":{"a":3,"b":1},"more_alerts":0,"failures":2,"error":"x\ny","alerts":[
                 {"labels":{"instance":"a","cpu":"0"},"fired":2,"firing_seconds":60,"last_fired_ms":604700000,"is_firing":false},
                 {"labels":{"instance":"a","cpu":"1"},"fired":1,"firing_seconds":30,"last_fired_ms":604100000,"is_firing":true},
                 {"labels":{"instance":"b"},"fired":1,"firing_seconds":3600,"last_fired_ms":604740000,"is_firing":false}]}]}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(604_800_000), color: false, width: 100, columns: None };
        let (table, _) = arrange(&data, &screen);
        insta::assert_snapshot!(table.to_text(false, None), @"
        RULE   HOST  FIRED   FOR  LAST   NOW       GROUP
        Hot    a         3  90 s  100 s  ✖ firing  g
        Hot    b         1   1 h  60 s             g
        Quiet            0        –                g
        2 rules: would have fired 4 times in the last 7 d
        Hot failed at 2 steps: x y
        ");
    }
}
