//! What is held against the facts. Each check says what it found, and what to do.

use super::super::alerts::is_stuck;
use super::super::{Screen, counted};
use super::{Facts, Finding, Level};
use crate::answers::Agent;
use crate::units::{Base, Unit, seconds};

/// Clocks that differ by so much are worth a look; by so much, samples land in another minute.
const SKEW_LOOK_MS: i64 = 2000;
const SKEW_WRONG_MS: i64 = 60_000;
/// An agent that is connected sends at least so often.
const SILENT_MS: i64 = 60_000;
/// A connected agent renews at two thirds of its certificate's life; an away one cannot.
const CERTIFICATE_CONNECTED_MS: i64 = 6 * 3_600_000;
const CERTIFICATE_AWAY_MS: i64 = 7 * 86_400_000;
/// Room on the collector's disk.
const FREE_LOOK_BYTES: f64 = 5e9;
const FREE_WRONG_BYTES: f64 = 1e9;
/// A spool that grows by less is filling and emptying.
const SPOOL_GROWTH_BYTES: f64 = 65_536.0;
/// Names in a list.
const NAMES_MAX: usize = 5;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that is found, the worst first.
pub(super) fn all(facts: &Facts, screen: &Screen) -> Vec<Finding> {
    let mut found = Findings { list: Vec::new(), screen };
    found.collector(facts);
    found.history(facts);
    found.disk(facts);
    found.rules(facts);
    found.receivers(facts);
    for agent in facts.agents.iter().filter(|agent| agent.state != "revoked") {
        found.agent(agent, facts);
    }
    found.versions(facts);
    found.list.sort_by_key(|finding| finding.level);
    found.list
}

/// What findings about an agent are about.
pub(super) fn about_agent(name: &str) -> String {
    format!("agent {name}")
}

struct Findings<'s> {
    list: Vec<Finding>,
    screen: &'s Screen,
}

impl Findings<'_> {
    fn push(&mut self, level: Level, about: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) {
        self.list.push(Finding { level, about: about.into(), what: what.into(), advice: advice.into() });
    }

    fn bytes(&self, bytes: f64) -> String {
        Unit::of(Base::Bytes).text(bytes, &self.screen.clock)
    }

    fn collector(&mut self, facts: &Facts) {
        let status = &facts.status;
        if !status.ready {
            let reason = status.not_ready_reason.as_deref().unwrap_or("it gives no reason");
            self.push(
                Level::Wrong,
                "collector",
                format!("not ready: {reason}"),
                "agents keep what they have until it is; what it says: journalctl -u pitwatch-collector -n 50",
            );
        }
        let skew_ms = self.screen.clock.now_ms - status.now_ms;
        if skew_ms.abs() >= SKEW_LOOK_MS {
            self.push(
                Level::Look,
                "this host",
                format!("its clock differs from the collector's by {}", seconds(skew_ms as f64 / 1000.0)),
                "times such as `--time -5m` are of this clock: let chrony or systemd-timesyncd set it",
            );
        }
        if let Some(failed) = first(facts, "handshakes_failed").filter(|failed| *failed >= 1.0) {
            self.push(
                Level::Look,
                "collector",
                format!(
                    "{} in the last hour",
                    counted(failed.round() as usize, "handshake of an agent failed", "handshakes of agents failed")
                ),
                "somebody knocks with a certificate that is revoked, ended or of another collector; \
                 journalctl -u pitwatch-collector says from where",
            );
        }
        if facts.agents.is_empty() {
            self.push(
                Level::Look,
                "collector",
                "no agent is enrolled",
                "pitwatch token create prints the line for a host",
            );
        }
    }

    fn history(&mut self, facts: &Facts) {
        let storage = &facts.status.storage;
        for loss in &storage.losses {
            self.push(
                Level::Wrong,
                "history",
                format!("lost at the start: {loss}"),
                "pitwatch-collector verify says all that is damaged and what to do; a backup has it: pitwatch-collector restore",
            );
        }
        for refused in &storage.refused {
            let advice = match (&refused.label, refused.label_values) {
                (Some(label), Some(values)) => format!(
                    "label {label} has {values} values: it should mostly be no label; leave it out where the series are made"
                ),
                _ => "fewer series: leave signals out in the agent's configuration".to_owned(),
            };
            let series = counted(usize::try_from(refused.refused_total).unwrap_or(usize::MAX), "series", "series");
            self.push(
                Level::Wrong,
                about_agent(&refused.agent),
                format!("{series} refused, {}", refused.limit),
                advice,
            );
        }
    }

    fn disk(&mut self, facts: &Facts) {
        let disk = facts.status.sections.get("disk");
        let path = disk.and_then(|disk| disk["path"].as_str()).unwrap_or("its data directory").to_owned();
        let Some(free) = disk.and_then(|disk| disk["free_bytes"].as_f64()) else { return };
        let advice = "[history] retention_max bounds what it takes; `pitwatch status` shows who takes it";
        if free < FREE_LOOK_BYTES {
            let level = if free < FREE_WRONG_BYTES { Level::Wrong } else { Level::Look };
            self.push(level, "collector's disk", format!("{} are left for {path}", self.bytes(free)), advice);
        } else if first(facts, "disk_free_tomorrow").is_some_and(|free| free < 0.0) {
            let text = format!("{} are left for {path}, and at this rate none in a day", self.bytes(free));
            self.push(Level::Wrong, "collector's disk", text, advice);
        }
    }

    fn rules(&mut self, facts: &Facts) {
        for group in &facts.rules.groups {
            for rule in group.rules.iter().filter(|rule| rule.health == "err") {
                let error = rule.last_error.as_deref().unwrap_or("it gives no reason");
                self.push(
                    Level::Wrong,
                    format!("rule {}", rule.name),
                    format!("cannot be evaluated: {error}"),
                    format!(
                        "it watches nothing until {} is mended; try it: pitwatch query '{}'",
                        group.file, rule.query
                    ),
                );
            }
            let took: f64 = group.rules.iter().map(|rule| rule.evaluation_time).sum();
            if took > group.interval && group.interval > 0.0 {
                self.push(
                    Level::Look,
                    format!("rule group {}", group.name),
                    format!("takes {} and is due every {}", seconds(took), seconds(group.interval)),
                    format!("alerts of {} come late: make its expressions cheaper (pitwatch query --explain) or its interval longer", group.file),
                );
            }
        }
    }

    fn receivers(&mut self, facts: &Facts) {
        let receivers = &facts.status.receivers;
        if receivers.is_empty() {
            self.push(
                Level::Look,
                "alerts",
                "there is no receiver: they reach nobody",
                "[receivers.NAME] in /etc/pitwatch/collector.toml, see docs/guide/alerting.md",
            );
        }
        for receiver in receivers.iter().filter(|receiver| is_stuck(receiver)) {
            let error = receiver.last_error.as_deref().unwrap_or_default();
            let since = receiver.last_success_ms.map_or("nothing was ever delivered".to_owned(), |ms| {
                format!("the last was delivered {} ago", self.screen.clock.age(ms))
            });
            self.push(
                Level::Wrong,
                format!("receiver {}", receiver.name),
                format!(
                    "{} waiting, {since}: {error}",
                    counted(receiver.pending as usize, "notification is", "notifications are")
                ),
                "is its address right, and does this collector reach it? They are kept and sent when it does",
            );
        }
    }

    fn agent(&mut self, agent: &Agent, facts: &Facts) {
        let (about, now_ms) = (about_agent(&agent.name), self.screen.clock.now_ms);
        let is_away = agent.state == "away";
        let age = |ms: Option<i64>| ms.map(|ms| self.screen.clock.age(ms));
        if is_away {
            let since =
                age(agent.since_ms.or(agent.last_sample_ms)).map_or_else(String::new, |age| format!(" for {age}"));
            self.push(
                Level::Wrong,
                &*about,
                format!("away{since}"),
                format!("on {}: systemctl status pitwatch-agent, then pitwatch-agent doctor; no longer in use: pitwatch agents revoke {}", agent.name, agent.name),
            );
        } else if agent.last_sample_ms.is_none_or(|last| now_ms - last > SILENT_MS)
            && agent.since_ms.is_none_or(|since| now_ms - since > SILENT_MS)
        {
            let last = age(agent.last_sample_ms).map_or("never".to_owned(), |age| format!("{age} ago"));
            self.push(
                Level::Wrong,
                &*about,
                format!("connected, but its last sample came {last}"),
                format!("on {}: pitwatch-agent once shows what it can read; journalctl -u pitwatch-agent", agent.name),
            );
        }
        self.certificate(agent, is_away);
        if let Some(skew) = agent.clock_skew_ms.filter(|skew| skew.abs() >= SKEW_LOOK_MS) {
            let level = if skew.abs() >= SKEW_WRONG_MS { Level::Wrong } else { Level::Look };
            let way = if skew > 0 { "ahead" } else { "behind" };
            self.push(
                level,
                &*about,
                format!("its clock is {} {way}", seconds(skew.abs() as f64 / 1000.0)),
                "its samples are at wrong times: let chrony or systemd-timesyncd set its clock",
            );
        }
        if agent.lost_frames > 0 {
            self.push(
                Level::Look,
                &*about,
                format!(
                    "{} of it never came, since the collector's start",
                    counted(agent.lost_frames as usize, "frame", "frames")
                ),
                "it was away for longer than its spool holds, or too much came at once: [queue] spool_max in its configuration",
            );
        }
        self.figures(agent, facts, &about);
    }

    fn certificate(&mut self, agent: &Agent, is_away: bool) {
        let Some(left_ms) = agent.certificate_not_after_ms.map(|end| end - self.screen.clock.now_ms) else { return };
        let left = || seconds((left_ms / 1000) as f64);
        let again = format!("pitwatch token create --name {} and enrol it again", agent.name);
        let (level, what, advice) = match is_away {
            _ if left_ms <= 0 => (Level::Wrong, "its certificate has ended".to_owned(), again),
            true if left_ms < CERTIFICATE_AWAY_MS => (
                Level::Look,
                format!("its certificate ends in {}", left()),
                format!("bring it back before that; later, {again}"),
            ),
            false if left_ms < CERTIFICATE_CONNECTED_MS => (
                Level::Wrong,
                format!("its certificate ends in {} and was not renewed", left()),
                "it renews by itself while it is connected: journalctl -u pitwatch-agent says why not".to_owned(),
            ),
            _ => return,
        };
        self.push(level, about_agent(&agent.name), what, advice);
    }

    /// What the agent says of itself.
    fn figures(&mut self, agent: &Agent, facts: &Facts, about: &str) {
        let figure = |name: &str| facts.figures.get(name).and_then(|all| all.get(&agent.name)).copied();
        if let Some(dropped) = figure("dropped").filter(|dropped| *dropped >= 1.0) {
            self.push(
                Level::Wrong,
                about,
                format!("it dropped {} in the last hour", counted(dropped.round() as usize, "frame", "frames")),
                "its spool is at its bound: [queue] spool_max in its configuration, or why could it not send?",
            );
        }
        let growth = figure("spool_growth").filter(|growth| *growth > SPOOL_GROWTH_BYTES);
        if let (Some(growth), Some(spool)) = (growth, figure("spool_bytes")) {
            self.push(
                Level::Look,
                about,
                format!("its spool has {} and grew by {} in 10 min", self.bytes(spool), self.bytes(growth)),
                "it gathers faster than it gets rid of: is the way to the collector slow, or the collector busy?",
            );
        }
        if let Some(errors) = figure("source_errors").filter(|errors| *errors >= 1.0) {
            self.push(
                Level::Look,
                about,
                format!(
                    "{} in the last hour",
                    counted(errors.round() as usize, "source could not be read", "reads of sources failed")
                ),
                format!(
                    "which: pitwatch query 'increase(pitwatch_agent_source_errors_total{{instance={:?}}}[1h]) > 0'",
                    agent.name
                ),
            );
        }
    }

    fn versions(&mut self, facts: &Facts) {
        let version = &facts.status.version;
        if version != VERSION {
            self.push(
                Level::Look,
                "this program",
                format!("it is {VERSION}, the collector {version}"),
                "install the same version here: what the collector answers may be more than this program knows",
            );
        }
        let others: Vec<&Agent> = facts
            .agents
            .iter()
            .filter(|agent| agent.state != "revoked" && !agent.software.ends_with(version.as_str()))
            .collect();
        if others.is_empty() {
            return;
        }
        let names: Vec<String> =
            others.iter().take(NAMES_MAX).map(|agent| format!("{} ({})", agent.name, agent.software)).collect();
        let more =
            if others.len() > NAMES_MAX { format!(" and {} more", others.len() - NAMES_MAX) } else { String::new() };
        self.push(
            Level::Look,
            "agents",
            format!(
                "{} another version than the collector's {version}: {}{more}",
                if others.len() == 1 { "one has" } else { "some have" },
                names.join(", ")
            ),
            "old and new understand each other; bring them up when it suits",
        );
    }
}

/// A figure of the collector itself.
fn first(facts: &Facts, name: &str) -> Option<f64> {
    facts.figures.get(name).and_then(|all| all.values().next()).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::answers::{RulesData, StatusData};
    use crate::clock::Clock;

    const NOW_MS: i64 = 1_000_000_000;

    fn screen() -> Screen {
        Screen { clock: Clock::utc(NOW_MS), color: false, width: 100, columns: None }
    }

    fn agent(name: &str, more: &str) -> Agent {
        let text = format!(
            r#"{{"name":"{name}","state":"connected","since_ms":1,"last_sample_ms":{NOW_MS},"software":"{VERSION}",
                "remote_address":null,"certificate_not_after_ms":9000000000,"clock_skew_ms":3,"lost_frames":0}}"#
        );
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let more: serde_json::Value = serde_json::from_str(more).unwrap();
        for (name, field) in more.as_object().unwrap() {
            value[name] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn facts(agents: Vec<Agent>) -> Facts {
        let status = format!(
            r#"{{"version":"{VERSION}","started_ms":1,"now_ms":{NOW_MS},"ready":true,"not_ready_reason":null,"agents":{{}},
                "alerts":{{}},"receivers":[{{"name":"chat","pending":0,"delivered":2,"failed":1,"last_error":"HTTP 500",
                "last_success_ms":5}}],"sections":{{"disk":{{"path":"/var/lib/pitwatch","free_bytes":90e9}}}}}}"#
        );
        Facts {
            status: serde_json::from_str::<StatusData>(&status).unwrap(),
            agents,
            rules: RulesData { groups: Vec::new() },
            figures: BTreeMap::new(),
        }
    }

    fn text(facts: &Facts) -> String {
        super::super::write(&all(facts, &screen()), facts, None, &screen())
    }

    #[test]
    fn what_is_well_is_said_in_a_line() {
        insta::assert_snapshot!(text(&facts(vec![agent("a", "{}")])), @"
        ✔ nothing is wrong with the collector 0.1.0, 1 agent, 0 rules, 1 receiver
        ");
    }

    #[test]
    fn agents_are_judged() {
        let mut facts = facts(vec![
            agent("gone", r#"{"state":"away","since_ms":999000000,"certificate_not_after_ms":1086400000}"#),
            agent("mute", r#"{"last_sample_ms":990000000}"#),
            agent("late", r#"{"clock_skew_ms":-90000,"lost_frames":7}"#),
            agent("old", r#"{"software":"0.0.1","certificate_not_after_ms":1003600000}"#),
            agent("former", r#"{"state":"revoked","certificate_not_after_ms":1}"#),
            agent("full", "{}"),
        ]);
        let figure = |value: f64| BTreeMap::from([("full".to_owned(), value)]);
        facts.figures = BTreeMap::from([
            ("dropped", figure(12.2)),
            ("spool_bytes", figure(3e6)),
            ("spool_growth", figure(1e6)),
            ("source_errors", figure(2.0)),
        ]);
        insta::assert_snapshot!(text(&facts), @r#"
        ✖ agent gone: away for 16 min 40 s
            on gone: systemctl status pitwatch-agent, then pitwatch-agent doctor; no longer in use: pitwatch agents revoke gone
        ✖ agent mute: connected, but its last sample came 2 h 46 min ago
            on mute: pitwatch-agent once shows what it can read; journalctl -u pitwatch-agent
        ✖ agent late: its clock is 90 s behind
            its samples are at wrong times: let chrony or systemd-timesyncd set its clock
        ✖ agent old: its certificate ends in 1 h and was not renewed
            it renews by itself while it is connected: journalctl -u pitwatch-agent says why not
        ✖ agent full: it dropped 12 frames in the last hour
            its spool is at its bound: [queue] spool_max in its configuration, or why could it not send?
        … agent gone: its certificate ends in 1 d
            bring it back before that; later, pitwatch token create --name gone and enrol it again
        … agent late: 7 frames of it never came, since the collector's start
            it was away for longer than its spool holds, or too much came at once: [queue] spool_max in its configuration
        … agent full: its spool has 2.86 MiB and grew by 977 KiB in 10 min
            it gathers faster than it gets rid of: is the way to the collector slow, or the collector busy?
        … agent full: 2 reads of sources failed in the last hour
            which: pitwatch query 'increase(pitwatch_agent_source_errors_total{instance="full"}[1h]) > 0'
        … agents: one has another version than the collector's 0.1.0: old (0.0.1)
            old and new understand each other; bring them up when it suits
        found: 5 wrong, 5 to look at; looked at the collector 0.1.0, 6 agents, 0 rules, 1 receiver
        "#);
    }

    #[test]
    fn the_collector_is_judged() {
        let mut facts = facts(Vec::new());
        facts.status.ready = false;
        facts.status.not_ready_reason = Some("history cannot be written".to_owned());
        facts.status.now_ms = NOW_MS - 5000;
        facts.status.receivers[0].pending = 3;
        facts.status.storage.losses = vec!["/x.blk: the footer is damaged".to_owned()];
        facts.status.storage.refused = serde_json::from_str(
            r#"[{"agent":"web-1","refused_total":12,"limit":"over 50000 series of one agent","label":"path",
                "label_values":90,"series":100}]"#,
        )
        .unwrap();
        facts.status.sections.insert("disk".to_owned(), serde_json::json!({ "path": "/data", "free_bytes": 5e8 }));
        facts.rules = serde_json::from_str(
            r#"{"groups":[{"name":"node","file":"/etc/pitwatch/rules/node.yml","interval":5,"rules":[
                {"type":"recording","name":"a:b","health":"err","lastError":"many-to-many","query":"a + b",
                 "evaluationTime":7.0,"labels":{}}]}]}"#,
        )
        .unwrap();
        facts.figures = BTreeMap::from([("handshakes_failed", BTreeMap::from([(String::new(), 3.0)]))]);
        insta::assert_snapshot!(text(&facts), @"
        ✖ collector: not ready: history cannot be written
            agents keep what they have until it is; what it says: journalctl -u pitwatch-collector -n 50
        ✖ history: lost at the start: /x.blk: the footer is damaged
            pitwatch-collector verify says all that is damaged and what to do; a backup has it: pitwatch-collector restore
        ✖ agent web-1: 12 series refused, over 50000 series of one agent
            label path has 90 values: it should mostly be no label; leave it out where the series are made
        ✖ collector's disk: 477 MiB are left for /data
            [history] retention_max bounds what it takes; `pitwatch status` shows who takes it
        ✖ rule a:b: cannot be evaluated: many-to-many
            it watches nothing until /etc/pitwatch/rules/node.yml is mended; try it: pitwatch query 'a + b'
        ✖ receiver chat: 3 notifications are waiting, the last was delivered 11 d 13 h ago: HTTP 500
            is its address right, and does this collector reach it? They are kept and sent when it does
        … this host: its clock differs from the collector's by 5 s
            times such as `--time -5m` are of this clock: let chrony or systemd-timesyncd set it
        … collector: 3 handshakes of agents failed in the last hour
            somebody knocks with a certificate that is revoked, ended or of another collector; journalctl -u pitwatch-collector says from where
        … collector: no agent is enrolled
            pitwatch token create prints the line for a host
        … rule group node: takes 7 s and is due every 5 s
            alerts of /etc/pitwatch/rules/node.yml come late: make its expressions cheaper (pitwatch query --explain) or its interval longer
        found: 6 wrong, 4 to look at; looked at the collector 0.1.0, 0 agents, 1 rule, 1 receiver
        ");
    }
}
