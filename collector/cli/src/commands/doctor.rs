//! `pitwatch doctor`: what is unwell with the collector and its agents, and what to do about each.
//!
//! This file asks; [`checks`] judges what was said, and knows no network.

mod checks;

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Report, Screen, own, tally, with_line_feed};
use crate::answers::{Agent, AgentsData, QueryData, RulesData, StatusData};
use crate::args::{DoctorArgs, PageFormat};
use crate::connect::Client;
use crate::error::{CliError, similar};
use crate::table::{Tone, one_line};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Something is lost, or will be: now.
    Wrong,
    /// Look today.
    Look,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    /// `collector`, `agent db-eu-3`, `receiver chat`, `rule DiskFull`
    about: String,
    what: String,
    /// What to do.
    advice: String,
}

/// All that was asked.
#[derive(Clone, Debug)]
struct Facts {
    status: StatusData,
    agents: Vec<Agent>,
    rules: RulesData,
    /// Figures of history: by the name of the question, then by `instance`.
    figures: BTreeMap<&'static str, BTreeMap<String, f64>>,
}

/// Questions to history, each one value an instance.
const QUESTIONS: [(&str, &str); 6] = [
    ("spool_bytes", "max by (instance) (pitwatch_agent_spool_bytes)"),
    ("spool_growth", "max by (instance) (delta(pitwatch_agent_spool_bytes[10m]))"),
    ("dropped", "sum by (instance) (increase(pitwatch_agent_frames_dropped_total[1h]))"),
    ("source_errors", "sum by (instance) (increase(pitwatch_agent_source_errors_total[1h]))"),
    ("handshakes_failed", "sum by (instance) (increase(pitwatch_collector_handshake_failures_total[1h]))"),
    ("disk_free_tomorrow", "min by (instance) (predict_linear(pitwatch_collector_disk_free_bytes[6h], 86400))"),
];

pub(super) async fn run(args: &DoctorArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let facts = gather(client).await?;
    let mut findings = checks::all(&facts, screen);
    if let Some(name) = &args.agent {
        if !facts.agents.iter().any(|agent| agent.name == *name) {
            let like = similar(name, facts.agents.iter().map(|agent| agent.name.as_str()));
            return Err(CliError::NoSuch { kind: "agent", name: name.clone(), like });
        }
        findings.retain(|finding| finding.about == checks::about_agent(name));
    }
    let wrong = findings.iter().filter(|finding| finding.level == Level::Wrong).count();
    let text = match args.output {
        PageFormat::Json => with_line_feed(serde_json::json!({ "findings": findings }).to_string()),
        PageFormat::Text => write(&findings, &facts, args.agent.as_deref(), screen),
    };
    Ok(Report { text, is_bad_news: wrong > 0, ..Report::default() })
}

async fn gather(client: &Client) -> Result<Facts, CliError> {
    let status = client.get::<StatusData>(&own(&["status"])).await?.data;
    let agents = client.get::<AgentsData>(&own(&["agents"])).await?.data.agents;
    let rules = client.get::<RulesData>(&["api", "v1", "rules"]).await?.data;
    let mut figures = BTreeMap::new();
    for (name, expr) in QUESTIONS {
        figures.insert(name, by_instance(client, expr).await?);
    }
    Ok(Facts { status, agents, rules, figures })
}

async fn by_instance(client: &Client, expr: &str) -> Result<BTreeMap<String, f64>, CliError> {
    let data = client.query::<QueryData>(&["api", "v1", "query"], &[("query", expr.to_owned())]).await?.data;
    let QueryData::Vector(series) = data else { return Ok(BTreeMap::new()) };
    let pair = |mut one: crate::answers::VectorSeries| {
        let value = one.value.1.parse().ok().filter(|value: &f64| value.is_finite())?;
        Some((one.metric.remove("instance").unwrap_or_default(), value))
    };
    Ok(series.into_iter().filter_map(pair).collect())
}

fn write(findings: &[Finding], facts: &Facts, agent: Option<&str>, screen: &Screen) -> String {
    let mut out = String::new();
    for finding in findings {
        let (mark, tone) = match finding.level {
            Level::Wrong => ("✖", Tone::Red),
            Level::Look => ("…", Tone::Amber),
        };
        let text = one_line(&format!("{mark} {}: {}", finding.about, finding.what));
        out += &format!("{}\n    {}\n", tone.paint(&text, screen.color), one_line(&finding.advice));
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (wrong, look) = (count(Level::Wrong), count(Level::Look));
    let looked_at = match agent {
        Some(name) => format!("agent {name}"),
        None => {
            let rules: usize = facts.rules.groups.iter().map(|group| group.rules.len()).sum();
            let (agents, receivers) = (facts.agents.len(), facts.status.receivers.len());
            let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
            format!(
                "the collector {}, {}, {}, {}",
                facts.status.version,
                many(agents, "agent"),
                many(rules, "rule"),
                many(receivers, "receiver")
            )
        }
    };
    out += &match findings.is_empty() {
        true => format!("✔ nothing is wrong with {looked_at}\n"),
        false => {
            let found = tally("found".to_owned(), &[(wrong, "wrong"), (look, "to look at")]);
            format!("{found}; looked at {looked_at}\n")
        }
    };
    out
}
