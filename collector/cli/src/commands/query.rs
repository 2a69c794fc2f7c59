//! `pitwatch query`: an expression's values as a table, JSON, CSV or a chart.

mod explain;
mod write;

use super::{Report, Screen, with_line_feed};
use crate::answers::{MatrixSeries, QueryData};
use crate::args::{QueryArgs, QueryFormat};
use crate::clock::Clock;
use crate::connect::{Answer, Client};
use crate::error::CliError;
use crate::plot::{Line, Plot};
use crate::units;

/// The range of a plot where none is given.
const PLOT_RANGE: &str = "1h";
/// About as many points as a range gets where no step is given.
const POINTS: i64 = 240;
/// Steps that people would choose, in milliseconds.
const STEPS_MS: [i64; 14] = [
    1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 21_600_000,
    86_400_000,
];

/// When to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    At { time_ms: i64 },
    Over { start_ms: i64, end_ms: i64, step_ms: i64 },
}

pub(super) async fn run(args: &QueryArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let when = when(args, &screen.clock)?;
    let mut form = vec![("query", args.expr.clone())];
    if args.explain {
        form.push(("stats", "all".to_owned()));
    }
    if let Some(tier) = &args.tier {
        form.push(("tier", tier.clone()));
    }
    let answer: Answer<QueryData> = match when {
        When::At { time_ms } => {
            form.push(("time", seconds_text(time_ms)));
            client.query(&["api", "v1", "query"], &form).await?
        }
        When::Over { start_ms, end_ms, step_ms } => {
            form.push(("start", seconds_text(start_ms)));
            form.push(("end", seconds_text(end_ms)));
            form.push(("step", seconds_text(step_ms)));
            client.query(&["api", "v1", "query_range"], &form).await?
        }
    };
    let unit = units::of_query(&args.expr);
    let remarks = if args.explain { explain::text(&answer.body).unwrap_or_default() } else { String::new() };
    let text = match args.output {
        QueryFormat::Json => with_line_feed(answer.body),
        QueryFormat::Csv => write::csv(&answer.data),
        QueryFormat::Table => write::table(&answer.data, unit, screen).to_text(screen.color, screen.columns),
        QueryFormat::Plot => plot(answer.data, when, unit, screen),
    };
    Ok(Report { text, remarks, warnings: answer.warnings, is_bad_news: false })
}

fn when(args: &QueryArgs, clock: &Clock) -> Result<When, CliError> {
    let Some(time_ms) = clock.parse(&args.time) else {
        return Err(CliError::Usage(format!(
            "--time {} is no time: write now, -5m, seconds since 1970, or 2026-03-01T02:14:00Z",
            args.time
        )));
    };
    let is_plot = args.output == QueryFormat::Plot;
    let Some(range) = args.range.as_deref().or(is_plot.then_some(PLOT_RANGE)) else {
        return match args.step {
            Some(_) => Err(CliError::Usage("--step is for ranges: add --range 1h".to_owned())),
            None => Ok(When::At { time_ms }),
        };
    };
    let range_ms = duration("--range", range)?;
    let step_ms = args.step.as_deref().map_or(Ok(step_of(range_ms)), |step| duration("--step", step))?;
    // On multiples of the step, so that the same query a moment later has the same points.
    let end_ms = time_ms - time_ms.rem_euclid(step_ms);
    Ok(When::Over { start_ms: end_ms - range_ms / step_ms * step_ms, end_ms, step_ms })
}

fn duration(flag: &str, text: &str) -> Result<i64, CliError> {
    let ms = pitwatch_promql::parse_duration(text).filter(|ms| *ms > 0);
    ms.ok_or_else(|| CliError::Usage(format!("{flag} {text} is no duration: write 30s, 5m, 1h30m or 7d")))
}

fn step_of(range_ms: i64) -> i64 {
    let fine = range_ms / POINTS;
    STEPS_MS.into_iter().find(|step| *step >= fine).unwrap_or(fine)
}

/// Seconds since 1970 without a rounding on the way.
pub(crate) fn seconds_text(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
}

fn plot(data: QueryData, when: When, unit: units::Unit, screen: &Screen) -> String {
    let (QueryData::Matrix(series), When::Over { start_ms, end_ms, step_ms }) = (data, when) else {
        return "nothing to draw: the answer is no range\n".to_owned();
    };
    let labels = write::distinct_labels(series.iter().map(|one| &one.metric));
    let lines: Vec<Line> =
        series.iter().zip(labels).map(|(series, label)| Line { label, points: points(series) }).collect();
    let plot = Plot { lines: &lines, start_ms, end_ms, step_ms, unit, width: screen.width, color: screen.color };
    plot.to_text(&screen.clock)
}

fn points(series: &MatrixSeries) -> Vec<(i64, f64)> {
    let read = |(seconds, text): &(f64, String)| ((seconds * 1000.0).round() as i64, write::number(text));
    series.values.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(time: &str, range: Option<&str>, step: Option<&str>, output: QueryFormat) -> QueryArgs {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        QueryArgs {
            expr: "up".to_owned(),
            time: time.to_owned(),
            range: owned(range),
            step: owned(step),
            explain: false,
            tier: None,
            output,
        }
    }

    #[test]
    fn times_and_ranges_are_read() {
        let clock = Clock::utc(1_000_003_500);
        let when = |time, range, step, output| when(&args(time, range, step, output), &clock).ok();
        let table = QueryFormat::Table;
        assert_eq!(when("now", None, None, table), Some(When::At { time_ms: 1_000_003_500 }));
        assert_eq!(when("-5m", None, None, table), Some(When::At { time_ms: 999_703_500 }));
        let over = |start_ms, end_ms, step_ms| Some(When::Over { start_ms, end_ms, step_ms });
        assert_eq!(when("now", Some("1h"), Some("10s"), table), over(996_400_000, 1_000_000_000, 10_000));
        assert_eq!(when("now", None, None, QueryFormat::Plot), over(996_390_000, 999_990_000, 15_000));
        assert_eq!(when("now", None, Some("10s"), table), None);
        assert_eq!(when("soon", None, None, table), None);
        assert_eq!(when("now", Some("0s"), None, table), None);
        assert_eq!(when("now", Some("1h"), Some("0"), table), None);
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds_text(1_772_331_247_001), "1772331247.001");
        assert_eq!(seconds_text(-1500), "-1.500");
    }
}
