//! `/api/v1/labels`, `/label/NAME/values`, `/series` and `/metadata`: what there is to ask about.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pitwatch_shared::model;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::envelope::{ApiError, JSON, Success};
use super::openapi::parameters::{Limit, Matches, Metrics, NeededMatches, Span};
use super::params::{Params, Segment};
use super::pool::Client;
use super::{AppState, Shared, help, matrix};
use crate::source::HistorySource;

/// How long such a look-up may take, its wait included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Says that there is more than was asked for.
const TRUNCATED: &str = "results truncated due to limit";

/// What is known of a metric.
#[derive(Serialize, ToSchema)]
pub(super) struct Metadata {
    #[serde(rename = "type")]
    kind: &'static str,
    help: &'static str,
    unit: &'static str,
}

/// The names of labels.
#[utoipa::path(method(get, post), path = "/api/v1/labels", tag = "Series", params(Matches, Span, Limit),
    responses((status = 200, body = Success<Vec<String>>)))]
pub(super) async fn label_names(
    State(shared): AppState,
    client: Client,
    params: Params,
) -> Result<Success<Vec<String>>, ApiError> {
    let (selectors, (start, end), limit) = (params.selectors()?, params.span()?, params.limit()?);
    let names = look_up(&shared, &client, move |source| source.label_names(&selectors, start, end)).await?;
    Ok(limited(names, limit))
}

/// The values of one label.
#[utoipa::path(get, path = "/api/v1/label/{name}/values", tag = "Series",
    params(("name" = String, Path, description = "The label's name; it may be escaped as `U__…`"), Matches, Span, Limit),
    responses((status = 200, body = Success<Vec<String>>)))]
pub(super) async fn label_values(
    State(shared): AppState,
    client: Client,
    Segment(name): Segment,
    params: Params,
) -> Result<Success<Vec<String>>, ApiError> {
    let (selectors, (start, end), limit) = (params.selectors()?, params.span()?, params.limit()?);
    let name = unescape(&name);
    let values = look_up(&shared, &client, move |source| source.label_values(&name, &selectors, start, end)).await?;
    Ok(limited(values, limit))
}

/// The label sets of series.
#[utoipa::path(method(get, post), path = "/api/v1/series", tag = "Series", params(NeededMatches, Span, Limit),
    responses((status = 200, body = Success<Vec<BTreeMap<String, String>>>)))]
pub(super) async fn series(State(shared): AppState, client: Client, params: Params) -> Result<Response, ApiError> {
    let (selectors, (start, end), limit) = (params.selectors()?, params.span()?, params.limit()?);
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let source = shared.source.clone();
    let answer = shared.queries.stream(&client, JSON, TIMEOUT, move |_, _, out| {
        let found = source.union(&selectors, start, end)?;
        let limit = limit.unwrap_or(usize::MAX);
        out.text.push_str("{\"status\":\"success\",\"data\":[");
        for (at, labels) in found.iter().take(limit).enumerate() {
            if at > 0 {
                out.text.push(',');
            }
            matrix::push_labels(&mut out.text, labels.iter());
            out.spill()?;
        }
        out.text.push(']');
        if found.len() > limit {
            out.text.push_str(&format!(",\"warnings\":{}", json!([TRUNCATED])));
        }
        out.text.push('}');
        Ok(())
    });
    answer.await
}

/// The types of metrics; help and unit of those that are Pitwatch's agent's.
#[utoipa::path(get, path = "/api/v1/metadata", tag = "Series", params(Metrics),
    responses((status = 200, body = Success<BTreeMap<String, Vec<Metadata>>>)))]
pub(super) async fn metadata(
    State(shared): AppState,
    params: Params,
) -> Result<Success<BTreeMap<String, [Metadata; 1]>>, ApiError> {
    // Each metric has one entry, so that `limit_per_metric` has nothing to cut.
    let (limit, _) = (params.metadata_limit("limit")?, params.metadata_limit("limit_per_metric")?);
    let wanted = params.get("metric");
    let all = shared.app.history.metric_types().into_iter();
    let chosen = all.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name)).take(limit);
    let entry = |name: &str, kind: model::MetricType| {
        let (help, unit) = help::of(name).unwrap_or_default();
        [Metadata { kind: kind.as_str(), help, unit }]
    };
    let entries = chosen.map(|(name, kind)| {
        let entry = entry(&name, kind);
        (name, entry)
    });
    Ok(Success::new(entries.collect()))
}

async fn look_up<T, F>(shared: &Shared, client: &Client, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&HistorySource) -> Result<T, pitwatch_history::QueryError> + Send + 'static,
{
    let source = shared.source.clone();
    shared.queries.run(client, TIMEOUT, move |_, _| Ok(work(&source)?)).await
}

fn limited<T>(mut all: Vec<T>, limit: Option<usize>) -> Success<Vec<T>> {
    let Some(limit) = limit.filter(|limit| *limit < all.len()) else { return Success::new(all) };
    all.truncate(limit);
    Success::with_warnings(all, vec![TRUNCATED.to_owned()])
}

/// A label's name as Prometheus' clients put it into an address: `U__a_2e_b` is `a.b`. A name that is not escaped so,
/// or wrongly, is itself.
fn unescape(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.split_once('_').and_then(|(hex, after)| Some((u32::from_str_radix(hex, 16).ok()?, after)));
        let Some((Some(character), after)) = code.map(|(code, after)| (char::from_u32(code), after)) else {
            return name.to_owned();
        };
        out.push(character);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read() {
        for (escaped, name) in [
            ("instance", "instance"),
            ("U__a_2e_b", "a.b"),
            ("U__a__b", "a_b"),
            ("U___1f600_x", "😀x"),
            ("U__a_zz_b", "U__a_zz_b"),
            ("U__a_2e", "U__a_2e"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__", ""),
        ] {
            assert_eq!(unescape(escaped), name);
        }
    }
}
