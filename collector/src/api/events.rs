//! `/api/v1/pitwatch/events`: what happened on hosts, the newest first.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use pitwatch_history::logs::{Direction, Query};
use pitwatch_history::{MatchOp, Matcher};
use pitwatch_shared::events::{EventLine, KIND_LABEL, LANE_LABEL, SEVERITY_LABEL};
use pitwatch_shared::model::INSTANCE;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::envelope::{ApiError, Success};
use super::openapi::parameters::OfEvents;
use super::params::Params;
use super::pool::Client;

/// How long the search may take, its wait included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Events given where no limit is asked for.
const LIMIT_DEFAULT: usize = 100;
/// Most events of one answer.
const LIMIT_MAX: usize = 5_000;
/// Most values of one parameter.
const VALUES_MAX: usize = 50;
const NS_PER_MS: i64 = 1_000_000;

const _: () = assert!(LIMIT_MAX < pitwatch_history::logs::ANSWER_LINES_MAX);

/// The answer.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<Event>,
    /// There are older ones: ask again with `end` set to the last one's time.
    more: bool,
}

#[derive(Serialize, ToSchema)]
struct Event {
    id: String,
    time_ms: i64,
    host: String,
    kind: String,
    severity: String,
    summary: String,
    labels: BTreeMap<String, String>,
}

/// Events by time, host, kind and severity.
#[utoipa::path(get, path = "/api/v1/pitwatch/events", tag = "Hosts and agents", params(OfEvents),
    responses((status = 200, body = Success<Events>)))]
pub(super) async fn list(State(shared): AppState, client: Client, params: Params) -> Result<Success<Events>, ApiError> {
    let (start_ms, end_ms) = params.span()?;
    let limit = params.limit()?.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let mut matchers = vec![matcher(LANE_LABEL.0, &[LANE_LABEL.1])?];
    for (parameter, label) in [("host", INSTANCE), ("kind", KIND_LABEL), ("severity", SEVERITY_LABEL)] {
        let values: Vec<&str> = params.all(parameter).collect();
        if values.len() > VALUES_MAX {
            return Err(ApiError::bad_parameter(parameter, format!("more than {VALUES_MAX} values")));
        }
        if !values.is_empty() {
            matchers.push(matcher(label, &values)?);
        }
    }
    let history = shared.app.history.clone();
    let found = shared.queries.run(&client, TIMEOUT, move |_, _| {
        let query = Query {
            matchers: &matchers,
            start_ns: start_ms.saturating_add(1).saturating_mul(NS_PER_MS),
            end_ns: end_ms.saturating_add(1).saturating_mul(NS_PER_MS),
            needles: &[],
            limit: limit + 1,
            direction: Direction::Backward,
        };
        history.logs().query(&query).map_err(|error| ApiError::internal(crate::error_chain(&error)))
    });
    let answer = found.await?;
    let more = answer.is_cut || answer.lines.len() > limit;
    let events = answer.lines.into_iter().take(limit).map(|(stream, line)| {
        let label = |name: &str| stream.value(name).unwrap_or_default().to_owned();
        let said = EventLine::parse(&line.text).unwrap_or_default();
        Event {
            id: said.id,
            time_ms: line.ts_ns.div_euclid(NS_PER_MS),
            host: label(INSTANCE),
            kind: label(KIND_LABEL),
            severity: label(SEVERITY_LABEL),
            summary: said.summary,
            labels: said.labels.into_iter().collect(),
        }
    });
    Ok(Success::new(Events { events: events.collect(), more }))
}

/// One value or one of several.
fn matcher(label: &str, values: &[&str]) -> Result<Matcher, ApiError> {
    let matcher = match values {
        [value] => Matcher::new(label, MatchOp::Eq, value),
        values => {
            let escaped: Vec<String> = values.iter().map(|value| escape(value)).collect();
            Matcher::new(label, MatchOp::Re, &escaped.join("|"))
        }
    };
    matcher.map_err(|error| ApiError::bad_parameter(label, crate::error_chain(&error)))
}

/// A regular expression for this text alone.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
