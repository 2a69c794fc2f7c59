//! `/api/v1/pitwatch/rules/preview`: what rules would have done here, from history. `/-/reload`: rule files taken anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use pitwatch_alerting::engine::Options;
use pitwatch_alerting::{LabelSet, RuleFile};
use pitwatch_promql::{Engine, EngineOptions, parse_duration};
use pitwatch_rules::prepare;
use pitwatch_rules::preview::{self, AlertPreview, RulePreview, Span};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::envelope::{ApiError, Failure, Success};
use super::params::Raw;
use super::pool::Client;
use crate::clock::unix_ms;

/// How long a preview may take, its wait for a turn included.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Samples that one expression of it may hold at once.
const SAMPLES_MAX: usize = 20_000_000;
/// How far back it looks where the request says nothing, and at most, milliseconds.
const SINCE_MS: i64 = 7 * 24 * 3_600_000;
const SINCE_MAX_MS: i64 = 90 * 24 * 3_600_000;
/// Where the request names no step: this many in all, but none shorter than [`STEP_MIN_MS`].
const STEPS: i64 = 10_080;
const STEP_MIN_MS: i64 = 1_000;

/// What may be said in the address; the body is the rule file.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wish {
    /// How far back it looks, such as `7d`; at most 90 days
    since: Option<String>,
    /// From one evaluation to the next, such as `30s`
    step: Option<String>,
    /// The file's name, for messages
    name: Option<String>,
}

/// What the rules would have done.
#[derive(Serialize, ToSchema)]
pub(super) struct Previews {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    fired: u64,
    rules: Vec<OneRule>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RulePreview)]
struct OneRule {
    group: String,
    rule: String,
    fired: u64,
    hosts: BTreeMap<String, u64>,
    alerts: Vec<OneAlert>,
    more_alerts: usize,
    failures: u64,
    error: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AlertPreview)]
struct OneAlert {
    #[schema(value_type = BTreeMap<String, String>)]
    labels: LabelSet,
    fired: u64,
    firing_seconds: f64,
    last_fired_ms: i64,
    is_firing: bool,
}

/// Runs the rules of the body, a rule file, over history: what they would have done.
#[utoipa::path(post, path = "/api/v1/pitwatch/rules/preview", tag = "Rules and alerts", params(Wish),
    request_body(content = String, content_type = "application/yaml", description = "A rule file"),
    responses((status = 200, body = Success<Previews>)))]
pub(super) async fn preview(
    State(shared): AppState,
    client: Client,
    wish: Result<Query<Wish>, axum::extract::rejection::QueryRejection>,
    Raw(body): Raw,
) -> Result<Success<Previews>, ApiError> {
    let Query(wish) = wish.map_err(|error| ApiError::bad_data(error.body_text()))?;
    let duration = |name: &str, text: &Option<String>| match text.as_deref().map(parse_duration) {
        None => Ok(None),
        Some(Some(ms)) if ms > 0 => Ok(Some(ms)),
        Some(_) => Err(ApiError::bad_parameter(name, "give a duration such as 7d or 30s")),
    };
    let since_ms = duration("since", &wish.since)?.unwrap_or(SINCE_MS);
    if since_ms > SINCE_MAX_MS {
        return Err(ApiError::bad_parameter("since", "at most 90d"));
    }
    let step_ms = duration("step", &wish.step)?.unwrap_or((since_ms / STEPS).max(STEP_MIN_MS));
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::bad_data("the rule file is not UTF-8"))?;
    let files = RuleFile::parse(wish.name.as_deref().unwrap_or("rules"), text, prepare);
    let files = vec![files.map_err(|mistakes| ApiError::bad_data(mistakes.to_string()))?];
    let end_ms = unix_ms();
    let span = Span { start_ms: end_ms - since_ms, end_ms, step_ms };
    let source = shared.source.clone();
    let work = move |left: Duration, cancel: &pitwatch_promql::Cancel| {
        let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let options = EngineOptions { max_samples: SAMPLES_MAX, timeout_ms, ..EngineOptions::default() };
        let semantics = Options::default().semantics;
        let begun = Instant::now();
        let is_over = || begun.elapsed() >= left;
        preview::run(files, &Engine::new(options), &source, span, semantics, (cancel, &is_over))
            .map_err(ApiError::bad_data)
    };
    let rules = shared.queries.run(&client, TIMEOUT, work).await?;
    let fired = rules.iter().map(|rule| rule.fired).sum();
    let (Span { start_ms, end_ms, step_ms }, rules) = (span, rules.into_iter().map(one_rule).collect());
    Ok(Success::new(Previews { start_ms, end_ms, step_ms, fired, rules }))
}

fn one_rule(rule: RulePreview) -> OneRule {
    let hosts = rule.by_host().into_iter().map(|(host, fired)| (host.to_owned(), fired)).collect();
    let RulePreview { group, rule, fired, alerts, more_alerts, failures, error, .. } = rule;
    let alerts = alerts.into_iter().map(one_alert).collect();
    OneRule { group, rule, fired, hosts, alerts, more_alerts, failures, error }
}

fn one_alert(alert: AlertPreview) -> OneAlert {
    let AlertPreview { labels, fired, firing_ms, last_ms, is_firing } = alert;
    OneAlert { labels, fired, firing_seconds: firing_ms as f64 / 1000.0, last_fired_ms: last_ms, is_firing }
}

/// The rules that are in force after a reload.
#[derive(Serialize, ToSchema)]
pub(super) struct Reloaded {
    rules: usize,
}

/// Takes the rule files as they are now, all or none.
#[utoipa::path(post, path = "/-/reload", tag = "Rules and alerts", responses(
    (status = 200, body = Success<Reloaded>),
    (status = 400, description = "Mistakes in the files: the rules stay as they were", body = Failure),
))]
pub(super) async fn reload(State(shared): AppState) -> Result<Success<Reloaded>, ApiError> {
    let alarms = shared.app.alarms.clone();
    let done = tokio::task::spawn_blocking(move || alarms.reload()).await;
    let rules = done.map_err(|error| super::pool::stopped(&error))?.map_err(ApiError::bad_data)?;
    Ok(Success::new(Reloaded { rules }))
}
