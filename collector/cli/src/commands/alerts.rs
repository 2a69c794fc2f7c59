//! `pitwatch alerts`: what is wrong now, whether it reaches anybody, and who has it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Report, Screen, age, counted, own, state, tally};
use crate::answers::{Alert, AlertsData, Receiver};
use crate::args::AlertsCommand;
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone, one_line};
use crate::units::Unit;

/// Does something about an alert.
pub(super) async fn act(command: &AlertsCommand, client: &Client) -> Result<Report, CliError> {
    let (fingerprint, what, body, done) = match command {
        AlertsCommand::Ack { fingerprint, comment } => {
            (fingerprint, "ack", json!({ "comment": comment }), "acknowledged: it is not told again until it is over")
        }
        AlertsCommand::Unack { fingerprint } => (fingerprint, "unack", json!({}), "no longer acknowledged"),
        AlertsCommand::Assign { fingerprint, to } => (fingerprint, "assign", json!({ "to": to }), "assigned"),
        AlertsCommand::Comment { fingerprint, text } => (fingerprint, "comment", json!({ "comment": text }), "noted"),
    };
    client.send::<Value>(Method::POST, &own(&["alerts", fingerprint, what]), &body).await?;
    Ok(Report::text(format!("{done}\n")))
}

pub(super) fn arrange(data: &AlertsData, screen: &Screen) -> (Table, bool) {
    let columns = vec![
        Column::left("STATE", "state"),
        Column::left("ALERT", "alert"),
        Column::left("SEVERITY", "severity"),
        Column::left("HOST", "instance"),
        Column::left("FOR", "active_at_ms"),
        Column::right("VALUE", "value"),
        Column::left("WHO", "who"),
        Column::left("FINGERPRINT", "fingerprint"),
        Column::left("WHAT", "summary"),
    ];
    let mut table = Table::new(columns);
    let mut alerts: Vec<&Alert> = data.alerts.iter().collect();
    alerts.sort_by_key(|alert| (alert.state == "pending", severity_rank(alert), alert.active_at_ms));
    for alert in alerts {
        table.push(row(alert, screen));
    }
    let count = |word: &str| data.alerts.iter().filter(|alert| alert.state == word).count();
    let (firing, pending) = (count("firing") + count("no_data"), count("pending"));
    let silenced = data.alerts.iter().filter(|alert| !alert.silenced_by.is_empty()).count();
    let total = counted(data.alerts.len(), "alert", "alerts");
    let mut summary = match data.alerts.len() {
        0 => "no alerts".to_owned(),
        _ => tally(total, &[(firing, "firing"), (pending, "pending"), (silenced, "silenced")]),
    };
    for receiver in data.receivers.iter().filter(|receiver| is_stuck(receiver)) {
        summary.push('\n');
        summary.push_str(&stuck(receiver, screen));
    }
    (table.summary(summary), firing > 0)
}

/// Whether what it shall get does not get there.
pub(super) fn is_stuck(receiver: &Receiver) -> bool {
    receiver.pending > 0 && receiver.last_error.is_some()
}

/// A stuck receiver in a sentence.
pub(super) fn stuck(receiver: &Receiver, screen: &Screen) -> String {
    let since = match receiver.last_success_ms {
        Some(ms) => format!("last delivered {} ago", screen.clock.age(ms)),
        None => "nothing delivered yet".to_owned(),
    };
    let error = one_line(receiver.last_error.as_deref().unwrap_or_default());
    let text = format!("receiver {}: {} waiting, {since}: {error}", receiver.name, receiver.pending);
    Tone::Red.paint(&text, screen.color)
}

fn row(alert: &Alert, screen: &Screen) -> Vec<Cell> {
    let label = |name: &str| Cell::new(alert.labels.get(name).map_or("", String::as_str));
    let note = ["summary", "description", "message"].iter().find_map(|name| alert.annotations.get(*name));
    let value = match alert.no_data {
        true => Cell::with_exact("no data", "").tone(Tone::Amber),
        false => Cell::maybe(alert.value, |value| Unit::NUMBER.text(*value, &screen.clock)),
    };
    vec![
        state(&alert.state),
        Cell::new(&*alert.name),
        label("severity"),
        label("instance"),
        age(Some(alert.active_at_ms), screen),
        value,
        who(alert),
        Cell::new(&*alert.fingerprint).tone(Tone::Faint),
        Cell::new(note.map_or("", String::as_str)),
    ]
}

/// Who has it, or what holds it back.
fn who(alert: &Alert) -> Cell {
    match (&alert.assigned_to, &alert.acknowledged) {
        (Some(to), _) => Cell::new(&**to),
        (None, Some(by)) => Cell::new(&*by.by),
        (None, None) if !alert.silenced_by.is_empty() => Cell::new("silenced").tone(Tone::Faint),
        (None, None) if !alert.inhibited_by.is_empty() => Cell::new("kept quiet").tone(Tone::Faint),
        (None, None) => Cell::default(),
    }
}

/// The usual words of rule files, the worst first; others between.
fn severity_rank(alert: &Alert) -> u8 {
    match alert.labels.get("severity").map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("critical" | "page" | "emergency" | "disaster") => 0,
        Some("error" | "major" | "high") => 1,
        Some("warning" | "minor") => 3,
        Some("info" | "none" | "debug") => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn alerts_come_worst_first() {
        let data: AlertsData = serde_json::from_str(
            r#"{"alerts":[
                {"name":"Load","state":"pending","labels":{"instance":"a","severity":"critical"},"annotations":{},
                 "active_at_ms":990000,"fired_at_ms":null,"value":17.5,"no_data":false},
                {"name":"Clock","state":"firing","labels":{"instance":"b","severity":"warning"},"annotations":{},
                 "active_at_ms":100000,"fired_at_ms":200000,"value":null,"no_data":true},
                {"name":"DiskFull","state":"firing","labels":{"instance":"db-eu-3","severity":"critical"},
                 "annotations":{"summary":"/data is\nfull"},"active_at_ms":520000,"fired_at_ms":580000,"value":0.91,
                 "no_data":false}],
              "receivers":[{"name":"chat","pending":3,"delivered":10,"failed":4,"last_error":"HTTP 500",
                 "last_success_ms":400000},
                {"name":"ok","pending":0,"delivered":1,"failed":1,"last_error":"HTTP 500","last_success_ms":1}]}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
        let (table, is_bad_news) = arrange(&data, &screen);
        assert!(is_bad_news);
        insta::assert_snapshot!(table.to_text(false, None), @"
        STATE      ALERT     SEVERITY  HOST     FOR       VALUE  WHO  FINGERPRINT  WHAT
        ✖ firing   DiskFull  critical  db-eu-3  8 min      0.91                    /data is full
        ✖ firing   Clock     warning   b        15 min  no data
        … pending  Load      critical  a        10 s       17.5
        3 alerts: 2 firing, 1 pending
        receiver chat: 3 waiting, last delivered 10 min ago: HTTP 500
        ");
        let (table, is_bad_news) = arrange(&AlertsData { alerts: Vec::new(), receivers: Vec::new() }, &screen);
        assert_eq!((table.to_text(false, None).as_str(), is_bad_news), ("no alerts\n", false));
    }
}
