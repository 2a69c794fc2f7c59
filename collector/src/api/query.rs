//! `/api/v1/query`, `/query_range`, `/format_query`, `/parse_query` and `/query_exemplars`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use pitwatch_promql::{Answer, Cancel, Engine, EngineOptions, Expr};
use serde_json::Value;

use super::ast;
use super::envelope::{ApiError, Failure, JSON, Success};
use super::matrix::{self, Spent, Wanted};
use super::openapi::parameters::{At, Expression, How, Limit, Steps};
use super::openapi::shapes::{Queried, Tree};
use super::params::Params;
use super::pool::Client;
use super::{AppState, Shared};
use crate::clock::unix_ms;
use crate::source::{HistorySource, Tier};

/// How long a query may run where the engine has no limit of its own.
const TIMEOUT_MAX_MS: u64 = 120_000;

/// What both kinds of query say.
struct Question {
    expr: Expr,
    options: EngineOptions,
    timeout_ms: u64,
    wanted: Wanted,
    parse: Duration,
    /// The tier that must answer, if one must.
    tier: Option<Tier>,
}

impl Question {
    fn read(shared: &Shared, params: &Params) -> Result<Self, ApiError> {
        let begun = Instant::now();
        let expr = expression(params)?;
        let parse = begun.elapsed();
        let mut options = shared.app.engine.clone();
        if let Some(lookback_ms) = params.duration("lookback_delta")? {
            if lookback_ms <= 0 {
                return Err(ApiError::bad_parameter("lookback_delta", "it must be more than 0"));
            }
            options.lookback_ms = lookback_ms;
        }
        let most = if options.timeout_ms == 0 { TIMEOUT_MAX_MS } else { options.timeout_ms };
        // None at all is a timeout that has passed, as in Prometheus.
        let asked = params.duration("timeout")?.map_or(most, |asked| asked.max(0).unsigned_abs());
        let wanted = Wanted { limit: params.limit()?, stats: params.has("stats") };
        let tier = params.get("tier").map(str::parse).transpose().map_err(|e| ApiError::bad_parameter("tier", e))?;
        Ok(Self { expr, options, timeout_ms: asked.min(most), wanted, parse, tier })
    }

    /// Evaluates when there is a turn, and writes the answer.
    async fn answer<F>(self, shared: &Shared, client: &Client, evaluate: F) -> Result<Response, ApiError>
    where
        F: FnOnce(&Engine, &HistorySource, &Expr, &Cancel) -> pitwatch_promql::Result<Answer> + Send + 'static,
    {
        let Self { expr, mut options, timeout_ms, wanted, parse, tier } = self;
        let source = shared.source.clone().forced(tier);
        let time = Duration::from_millis(timeout_ms);
        let answer = shared.queries.stream(client, JSON, time, move |left, cancel, out| {
            options.timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            let answer = evaluate(&Engine::new(options), &source, &expr, cancel)?;
            let spent = Spent { parse, wait: time.saturating_sub(left) };
            matrix::write(answer, wanted, spent, out)
        });
        answer.await
    }
}

/// Evaluates an expression at one time.
#[utoipa::path(method(get, post), path = "/api/v1/query", tag = "Queries",
    params(Expression, At, How, Limit), responses(
    (status = 200, body = Success<Queried>),
    (status = 422, description = "It cannot be evaluated on this data", body = Failure),
    (status = 503, description = "It took too long, by its timeout or the collector's, or too many wait", body = Failure),
))]
pub(super) async fn instant(State(shared): AppState, client: Client, params: Params) -> Result<Response, ApiError> {
    let question = Question::read(&shared, &params)?;
    let time_ms = params.time("time")?.unwrap_or_else(unix_ms);
    let evaluate = move |engine: &Engine, source: &HistorySource, expr: &Expr, cancel: &Cancel| {
        engine.instant(source, expr, time_ms, cancel)
    };
    question.answer(&shared, &client, evaluate).await
}

/// Evaluates an expression at many times.
#[utoipa::path(method(get, post), path = "/api/v1/query_range", tag = "Queries",
    params(Expression, Steps, How, Limit), responses(
    (status = 200, body = Success<Queried>),
    (status = 422, description = "It cannot be evaluated on this data", body = Failure),
    (status = 503, description = "It took too long, by its timeout or the collector's, or too many wait", body = Failure),
))]
pub(super) async fn range(State(shared): AppState, client: Client, params: Params) -> Result<Response, ApiError> {
    let question = Question::read(&shared, &params)?;
    let (start_ms, end_ms) = (params.needed_time("start")?, params.needed_time("end")?);
    let step_ms = params.needed_duration("step")?;
    let evaluate = move |engine: &Engine, source: &HistorySource, expr: &Expr, cancel: &Cancel| {
        engine.range(source, expr, start_ms, end_ms, step_ms, cancel)
    };
    question.answer(&shared, &client, evaluate).await
}

/// Exemplars: none are kept.
#[utoipa::path(method(get, post), path = "/api/v1/query_exemplars", tag = "Queries", params(Expression),
    responses((status = 200, body = Success<Vec<String>>)))]
pub(super) async fn exemplars(State(_): AppState, params: Params) -> Result<Success<[(); 0]>, ApiError> {
    expression(&params)?;
    Ok(Success::new([]))
}

/// The query in its canonical text, over several lines if it is long.
#[utoipa::path(method(get, post), path = "/api/v1/format_query", tag = "Queries", params(Expression),
    responses((status = 200, body = Success<String>)))]
pub(super) async fn format(State(_): State<Arc<Shared>>, params: Params) -> Result<Success<String>, ApiError> {
    Ok(Success::new(expression(&params)?.pretty()))
}

/// The query as a tree.
#[utoipa::path(method(get, post), path = "/api/v1/parse_query", tag = "Queries", params(Expression),
    responses((status = 200, body = Success<Tree>)))]
pub(super) async fn parse(State(_): State<Arc<Shared>>, params: Params) -> Result<Success<Value>, ApiError> {
    Ok(Success::new(ast::json(&expression(&params)?)))
}

fn expression(params: &Params) -> Result<Expr, ApiError> {
    let text = params.get("query").unwrap_or_default();
    pitwatch_promql::parse(text).map_err(|error| ApiError::bad_parameter("query", error))
}
