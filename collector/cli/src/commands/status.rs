//! `pitwatch status`: how the collector itself is, section by section, and who and what takes its room.

use serde_json::Value;

use super::{Report, Screen, alerts, counted, own, with_line_feed};
use crate::answers::{Refused, StatusData, Storage};
use crate::args::ListFormat;
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone, one_line};
use crate::units::{Base, Unit, seconds};

/// Most agents and metrics in the text.
const ROOMS_MAX: usize = 10;
/// Most lines about losses, and about refusals.
const TROUBLES_MAX: usize = 5;

pub(super) async fn run(format: ListFormat, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let answer = client.get::<StatusData>(&own(&["status"])).await?;
    let data = &answer.data;
    let text = match format {
        ListFormat::Json => with_line_feed(answer.body),
        ListFormat::Csv => figures(data, screen).to_csv(),
        ListFormat::Table => {
            let figures = figures(data, screen).to_text(screen.color, screen.columns);
            headline(data, screen) + &figures + &rooms(&data.storage, screen)
        }
    };
    Ok(Report { text, warnings: answer.warnings, is_bad_news: is_bad_news(data), ..Report::default() })
}

fn is_bad_news(data: &StatusData) -> bool {
    let count = |kinds: &std::collections::BTreeMap<String, u64>, kind: &str| kinds.get(kind).copied().unwrap_or(0);
    !data.ready
        || count(&data.agents, "away") > 0
        || count(&data.alerts, "firing") > 0
        || data.receivers.iter().any(alerts::is_stuck)
        || !data.storage.losses.is_empty()
        || !data.storage.refused.is_empty()
}

fn headline(data: &StatusData, screen: &Screen) -> String {
    let state = match (&data.not_ready_reason, data.ready) {
        (_, true) => "✔ ready".to_owned(),
        (Some(reason), false) => Tone::Red.paint(&format!("✖ not ready: {}", one_line(reason)), screen.color),
        (None, false) => Tone::Red.paint("✖ not ready", screen.color),
    };
    let list = |kinds: &std::collections::BTreeMap<String, u64>, none: &str| {
        let parts: Vec<String> = kinds.iter().filter(|(_, n)| **n > 0).map(|(kind, n)| format!("{n} {kind}")).collect();
        if parts.is_empty() { none.to_owned() } else { parts.join(", ") }
    };
    let mut out = format!("pitwatch-collector {}, up {}  {state}\n", data.version, screen.clock.age(data.started_ms));
    out.push_str(&format!("agents: {}\n", list(&data.agents, "none")));
    out.push_str(&format!("alerts: {}\n", list(&data.alerts, "none")));
    for receiver in &data.receivers {
        let text = match alerts::is_stuck(receiver) {
            true => alerts::stuck(receiver, screen),
            false => {
                format!("receiver {}: {} delivered, {} waiting", receiver.name, receiver.delivered, receiver.pending)
            }
        };
        out.push_str(&text);
        out.push_str(&if receiver.failed > 0 {
            format!(" ({} tries failed)\n", receiver.failed)
        } else {
            "\n".to_owned()
        });
    }
    out + &troubles(&data.storage, screen)
}

/// What history lost and refuses, a line each.
fn troubles(storage: &Storage, screen: &Screen) -> String {
    let mut out = String::new();
    let mut line = |text: &str| out.push_str(&format!("{}\n", Tone::Red.paint(&format!("✖ {text}"), screen.color)));
    for loss in storage.losses.iter().take(TROUBLES_MAX) {
        line(&format!("lost at the start: {}", one_line(loss)));
    }
    for refused in storage.refused.iter().take(TROUBLES_MAX) {
        let Refused { agent, refused_total, limit, .. } = refused;
        let why = match (&refused.label, refused.label_values, refused.series) {
            (Some(label), Some(values), Some(series)) => {
                format!("; label {label} has {values} values in {series} series")
            }
            _ => String::new(),
        };
        line(&one_line(&format!(
            "{agent}: {} refused, {limit}{why}",
            counted(*refused_total as usize, "series", "series")
        )));
    }
    let left = [&storage.losses.len(), &storage.refused.len()].map(|len| len.saturating_sub(TROUBLES_MAX));
    if left[0] + left[1] > 0 {
        line(&format!("{} more: see -o json", left[0] + left[1]));
    }
    out
}

/// The largest agents and metrics.
fn rooms(storage: &Storage, screen: &Screen) -> String {
    let lists = [
        ("AGENT", "agents", &storage.agents, storage.agents_total),
        ("METRIC", "metrics", &storage.metrics, storage.metrics_total),
    ];
    let mut out = String::new();
    for (title, what, rooms, total) in lists {
        let mut table = Table::new(vec![
            Column::left(title, "name"),
            Column::right("DISK", "block_bytes"),
            Column::right("SAMPLES", "block_samples"),
            Column::right("A SAMPLE", "bytes_per_sample"),
            Column::right("IN MEMORY", "head_samples"),
        ]);
        for room in rooms.iter().take(ROOMS_MAX) {
            let count = |count: u64| Cell::with_exact(Unit::NUMBER.text(count as f64, &screen.clock), count);
            let each = (room.block_samples > 0).then(|| room.block_bytes as f64 / room.block_samples as f64);
            table.push(vec![
                Cell::new(one_line(&room.name)),
                Cell::with_exact(Unit::of(Base::Bytes).text(room.block_bytes as f64, &screen.clock), room.block_bytes),
                count(room.block_samples),
                Cell::maybe(each, |each| format!("{each:.2} B")),
                count(room.head_samples),
            ]);
        }
        if total > ROOMS_MAX {
            table = table.summary(format!("the largest {ROOMS_MAX} of {total} {what}; -o json has more"));
        }
        if total > 0 {
            out.push('\n');
            out.push_str(&table.to_text(screen.color, screen.columns));
        }
    }
    out
}

fn figures(data: &StatusData, screen: &Screen) -> Table {
    let mut table = Table::new(vec![
        Column::left("SECTION", "section"),
        Column::left("FIGURE", "figure"),
        Column::right("VALUE", "value"),
    ]);
    for (section, value) in &data.sections {
        let mut last = "";
        for (name, value) in flat("", value) {
            let heading = if last == section { "" } else { section };
            last = section;
            table.push(vec![Cell::with_exact(heading, section), Cell::new(&*name), figure(&name, value, screen)]);
        }
    }
    table
}

/// The leaves of a tree of figures, with dots between names.
fn flat<'v>(prefix: &str, value: &'v Value) -> Vec<(String, &'v Value)> {
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().flat_map(|(name, value)| flat(&join(name), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(at, value)| flat(&join(&at.to_string()), value)).collect()
        }
        value => vec![(prefix.to_owned(), value)],
    }
}

fn figure(name: &str, value: &Value, screen: &Screen) -> Cell {
    let (text, exact) = match value {
        Value::Null => return Cell::maybe(None::<String>, String::clone),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }.to_owned(), yes.to_string()),
        Value::Number(number) => (number_text(name, number.as_f64().unwrap_or(f64::NAN), screen), number.to_string()),
        Value::String(text) => (text.clone(), text.clone()),
        other => (other.to_string(), other.to_string()),
    };
    Cell::with_exact(text, exact)
}

/// Units by the ending of the name, as in the rest of the project.
fn number_text(name: &str, value: f64, screen: &Screen) -> String {
    let name = format!("_{name}");
    let is = |end: &str| name.ends_with(end);
    // A time since 1970, not a length, if it is as large as only those are.
    let is_moment = value > 1e12;
    if is("_ms") && is_moment {
        screen.clock.date_time(value as i64)
    } else if is("_ms") {
        seconds(value / 1000.0)
    } else if is("_secs") || is("_seconds") {
        seconds(value)
    } else if is("_bytes_per_second") {
        Unit { base: Base::NetworkBytes, per_second: true }.text(value, &screen.clock)
    } else if let Some(stem) = name.strip_suffix("_per_second") {
        Unit { per_second: true, ..Unit::of_metric(stem) }.text(value, &screen.clock)
    } else {
        Unit::of_metric(&name).text(value, &screen.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_status_is_a_headline_and_figures() {
        let data: StatusData = serde_json::from_str(
            r#"{"version":"0.1.0","started_ms":1772320000000,"now_ms":1,"ready":false,
              "not_ready_reason":"the disk is full: no frame is acknowledged",
              "agents":{"connected":3,"away":1,"revoked":0},"alerts":{"firing":0,"pending":0},
              "receivers":[{"name":"chat","pending":0,"delivered":12,"failed":2,"last_error":null,
                            "last_success_ms":1772331000000}],
              "storage":{"losses":["/x/1.blk: the footer is damaged"],
                "agents":[{"name":"web-1","block_bytes":2097152,"block_samples":4000000,"head_samples":12000},
                          {"name":"[collector]","block_bytes":0,"block_samples":0,"head_samples":90}],
                "agents_total":2,"metrics":[{"name":"node_load1","block_bytes":4096,"block_samples":8000,"head_samples":0}],
                "metrics_total":40,"index_bytes":5,
                "refused":[{"agent":"web-1","refused_total":12,"limit":"the limit of series of one agent is reached",
                  "label":"path","label_values":900,"series":1000,"last":"x"}]},
              "sections":{"wal":{"bytes":1048576,"wal_bytes":1048576,"last_commit_ms":1772331240000,"full":true},
                          "ingest":{"samples_per_second":604.2,"lanes":{"metrics":{"frames":3}},"last_error":null}}}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_772_331_247_000), color: false, width: 100, columns: None };
        assert!(is_bad_news(&data));
        let text =
            headline(&data, &screen) + &figures(&data, &screen).to_text(false, None) + &rooms(&data.storage, &screen);
        insta::assert_snapshot!(text, @"
        pitwatch-collector 0.1.0, up 3 h 7 min  ✖ not ready: the disk is full: no frame is acknowledged
        agents: 1 away, 3 connected
        alerts: none
        receiver chat: 12 delivered, 0 waiting (2 tries failed)
        ✖ lost at the start: /x/1.blk: the footer is damaged
        ✖ web-1: 12 series refused, the limit of series of one agent is reached; label path has 900 values in 1000 series
        SECTION  FIGURE                              VALUE
        ingest   lanes.metrics.frames                    3
                 last_error                              –
                 samples_per_second                  604/s
        wal      bytes                               1 MiB
                 full                                  yes
                 last_commit_ms        2026-03-01 02:14:00
                 wal_bytes                           1 MiB

        AGENT         DISK  SAMPLES  A SAMPLE  IN MEMORY
        web-1        2 MiB  4000000    0.52 B      12000
        [collector]    0 B        0         –         90

        METRIC       DISK  SAMPLES  A SAMPLE  IN MEMORY
        node_load1  4 KiB     8000    0.51 B          0
        the largest 10 of 40 metrics; -o json has more
        ");
    }
}
