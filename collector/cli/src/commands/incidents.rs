//! `pitwatch incidents`: alerts of one cause as one case, who has it, and how it went.

use reqwest::Method;
use serde_json::json;

use super::{Report, Screen, counted, list, own, state, tally, with_line_feed};
use crate::answers::{Entry, Incident, IncidentsData};
use crate::args::{IncidentsArgs, IncidentsCommand, ListFormat};
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, one_line};
use crate::units::seconds;

pub(super) async fn run(args: &IncidentsArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let act = |id: u64, what: &'static str, body: serde_json::Value| async move {
        let id = id.to_string();
        let answer = client.send::<Incident>(Method::POST, &own(&["incidents", &id, what]), &body).await?;
        Ok(Report::text(line(&answer.data, screen)))
    };
    match &args.command {
        None => {
            let answer = client.get::<IncidentsData>(&own(&["incidents"])).await?;
            list(args.list, answer, screen, |data, screen| arrange(data, args.all, screen))
        }
        Some(IncidentsCommand::Show { id, output }) => {
            let answer = client.get::<Incident>(&own(&["incidents", &id.to_string()])).await?;
            match output.output {
                ListFormat::Json => Ok(Report::text(with_line_feed(answer.body))),
                _ => Ok(Report::text(story(&answer.data, screen))),
            }
        }
        Some(IncidentsCommand::Ack { id, comment }) => act(*id, "ack", json!({ "comment": comment })).await,
        Some(IncidentsCommand::Assign { id, to }) => act(*id, "assign", json!({ "to": to })).await,
        Some(IncidentsCommand::Comment { id, text }) => act(*id, "comment", json!({ "comment": text })).await,
        Some(IncidentsCommand::Close { id, comment }) => act(*id, "close", json!({ "comment": comment })).await,
    }
}

fn arrange(data: &IncidentsData, all: bool, screen: &Screen) -> (Table, bool) {
    let mut table = Table::new(vec![
        Column::left("STATE", "state"),
        Column::right("ID", "id"),
        Column::left("SINCE", "opened_ms"),
        Column::left("LASTED", "lasted_seconds"),
        Column::right("ALERTS", "alerts"),
        Column::left("WHO", "assigned_to"),
        Column::left("WHAT", "title"),
    ]);
    let shown: Vec<&Incident> = data.incidents.iter().filter(|one| all || one.state == "open").collect();
    for incident in &shown {
        table.push(row(incident, screen));
    }
    let open = shown.iter().filter(|one| one.state == "open").count();
    let total = counted(shown.len(), "incident", "incidents");
    let summary = if shown.is_empty() { "no incidents".to_owned() } else { tally(total, &[(open, "open")]) };
    (table.summary(summary), open > 0)
}

fn lasted(incident: &Incident, screen: &Screen) -> String {
    let ms = incident.closed_ms.unwrap_or(screen.clock.now_ms) - incident.opened_ms;
    #[expect(clippy::cast_precision_loss, reason = "seconds of an incident")]
    seconds((ms.max(0) / 1000) as f64)
}

fn who(incident: &Incident) -> String {
    match (&incident.assigned_to, &incident.acknowledged) {
        (Some(to), _) => to.clone(),
        (None, Some(by)) => by.by.clone(),
        (None, None) => String::new(),
    }
}

fn row(incident: &Incident, screen: &Screen) -> Vec<Cell> {
    vec![
        state(if incident.state == "open" { "firing" } else { "ok" }),
        Cell::new(incident.id.to_string()),
        Cell::with_exact(screen.clock.short(incident.opened_ms), incident.opened_ms),
        Cell::new(lasted(incident, screen)),
        Cell::new(incident.alerts.to_string()),
        Cell::new(who(incident)),
        Cell::new(one_line(&incident.title)),
    ]
}

fn line(incident: &Incident, screen: &Screen) -> String {
    let who = who(incident);
    let who = if who.is_empty() { String::new() } else { format!(", {who}") };
    format!("incident {} ({}, {}{who}): {}\n", incident.id, incident.state, lasted(incident, screen), incident.title)
}

/// The incident and its timeline.
fn story(incident: &Incident, screen: &Screen) -> String {
    let mut out = line(incident, screen);
    out.push_str(&format!(
        "cause {}, {} so far\n\n",
        incident.cause,
        counted(incident.alerts as usize, "alert", "alerts")
    ));
    for Entry { at_ms, what, by, text } in &incident.timeline {
        let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        out.push_str(&format!("{}  {what}{by}  {}\n", screen.clock.short(*at_ms), one_line(text)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn an_incident_reads_as_a_story() {
        let incident: Incident = serde_json::from_str(
            r#"{"id":7,"cause":"instance=db-1","title":"disk full","severity":"critical","state":"open","opened_ms":400000,
                "closed_ms":null,"acknowledged":{"by":"ann","at_ms":1,"comment":""},"assigned_to":null,"alerts":2,"firing":1,
                "entries":2,"timeline":[
                {"at_ms":400000,"what":"fired","fingerprint":"f","fired_at_ms":1,"by":null,"text":"disk full"},
                {"at_ms":460000,"what":"acknowledged","fingerprint":null,"fired_at_ms":null,"by":"ann","text":"on it"}]}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
        insta::assert_snapshot!(story(&incident, &screen), @"
        incident 7 (open, 10 min, ann): disk full
        cause instance=db-1, 2 alerts so far

        00:06  fired  disk full
        00:07  acknowledged by ann  on it
        ");
    }
}
