//! `pitwatch silence`: what is held back, by whom, why and until when.

use jiff::{Timestamp, Zoned};
use pitwatch_alerting::Matcher;
use pitwatch_alerting::matchers::to_text;
use pitwatch_alerting::routing::interval::{TimeInterval, Written, WrittenTimes};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Report, Screen, alerts, counted, list, own, state, tally, with_line_feed};
use crate::answers::{AlertsData, Silence, SilenceMade};
use crate::args::{ListArgs, ListFormat, SilenceAddArgs, SilenceCommand, SilenceEditArgs, SilenceListArgs};
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table};
use crate::units::seconds;

const V2: [&str; 2] = ["api", "v2"];
/// A silence that comes again and has no end of its own ends after this, years.
const FOREVER_YEARS: i64 = 10;

pub(super) async fn run(command: &SilenceCommand, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    match command {
        SilenceCommand::Add(args) => add(args, client, screen).await,
        SilenceCommand::Edit(args) => edit(args, client, screen).await,
        SilenceCommand::List(args) => show(args, client, screen).await,
        SilenceCommand::Expire { ids } => expire(ids, client).await,
        SilenceCommand::Preview { matchers, output } => preview(&parse(matchers)?, *output, client, screen).await,
    }
}

/// `alertname` may be left out of the first matcher, as with amtool.
fn parse(texts: &[String]) -> Result<Vec<Matcher>, CliError> {
    let read = |(at, text): (usize, &String)| {
        let named = if at == 0 && !text.contains('=') { format!("alertname={text}") } else { text.clone() };
        pitwatch_alerting::matchers::parse_matchers(&named).map_err(CliError::Usage)
    };
    let lists = texts.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(lists.into_iter().flatten().collect())
}

async fn add(args: &SilenceAddArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let now_ms = screen.clock.now_ms;
    let recurrence =
        args.every.iter().map(|text| interval(text, args.zone.as_deref())).collect::<Result<Vec<_>, _>>()?;
    let starts_ms = args.start.as_deref().map(time).transpose()?.unwrap_or(now_ms);
    let ends_ms = match (&args.until, &args.duration) {
        (Some(until), _) => time(until)?,
        (None, Some(length)) => starts_ms + duration(length)?,
        (None, None) if !recurrence.is_empty() => now_ms + FOREVER_YEARS * 365 * 86_400_000,
        (None, None) => {
            return Err(CliError::Usage("say how long: --for 2h, or --until '2026-03-01 09:00'".to_owned()));
        }
    };
    let author = args.author.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "pitwatch".to_owned());
    let body = json!({
        "matchers": parse(&args.matchers)?,
        "startsAt": pitwatch_alerting::time::rfc3339(starts_ms),
        "endsAt": pitwatch_alerting::time::rfc3339(ends_ms),
        "createdBy": author,
        "comment": args.comment,
        "recurrence": recurrence,
    });
    let (id, means) = set(&body, ends_ms, client, screen).await?;
    Ok(Report::text(format!("{id}\n{means}; end it with: pitwatch silence expire {id}\n")))
}

/// Has a silence made or changed; gives its id and what it means now.
async fn set(body: &Value, ends_ms: i64, client: &Client, screen: &Screen) -> Result<(String, String), CliError> {
    let path = [V2[0], V2[1], "silences"];
    let made = client.plain::<SilenceMade>(Method::POST, &path, Some(body)).await?.data;
    let held = client.send::<AlertsData>(Method::POST, &own(&["silences", "preview"]), body).await?;
    let held = counted(held.data.alerts.len(), "alert", "alerts");
    Ok((made.id, format!("matches {held} now, until {}", screen.clock.short(ends_ms))))
}

async fn edit(args: &SilenceEditArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let old = client.plain::<Silence>(Method::GET, &[V2[0], V2[1], "silence", &args.id], None).await?.data;
    let (body, ends_ms) = changed(&old, args, screen.clock.now_ms)?;
    let (id, means) = set(&body, ends_ms, client, screen).await?;
    let other = if id == old.id { String::new() } else { format!("in the place of {}, which has ended; ", old.id) };
    Ok(Report::text(format!("{id}\n{other}{means}\n")))
}

/// The silence as it shall be, and when it ends then.
fn changed(old: &Silence, args: &SilenceEditArgs, now_ms: i64) -> Result<(Value, i64), CliError> {
    let has_times = [&args.duration, &args.until, &args.start].into_iter().any(Option::is_some);
    let has_words = args.comment.is_some() || args.author.is_some();
    if !has_times && !has_words && !args.once && args.every.is_empty() && args.matchers.is_empty() {
        let ways = "--for, --until, --start, --every, --once, --comment, --author, or other matchers";
        return Err(CliError::Usage(format!("say what shall change: {ways}")));
    }
    let starts_ms = match &args.start {
        Some(_) if old.status.state == "active" => {
            return Err(CliError::Usage(
                "it holds already: only a silence that is to come can start at another time".to_owned(),
            ));
        }
        Some(start) => time(start)?,
        None => instant(&old.starts_at),
    };
    let ends_ms = match (&args.until, &args.duration) {
        (Some(until), _) => time(until)?,
        (None, Some(length)) => starts_ms.max(now_ms) + duration(length)?,
        (None, None) => instant(&old.ends_at),
    };
    if ends_ms <= now_ms {
        let what = "it has ended: say how long it shall hold again, with --for or --until";
        let past = "that is in the past: end a silence with `pitwatch silence expire ID`";
        let is_said = args.until.is_some();
        return Err(CliError::Usage(if is_said { past } else { what }.to_owned()));
    }
    let recurrence = match (args.once, args.every.as_slice()) {
        (true, _) => json!([]),
        (false, []) => json!(old.recurrence),
        (false, every) => {
            let read = every.iter().map(|text| interval(text, args.zone.as_deref()));
            json!(read.collect::<Result<Vec<_>, _>>()?)
        }
    };
    let body = json!({
        "id": old.id,
        "matchers": if args.matchers.is_empty() { old.matchers.clone() } else { parse(&args.matchers)? },
        "startsAt": pitwatch_alerting::time::rfc3339(starts_ms),
        "endsAt": pitwatch_alerting::time::rfc3339(ends_ms),
        "createdBy": args.author.as_ref().unwrap_or(&old.created_by),
        "comment": args.comment.as_ref().unwrap_or(&old.comment),
        "recurrence": recurrence,
    });
    Ok((body, ends_ms))
}

/// A time of the collector's, milliseconds since the Unix epoch.
fn instant(text: &str) -> i64 {
    text.parse::<Timestamp>().map(Timestamp::as_millisecond).unwrap_or_default()
}

async fn show(args: &SilenceListArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let path = [V2[0], V2[1], "silences"];
    let mut answer = client.plain::<Vec<Silence>>(Method::GET, &path, None).await?;
    if !args.all {
        answer.data.retain(|silence| silence.status.state != "expired");
    }
    list(args.list, answer, screen, |silences, screen| arrange(silences, screen))
}

fn arrange(silences: &[Silence], screen: &Screen) -> (Table, bool) {
    let mut table = Table::new(vec![
        Column::left("STATE", "state"),
        Column::left("ID", "id"),
        Column::left("MATCHERS", "matchers"),
        Column::left("ENDS", "ends"),
        Column::left("BY", "created_by"),
        Column::left("WHY", "comment"),
    ]);
    for silence in silences {
        table.push(row(silence, screen));
    }
    let count = |word: &str| silences.iter().filter(|silence| silence.status.state == word).count();
    let total = counted(silences.len(), "silence", "silences");
    let kinds = [(count("active"), "active"), (count("pending"), "pending"), (count("expired"), "ended")];
    (table.summary(tally(total, &kinds)), false)
}

fn row(silence: &Silence, screen: &Screen) -> Vec<Cell> {
    let ends_ms = instant(&silence.ends_at);
    let left_secs = (ends_ms - screen.clock.now_ms) / 1000;
    let again = if silence.recurrence.is_empty() { "" } else { ", again and again" };
    let ends = match silence.status.state.as_str() {
        "expired" => format!("{} ago", screen.clock.age(ends_ms)),
        #[expect(clippy::cast_precision_loss, reason = "seconds of a silence")]
        _ => format!("in {}{again}", seconds(left_secs as f64)),
    };
    vec![
        state(&silence.status.state),
        Cell::new(&*silence.id),
        Cell::new(to_text(&silence.matchers)),
        Cell::with_exact(ends, &*silence.ends_at),
        Cell::new(&*silence.created_by),
        Cell::new(&*silence.comment),
    ]
}

async fn expire(ids: &[String], client: &Client) -> Result<Report, CliError> {
    for id in ids {
        client.plain::<Value>(Method::DELETE, &[V2[0], V2[1], "silence", id], None).await?;
    }
    Ok(Report::text(format!("ended: {}\n", ids.join(", "))))
}

async fn preview(matchers: &[Matcher], args: ListArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let body = json!({ "matchers": matchers });
    let answer = client.send::<AlertsData>(Method::POST, &own(&["silences", "preview"]), &body).await?;
    if args.output == ListFormat::Json {
        return Ok(Report::text(with_line_feed(answer.body)));
    }
    let report = list(args, answer, screen, alerts::arrange)?;
    // What would be silenced is no bad news.
    Ok(Report { is_bad_news: false, ..report })
}

fn duration(text: &str) -> Result<i64, CliError> {
    let ms = pitwatch_promql::parse_duration(text).filter(|ms| *ms > 0);
    ms.ok_or_else(|| CliError::Usage(format!("{text} is no duration such as 30m, 2h or 7d")))
}

/// `2026-03-01T09:00:00Z`, or a local time such as `2026-03-01 09:00`, or `09:00` (the next one).
fn time(text: &str) -> Result<i64, CliError> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_millisecond());
    }
    let local = |civil: jiff::civil::DateTime| civil.to_zoned(jiff::tz::TimeZone::system());
    if let Ok(civil) = text.replace(' ', "T").parse::<jiff::civil::DateTime>()
        && let Ok(zoned) = local(civil)
    {
        return Ok(zoned.timestamp().as_millisecond());
    }
    let next = |clock: jiff::civil::Time| {
        let now = Zoned::now();
        let today = local(now.date().to_datetime(clock)).ok()?;
        if today > now { Some(today) } else { local(now.date().tomorrow().ok()?.to_datetime(clock)).ok() }
    };
    text.parse::<jiff::civil::Time>()
        .ok()
        .and_then(next)
        .map(|zoned| zoned.timestamp().as_millisecond())
        .ok_or_else(|| CliError::Usage(format!("{text:?} is no time such as 09:00 or '2026-03-01 09:00'")))
}

/// `sat,sun 02:00-04:00`, `02:00-04:00`, `monday:friday`: days of the week and a range of the day, either or both.
fn interval(text: &str, zone: Option<&str>) -> Result<TimeInterval, CliError> {
    let mut written = Written { location: zone.map(str::to_owned), ..Written::default() };
    if written.location.is_none() {
        written.location = jiff::tz::TimeZone::system().iana_name().map(str::to_owned);
    }
    for word in text.split_whitespace() {
        match word
            .split_once('-')
            .filter(|(from, _)| from.contains(':') && from.starts_with(|c: char| c.is_ascii_digit()))
        {
            Some((from, to)) => {
                written.times.push(WrittenTimes { start_time: from.to_owned(), end_time: to.to_owned() });
            }
            None => written.weekdays.extend(word.split(',').map(weekdays)),
        }
    }
    if written.times.is_empty() && written.weekdays.is_empty() {
        return Err(CliError::Usage(format!("--every {text:?}: write it like 'sat,sun 02:00-04:00'")));
    }
    TimeInterval::try_from(written).map_err(|wrong| CliError::Usage(format!("--every {text:?}: {wrong}")))
}

/// Short names of days, and ranges of them, in full.
fn weekdays(text: &str) -> String {
    const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let full = |word: &str| {
        let lower = word.to_lowercase();
        let day = DAYS.iter().find(|day| lower.len() >= 3 && day.starts_with(&lower));
        day.map_or(lower.clone(), |day| (*day).to_owned())
    };
    text.split([':', '-']).map(full).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn matchers_as_amtool_takes_them() {
        let read = |texts: &[&str]| {
            parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).map(|m| to_text(&m)).ok()
        };
        assert_eq!(
            read(&["DiskFull", "instance=~db-.*"]).as_deref(),
            Some(r#"{alertname="DiskFull",instance=~"db-.*"}"#)
        );
        assert_eq!(read(&["a=b", "c"]), None);
    }

    #[test]
    fn windows_as_people_write_them() {
        let json =
            |text: &str| interval(text, Some("Europe/Berlin")).map(|one| serde_json::to_string(&one).unwrap()).ok();
        assert_eq!(
            json("sat,sun 02:00-04:00").as_deref(),
            Some(
                r#"{"times":[{"start_time":"02:00","end_time":"04:00"}],"weekdays":["saturday","sunday"],"location":"Europe/Berlin"}"#
            )
        );
        assert_eq!(json("mon-fri").as_deref(), Some(r#"{"weekdays":["monday:friday"],"location":"Europe/Berlin"}"#));
        for wrong in ["", "funday", "25:00-26:00", "04:00-02:00"] {
            assert_eq!(json(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_change_keeps_what_is_not_said() {
        let old: Silence = serde_json::from_str(
            r#"{"id":"c479-1","status":{"state":"active"},"comment":"disk swap","createdBy":"ann",
                "endsAt":"1970-01-01T02:00:00Z","startsAt":"1970-01-01T00:00:00Z",
                "matchers":[{"isEqual":true,"isRegex":false,"name":"instance","value":"db-1"}],
                "recurrence":[{"weekdays":["sunday"]}]}"#,
        )
        .unwrap();
        let none = || SilenceEditArgs {
            id: "c479-1".to_owned(),
            matchers: Vec::new(),
            duration: None,
            until: None,
            start: None,
            every: Vec::new(),
            once: false,
            zone: None,
            comment: None,
            author: None,
        };
        let body = |args: &SilenceEditArgs| changed(&old, args, 3_600_000).map(|(body, _)| body);
        let longer = body(&SilenceEditArgs { duration: Some("4h".to_owned()), ..none() }).unwrap();
        let expected = json!({
            "id": "c479-1",
            "matchers": old.matchers,
            "startsAt": "1970-01-01T00:00:00Z",
            "endsAt": "1970-01-01T05:00:00Z",
            "createdBy": "ann",
            "comment": "disk swap",
            "recurrence": [{ "weekdays": ["sunday"] }],
        });
        assert_eq!(longer, expected);
        let other = SilenceEditArgs {
            matchers: vec!["instance=db-2".to_owned()],
            comment: Some("x".to_owned()),
            once: true,
            ..none()
        };
        let other = body(&other).unwrap();
        assert_eq!((&other["matchers"][0]["value"], &other["comment"]), (&json!("db-2"), &json!("x")));
        assert_eq!((&other["recurrence"], &other["endsAt"]), (&json!([]), &json!("1970-01-01T02:00:00Z")));
        let refusal = |args: &SilenceEditArgs, now_ms| changed(&old, args, now_ms).unwrap_err().to_string();
        assert!(refusal(&none(), 0).contains("what shall change"));
        let start = SilenceEditArgs { start: Some("09:00".to_owned()), ..none() };
        assert!(refusal(&start, 0).contains("holds already"));
        let late = SilenceEditArgs { comment: Some("x".to_owned()), ..none() };
        assert!(refusal(&late, 9_000_000).contains("it has ended"));
        let past = SilenceEditArgs { until: Some("1970-01-01T00:30:00Z".to_owned()), ..none() };
        assert!(refusal(&past, 3_600_000).contains("in the past"));
    }

    #[test]
    fn silences_are_listed_with_who_and_why() {
        let silences: Vec<Silence> = serde_json::from_str(
            r#"[{"id":"c479-1","status":{"state":"active"},"comment":"disk swap","createdBy":"ann",
                "endsAt":"1970-01-01T02:16:40Z","startsAt":"1970-01-01T00:00:00Z",
                "matchers":[{"isEqual":true,"isRegex":true,"name":"instance","value":"db-.*"}]},
               {"id":"c479-2","status":{"state":"expired"},"comment":"x","createdBy":"bob","endsAt":"1970-01-01T00:15:00Z",
                "startsAt":"1970-01-01T00:00:00Z","matchers":[{"isEqual":true,"isRegex":false,"name":"a","value":"b"}]}]"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
        insta::assert_snapshot!(arrange(&silences, &screen).0.to_text(false, None), @r#"
        STATE      ID      MATCHERS             ENDS       BY   WHY
        · active   c479-1  {instance=~"db-.*"}  in 2 h     ann  disk swap
        · expired  c479-2  {a="b"}              100 s ago  bob  x
        2 silences: 1 active, 1 ended
        "#);
    }
}
