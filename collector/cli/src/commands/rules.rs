//! `pitwatch rules`: what is watched, and rules that cannot be evaluated.
//!
//! - `files`: checking and testing rule files, without a collector.
//! - `preview`: how often rules would have fired.

pub(super) mod files;
pub(super) mod preview;

use reqwest::Method;
use serde_json::json;

use super::{Report, Screen, counted, state, tally};
use crate::answers::{Reloaded, Rule, RuleGroup, RulesData};
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone};
use crate::units::seconds;

pub(super) fn arrange(data: &RulesData, _: &Screen) -> (Table, bool) {
    let columns = vec![
        Column::left("HEALTH", "health"),
        Column::left("STATE", "state"),
        Column::left("RULE", "rule"),
        Column::left("KIND", "kind"),
        Column::left("GROUP", "group"),
        Column::left("FILE", "file"),
        Column::right("EVERY", "interval_seconds"),
        Column::right("TOOK", "evaluation_seconds"),
        Column::left("QUERY", "query"),
    ];
    let mut table = Table::new(columns);
    let mut rules: Vec<(&RuleGroup, &Rule)> =
        data.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule))).collect();
    rules.sort_by_key(|(_, rule)| (rule.health != "err", state_rank(rule)));
    for (group, rule) in &rules {
        table.push(row(group, rule));
    }
    let count = |test: &dyn Fn(&Rule) -> bool| rules.iter().filter(|(_, rule)| test(rule)).count();
    let failing = count(&|rule| rule.health == "err");
    let firing = count(&|rule| rule.state.as_deref() == Some("firing"));
    let total = counted(rules.len(), "rule", "rules");
    let mut summary = tally(total, &[(failing, "failing"), (firing, "firing")]);
    for (group, rule) in rules.iter().filter(|(_, rule)| rule.health == "err") {
        let error = rule.last_error.as_deref().unwrap_or("no reason given");
        summary.push_str(&format!("\n{} in {}: {}", rule.name, group.file, crate::table::one_line(error)));
    }
    (table.summary(summary), failing > 0)
}

pub(super) async fn reload(client: &Client) -> Result<Report, CliError> {
    let answer = client.send::<Reloaded>(Method::POST, &["-", "reload"], &json!({})).await?;
    Ok(Report::text(format!("taken anew: {}\n", counted(answer.data.rules, "rule", "rules"))))
}

fn row(group: &RuleGroup, rule: &Rule) -> Vec<Cell> {
    vec![
        state(&rule.health),
        rule.state.as_deref().map_or_else(Cell::default, state),
        Cell::new(&*rule.name),
        Cell::new(&*rule.kind),
        Cell::new(&*group.name),
        Cell::new(&*group.file),
        Cell::with_exact(seconds(group.interval), group.interval),
        Cell::with_exact(seconds(rule.evaluation_time), rule.evaluation_time).tone(Tone::Faint),
        Cell::new(&*rule.query).tone(Tone::Faint),
    ]
}

fn state_rank(rule: &Rule) -> u8 {
    match rule.state.as_deref() {
        Some("firing") => 0,
        Some("pending") => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn rules_that_fail_come_first_with_their_reason() {
        let data: RulesData = serde_json::from_str(
            r#"{"groups":[{"name":"node","file":"/etc/pitwatch/rules/node.yml","interval":5,"rules":[
                {"type":"alerting","name":"HighLoad","state":"firing","health":"ok","query":"node_load1 > 4",
                 "evaluationTime":0.00042,"duration":0,"labels":{},"annotations":{},"alerts":[]},
                {"type":"recording","name":"a:b","health":"err","lastError":"many-to-many","query":"a + b",
                 "evaluationTime":0.001,"labels":{}}]}]}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(0), color: false, width: 100, columns: None };
        let (table, is_bad_news) = arrange(&data, &screen);
        assert!(is_bad_news);
        insta::assert_snapshot!(table.to_text(false, None), @"
        HEALTH  STATE     RULE      KIND       GROUP  FILE                          EVERY    TOOK  QUERY
        ✖ err             a:b       recording  node   /etc/pitwatch/rules/node.yml    5 s    1 ms  a + b
        ✔ ok    ✖ firing  HighLoad  alerting   node   /etc/pitwatch/rules/node.yml    5 s  420 µs  node_load1 > 4
        2 rules: 1 failing, 1 firing
        a:b in /etc/pitwatch/rules/node.yml: many-to-many
        ");
    }
}
