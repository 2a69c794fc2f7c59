//! `pitwatch events`: what happened on hosts, the newest first.

use super::{Report, Screen, counted, list, own};
use crate::answers::EventsData;
use crate::args::EventsArgs;
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone};

pub(super) async fn run(args: &EventsArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let mut query = vec![("limit", args.limit.to_string())];
    for (name, value) in [("start", &args.since), ("end", &args.until)] {
        let Some(text) = value else { continue };
        // `--since 1h` is what people write for an hour ago.
        let ago = format!("-{text}");
        let Some(ms) = screen.clock.parse(text).or_else(|| screen.clock.parse(&ago)) else {
            let option = if name == "start" { "--since" } else { "--until" };
            let what = format!("{option} {text} is no time: write 2h (ago), now, or 2026-03-01T02:14:00Z");
            return Err(CliError::Usage(what));
        };
        query.push((name, format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))));
    }
    let lists = [("host", &args.host), ("kind", &args.kind), ("severity", &args.severity)];
    query.extend(lists.iter().flat_map(|(name, values)| values.iter().map(|value| (*name, value.clone()))));
    let answer = client.get_with(&own(&["events"]), &query).await?;
    list(args.list, answer, screen, arrange)
}

fn arrange(data: &EventsData, screen: &Screen) -> (Table, bool) {
    let mut table = Table::new(vec![
        Column::left("WHEN", "time_ms"),
        Column::left("SEVERITY", "severity"),
        Column::left("HOST", "host"),
        Column::left("KIND", "kind"),
        Column::left("WHAT", "summary"),
        Column::left("DETAILS", "labels"),
    ]);
    for event in &data.events {
        let (mark, tone) = match event.severity.as_str() {
            "critical" => ("✖", Tone::Red),
            "warning" => ("…", Tone::Amber),
            _ => ("·", Tone::Plain),
        };
        let labels: Vec<String> = event.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.push(vec![
            Cell::with_exact(screen.clock.date_time(event.time_ms), event.time_ms),
            Cell::with_exact(format!("{mark} {}", event.severity), &event.severity).tone(tone),
            Cell::new(&*event.host),
            Cell::new(&*event.kind),
            Cell::new(&*event.summary),
            Cell::new(labels.join(" ")),
        ]);
    }
    let summary = match (data.events.len(), data.more) {
        (0, _) => "no events".to_owned(),
        (count, false) => counted(count, "event", "events"),
        (count, true) => format!("the newest {}; --limit and --until show more", counted(count, "event", "events")),
    };
    (table.summary(summary), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn events_are_written_for_people_and_for_machines() {
        let data: EventsData = serde_json::from_str(
            r#"{"events":[{"id":"7.1","time_ms":1000,"host":"db-1","kind":"oom_kill","severity":"critical",
                "summary":"the kernel killed mysqld","labels":{"pid":"4711"}}],"more":true}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
        let (table, is_bad_news) = arrange(&data, &screen);
        assert!(!is_bad_news);
        let text = table.to_text(false, None);
        for part in ["✖ critical", "db-1", "oom_kill", "the kernel killed mysqld", "pid=4711", "the newest 1 event"] {
            assert!(text.contains(part), "{part} not in:\n{text}");
        }
        let csv = table.to_csv();
        assert_eq!(csv.lines().nth(1), Some("1000,critical,db-1,oom_kill,the kernel killed mysqld,pid=4711"), "{csv}");
    }
}
