//! Scrapes of endpoints: each at its own cadence, bounded in time, bytes and series.
//!
//! A `Target` is asked by a task of its own and what comes is put into its table by whoever owns that; a slow endpoint holds up
//! nobody. The series about a scrape have Prometheus' names.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::access::{Access, AccessConfig};
use super::exposition::Timestamps;
use super::foreign::{Foreign, Taken};
use super::http::{self, HttpError, Url};
use super::names::Namer;
use super::rules::Rules;
use crate::signals::{Handle, Metric, Now, Table};

const SCRAPE: &str = "a scrape";

/// What is said of every scrape.
static METRICS: [Metric; 6] = [
    Metric::gauge("up", "", SCRAPE, "Whether the last scrape of the endpoint succeeded."),
    Metric::gauge("scrape_duration_seconds", "seconds", SCRAPE, "How long the last scrape took."),
    Metric::gauge("scrape_samples_scraped", "samples", SCRAPE, "Samples that the endpoint exposed."),
    Metric::gauge("scrape_samples_post_metric_relabeling", "samples", SCRAPE, "Of those, samples that the rules keep."),
    Metric::gauge("scrape_series_added", "series", SCRAPE, "Series that were not there at the scrape before."),
    Metric::gauge(
        "pitwatch_agent_scrape_series_refused",
        "series",
        SCRAPE,
        "Series of the last scrape beyond the limit.",
    ),
];

/// An endpoint as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// The `job` label of its series.
    pub job: String,
    /// Where it is.
    pub url: Url,
    /// What it needs besides.
    pub access: AccessConfig,
    /// How often it is asked.
    pub cadence: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Largest answer.
    pub body_max_bytes: usize,
    /// Most series.
    pub series_max: usize,
    /// What is taken of it.
    pub rules: Rules,
    /// Labels of its series besides the host's.
    pub labels: Vec<(String, String)>,
}

/// What came of asking an endpoint.
#[derive(Debug)]
pub struct Scraped {
    /// Which one.
    pub target: usize,
    /// When it was asked.
    pub at: Now,
    /// How long it took.
    pub took: Duration,
    /// What it said.
    pub body: Result<Vec<u8>, HttpError>,
}

/// The series of an endpoint.
pub(crate) struct Target {
    job: String,
    foreign: Foreign,
    handles: [Handle; METRICS.len()],
    failing: bool,
}

impl Target {
    pub(crate) fn new(config: &ScrapeConfig, namer: Namer) -> Self {
        let foreign = Foreign::new(namer, config.rules.clone(), Timestamps::Ignored, config.series_max);
        Self { job: config.job.clone(), foreign, handles: Default::default(), failing: false }
    }

    /// Puts what came into the table.
    pub(crate) fn take(&mut self, scraped: Scraped, table: &mut Table) {
        let mut taken = Taken::default();
        table.begin();
        self.foreign.begin();
        let body = scraped.body.map_err(|error| pitwatch_shared::error_chain(&error));
        let done = body
            .and_then(|body| self.foreign.take(&body, table, &mut taken).map_err(|malformed| malformed.to_string()));
        match &done {
            Err(what) if !self.failing => tracing::warn!(job = self.job, "the scrape fails: {what}"),
            Ok(()) if self.failing => tracing::info!(job = self.job, "the scrape succeeds again"),
            _ => {}
        }
        self.failing = done.is_err();
        if done.is_ok() {
            self.foreign.end();
        }
        let values = [
            if done.is_ok() { 1.0 } else { 0.0 },
            scraped.took.as_secs_f64(),
            taken.samples as f64,
            taken.kept as f64,
            taken.added as f64,
            taken.refused as f64,
        ];
        for ((handle, metric), value) in self.handles.iter_mut().zip(&METRICS).zip(values) {
            table.set_named(handle, metric, metric.name, &[], value);
        }
        table.end();
    }
}

/// Asks an endpoint at its cadence and hands on what came, until nobody takes it any more.
pub(crate) async fn run(target: usize, config: ScrapeConfig, scraped: mpsc::Sender<Scraped>) {
    // Endpoints of one cadence are not asked all at once.
    let mut access = Access::new(config.access.clone());
    let mut due = Instant::now() + config.cadence.mul_f64(fastrand::f64());
    loop {
        tokio::time::sleep_until(due.into()).await;
        let at = Now::read();
        let body = http::get(&config.url, &mut access, config.timeout, config.body_max_bytes).await;
        let took = at.monotonic.elapsed();
        if scraped.send(Scraped { target, at, took, body }).await.is_err() {
            return;
        }
        due = (due + config.cadence).max(Instant::now());
    }
}
