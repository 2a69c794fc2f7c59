//! `pitwatch top`: the fleet, live, in the terminal.
//!
//! - [`model`]: what is shown and what a key does to it; no terminal, no network.
//! - [`view`]: the model as lines of text of a given size.
//! - [`terminal`]: raw mode, keys, size; puts the terminal back as it was.
//!
//! Here is the loop: ask, draw, and obey keys.

mod model;
mod terminal;
mod view;

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::answers::{Host, HostsData, QueryData};
use crate::args::{HostArgs, PageFormat, TopArgs};
use crate::clock::Clock;
use crate::commands::{Report, Screen, host, own, seconds_text};
use crate::connect::Client;
use crate::error::CliError;
use model::{Model, Trends, Wish};
use terminal::Terminal;

/// What a trend shows, and its points.
const TREND_MS: i64 = 600_000;
const TREND_STEP_MS: i64 = 30_000;
/// The shortest time between two questions.
const EVERY_MIN_MS: i64 = 500;

const CPU: &str = r#"1 - sum by (instance) (rate(node_cpu_seconds_total{mode=~"idle|iowait"}[1m]))
  / count by (instance) (node_cpu_seconds_total{mode="idle"})"#;
const MEMORY: &str = "1 - max by (instance) (node_memory_MemAvailable_bytes)
  / max by (instance) (node_memory_MemTotal_bytes)";
const NETWORK: &str = r#"sum by (instance) (rate(node_network_receive_bytes_total{device!="lo"}[1m]))
  + sum by (instance) (rate(node_network_transmit_bytes_total{device!="lo"}[1m]))"#;

/// What is asked while keys are obeyed.
enum Question {
    /// The hosts, and their trends if these are due.
    Fleet { trends: bool },
    /// The page of a host.
    Page(String),
}

/// What came of it.
enum Answered {
    Fleet(Vec<Host>, Option<Trends>),
    Page(String),
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answered, CliError>> + 'a>>;

/// Runs until it is ended; where there is no terminal, says once how the fleet is.
pub(crate) async fn run(args: &TopArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let every_ms = pitwatch_promql::parse_duration(&args.every).filter(|ms| *ms >= EVERY_MIN_MS);
    let wrong = || CliError::Usage(format!("--every {}: write a duration of at least 500ms, such as 2s", args.every));
    let every = Duration::from_millis(every_ms.ok_or_else(wrong)?.unsigned_abs());
    let mut model = Model::new(args.filter.clone().unwrap_or_default());
    model.answer(ask(Question::Fleet { trends: true }, client, screen.clone()).await?, screen.clock.now_ms);
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Ok(Report { text: view::whole(&model, screen), is_bad_news: model.is_bad_news(), ..Report::default() });
    }
    live(model, every, client, screen).await.map_err(|error| CliError::Terminal(error.to_string()))?;
    Ok(Report::default())
}

async fn live(mut model: Model, every: Duration, client: &Client, screen: &Screen) -> io::Result<()> {
    let (mut terminal, mut keys) = Terminal::open()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut ended = signal(SignalKind::terminate())?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is now, and the first answer is there already.
    ticks.tick().await;
    let mut trends_at = Instant::now();
    let trend_step = Duration::from_millis(TREND_STEP_MS.unsigned_abs());
    let mut asking: Option<Asking<'_>> = None;
    loop {
        let screen = Screen { clock: Clock::system(), ..screen.clone() };
        let now_ms = screen.clock.now_ms;
        terminal.draw(&view::frame(&model, terminal.size(), &screen))?;
        tokio::select! {
            answered = answer_of(&mut asking) => {
                asking = None;
                match answered {
                    Ok(answered) => model.answer(answered, now_ms),
                    Err(error) => model.trouble = Some(error.to_string()),
                }
            }
            // A collector that does not answer is not asked again meanwhile.
            _ = ticks.tick(), if asking.is_none() => {
                let trends = trends_at.elapsed() >= trend_step;
                if trends {
                    trends_at = Instant::now();
                }
                asking = Some(Box::pin(ask(Question::Fleet { trends }, client, screen)));
            }
            key = keys.recv() => match key.map(|key| model.key(key)) {
                None | Some(Some(Wish::Quit)) => return Ok(()),
                Some(Some(Wish::Open(name))) => {
                    model.open(&format!("{name} …"));
                    asking = Some(Box::pin(ask(Question::Page(name), client, screen)));
                }
                Some(None) => {}
            },
            _ = resized.recv() => {}
            _ = ended.recv() => return Ok(()),
        }
    }
}

/// The answer that is waited for; never, where none is.
async fn answer_of(asking: &mut Option<Asking<'_>>) -> Result<Answered, CliError> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn ask(question: Question, client: &Client, screen: Screen) -> Result<Answered, CliError> {
    match question {
        Question::Fleet { trends: due } => {
            let hosts = client.get::<HostsData>(&own(&["hosts"])).await?.data.hosts;
            let trends = if due { Some(trends(client, &screen.clock).await?) } else { None };
            Ok(Answered::Fleet(hosts, trends))
        }
        Question::Page(name) => {
            let args = HostArgs { name, time: "now".to_owned(), output: PageFormat::Text };
            let report = host::run(&args, client, &Screen { columns: None, ..screen }).await?;
            Ok(Answered::Page(report.text))
        }
    }
}

async fn trends(client: &Client, clock: &Clock) -> Result<Trends, CliError> {
    let end_ms = clock.now_ms - clock.now_ms.rem_euclid(TREND_STEP_MS);
    let ask = async |expr: &str| {
        let form = [
            ("query", expr.to_owned()),
            ("start", seconds_text(end_ms - TREND_MS)),
            ("end", seconds_text(end_ms)),
            ("step", seconds_text(TREND_STEP_MS)),
        ];
        let data = client.query::<QueryData>(&["api", "v1", "query_range"], &form).await?.data;
        let QueryData::Matrix(series) = data else { return Ok(HashMap::new()) };
        let values =
            |points: Vec<(f64, String)>| points.iter().map(|(_, text)| text.parse().unwrap_or(f64::NAN)).collect();
        let by_host =
            series.into_iter().filter_map(|mut one| Some((one.metric.remove("instance")?, values(one.values))));
        Ok::<HashMap<String, Vec<f64>>, CliError>(by_host.collect())
    };
    Ok(Trends { cpu: ask(CPU).await?, memory: ask(MEMORY).await?, network: ask(NETWORK).await? })
}
