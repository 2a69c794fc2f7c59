//! HTTP: Prometheus' API over history, the collector's own endpoints, and who may ask them.
//!
//! Owns paths, parameters, answers and limits. Leaves meaning to others: queries to `pitwatch-promql`, tokens to
//! [`crate::access`], agents and alerts to whoever implements the [`seams`].
//!
//! In reading order:
//! - [`seams`]: what the API asks of the rest of the collector.
//! - [`serve`]: connections and their bounds.
//! - `envelope`, `params`: what every answer and every question has in common.
//! - `auth`: tokens, cookies, roles; `session`: signing in; `attempts`: how often.
//! - `pool`: how many queries run, whose turn it is, and when they are given up.
//! - `output`: bodies that are sent while they are written.
//! - `query`, `series`, `rules`, `federate`, `runtime`: Prometheus' endpoints; `matrix`: their numbers as JSON; `ast`:
//!   queries as JSON; `help`: what metrics mean.
//! - `preview`: what rules would have done; taking rule files anew.
//! - `v2`: Alertmanager's endpoints; `people`: acknowledgements and incidents; `act`: links in messages.
//! - `write`: remote write in.
//! - `hosts`, `agents`, `tokens`, `status`: the collector's own; `live`: queries' values as they change.
//! - `web`: the web interface; `page`: what a browser sees without it; `runbooks`: what stock alerts mean.

mod act;
mod agents;
mod ast;
mod attempts;
mod auth;
mod envelope;
mod federate;
mod help;
mod hosts;
mod live;
mod matrix;
mod output;
mod page;
mod params;
mod people;
mod pool;
mod preview;
mod query;
mod rules;
mod runbooks;
mod runtime;
pub mod seams;
mod series;
mod serve;
mod session;
mod status;
mod tokens;
mod v2;
mod web;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use pitwatch_history::History;
use pitwatch_promql::EngineOptions;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::access::{Access, Role};
use crate::ingest::Ingest;
use crate::source::HistorySource;
use envelope::ApiError;
use pool::QueryPool;

pub use auth::SESSION_COOKIE;
pub use live::LIVE_QUERIES_MAX;
pub use pool::{QueryStats, WAITING_MAX_A_CLIENT};
pub use seams::{
    AgentInfo, AgentState, Alarms, AlertCare, AlertInfo, AlertState, Desk, EnrollTokenInfo, Fleet, FleetError,
    NewToken, ReceiverStatus, RefusedInfo, RoomInfo, RuleGroupInfo, RuleHealth, RuleInfo, RuleKind, Snapshots,
    StorageInfo, Vitals,
};
pub use serve::{CONNECTIONS_MAX, HEAD_TIMEOUT, serve};
pub use write::{WRITE_BODY_MAX_BYTES, WRITES_AT_ONCE};

/// Largest body of a request in bytes: a form with a query.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Where a request's head has too many bytes, its address among it; a little more may pass.
pub const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most queries that run at once, where the configuration says nothing.
pub const QUERIES_AT_ONCE: usize = 4;
/// Most queries that wait for their turn; more are turned away.
pub const QUERIES_WAITING_MAX: usize = 256;
/// Shorter bodies are not worth to be compressed.
const COMPRESSED_MIN_BYTES: u16 = 1024;

const _: () = assert!(WAITING_MAX_A_CLIENT < QUERIES_WAITING_MAX, "one client must not fill the queue");
const _: () = assert!(BODY_MAX_BYTES >= pitwatch_promql::MAX_QUERY_BYTES);

/// What the API is made of.
#[derive(Clone)]
pub struct App {
    /// Samples.
    pub history: Arc<History>,
    /// Where samples of remote write go.
    pub ingest: Ingest,
    /// Limits of queries; a request may only tighten them.
    pub engine: EngineOptions,
    /// Most queries at once; see [`QUERIES_AT_ONCE`].
    pub queries_at_once: usize,
    /// What becomes of queries.
    pub query_stats: Arc<QueryStats>,
    /// Tokens.
    pub access: Arc<Access>,
    /// Agents.
    pub fleet: Arc<dyn Fleet>,
    /// Alerts.
    pub alarms: Arc<dyn Alarms>,
    /// Silences, incidents, and what people do about alerts.
    pub desk: Arc<dyn Desk>,
    /// The collector's own health.
    pub vitals: Arc<dyn Vitals>,
    /// Snapshots.
    pub snapshots: Arc<dyn Snapshots>,
    /// Where agents reach this collector, `HOST:PORT`, if the configuration says.
    pub agents_address: Option<String>,
    /// When the collector started, milliseconds since the Unix epoch.
    pub started_ms: i64,
}

/// What handlers share.
struct Shared {
    app: App,
    source: HistorySource,
    queries: Arc<QueryPool>,
    numbers: hosts::Cache,
    writes: write::Turns,
    live: live::Topics,
    attempts: attempts::Attempts,
}

type AppState = axum::extract::State<Arc<Shared>>;

/// Every endpoint. All but `/-/healthy`, `/-/ready` and the sign-in want a token.
pub fn router(app: App) -> Router {
    let source = HistorySource::new(app.history.clone());
    let queries = QueryPool::new(app.queries_at_once.max(1), QUERIES_WAITING_MAX, app.query_stats.clone());
    let (numbers, writes) = (hosts::Cache::default(), write::Turns::default());
    let (live, attempts) = (live::Topics::default(), attempts::Attempts::default());
    let shared = Arc::new(Shared { app, source, queries, numbers, writes, live, attempts });
    let guard = |role| from_fn_with_state((shared.clone(), role), auth::authorize);
    let open = Router::new()
        .route("/-/healthy", get(status::healthy).head(status::healthy))
        .route("/-/ready", get(status::ready).head(status::ready))
        .route("/", get(web::index))
        .route("/plain", get(page::index))
        .route("/assets/{name}", get(web::file))
        .route("/favicon.svg", get(web::favicon))
        .route("/docs/runbooks", get(runbooks::page))
        .route("/api/v1/pitwatch/session", post(session::begin).get(session::show).delete(session::end))
        // The signed link is the permission.
        .route("/act/{token}", get(act::ask).post(act::act))
        .method_not_allowed_fallback(wrong_method);
    let open = web::PAGES.iter().fold(open, |open, path| open.route(path, get(web::shell)));
    let admin = Router::new()
        .route("/api/v1/pitwatch/agents/{name}/revoke", post(agents::revoke))
        .route("/api/v1/pitwatch/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/pitwatch/tokens/{id}", delete(tokens::delete))
        .route("/api/v1/pitwatch/snapshot", post(status::snapshot))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(guard(Role::Admin));
    let operator = Router::new()
        .route("/-/reload", post(preview::reload))
        .route("/api/v1/pitwatch/alerts/{fingerprint}/{what}", post(people::act_on_alert))
        .route("/api/v1/pitwatch/incidents/{id}/{what}", post(people::act_on_incident))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(guard(Role::Operator));
    let writer = Router::new()
        .route("/api/v1/write", post(write::write))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(guard(Role::Writer));
    let viewer = prometheus()
        .route("/metrics", get(status::metrics))
        .route("/api/v1/pitwatch/hosts", get(hosts::list).layer(compression()))
        .route("/api/v1/pitwatch/agents", get(agents::list).layer(compression()))
        .route("/api/v1/pitwatch/alerts", get(rules::own_alerts))
        .route("/api/v1/pitwatch/rules/preview", post(preview::preview))
        .route("/api/v1/pitwatch/incidents", get(people::incidents))
        .route("/api/v1/pitwatch/incidents/{id}", get(people::incident))
        .route("/api/v1/pitwatch/silences/preview", post(people::preview))
        .route("/api/v1/pitwatch/status", get(status::status))
        .route("/api/v2/silences", get(v2::silences).merge(post(v2::set_silence).route_layer(guard(Role::Operator))))
        .route(
            "/api/v2/silence/{id}",
            get(v2::silence).merge(delete(v2::expire_silence).route_layer(guard(Role::Operator))),
        )
        .route("/api/v2/alerts", get(v2::alerts))
        .route("/api/v2/alerts/groups", get(v2::groups))
        .route("/api/v2/receivers", get(v2::receivers))
        .route("/api/v2/status", get(v2::status))
        .route("/api/v1/pitwatch/live", get(live::live))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(guard(Role::Viewer));
    viewer
        .merge(admin)
        .merge(operator)
        .merge(writer)
        .merge(open)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(from_fn(envelope::add_headers))
        .with_state(shared)
}

/// The paths that Prometheus has, too.
fn prometheus() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/api/v1/format_query", get(query::format).post(query::format))
        .route("/api/v1/parse_query", get(query::parse).post(query::parse))
        .route("/api/v1/labels", get(series::label_names).post(series::label_names))
        .route("/api/v1/label/{name}/values", get(series::label_values))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/metadata", get(series::metadata))
        .route("/api/v1/rules", get(rules::rules))
        .route("/api/v1/alerts", get(rules::alerts))
        .route("/api/v1/status/buildinfo", get(status::build_info))
        .route("/api/v1/status/config", get(runtime::config))
        .route("/api/v1/status/flags", get(runtime::flags))
        .route("/api/v1/status/runtimeinfo", get(runtime::runtime_info))
        .route("/api/v1/status/tsdb", get(runtime::tsdb))
        .route("/federate", get(federate::federate))
        .layer(compression())
}

/// Not for answers with secrets in them: the length of a compressed secret tells of it.
fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(COMPRESSED_MIN_BYTES))
}

async fn unknown_path(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!("nothing is at {}: docs/reference/http-api.md lists the paths", uri.path()))
}

async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    ApiError::wrong_method(format!("{} does not take {method}", uri.path()))
}
