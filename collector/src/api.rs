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
//! - `hosts`, `events`, `agents`, `tokens`, `status`: the collector's own; `live`: queries' values as they change.
//! - `web`: the web interface; `page`: what a browser sees without it; `runbooks`: what stock alerts mean.
//! - `openapi`: all of this described, from this code, for programs and as a page.

mod act;
mod agents;
mod ast;
mod attempts;
mod auth;
mod envelope;
mod events;
mod federate;
mod help;
mod hosts;
mod live;
mod matrix;
mod openapi;
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
use axum::handler::Handler as _;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use pitwatch_history::History;
use pitwatch_promql::EngineOptions;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Access, Role};
use crate::ingest::Ingest;
use crate::source::HistorySource;
use envelope::ApiError;
use pool::QueryPool;

pub use auth::SESSION_COOKIE;
pub use live::{LIVE_MAX_A_CLIENT, LIVE_QUERIES_MAX};
pub use openapi::openapi;
pub use pool::{QueryStats, WAITING_MAX_A_CLIENT};
pub use seams::{
    AgentInfo, AgentState, Alarms, AlertCare, AlertInfo, AlertState, Desk, EnrollTokenInfo, Fleet, FleetError,
    NewToken, ReceiverStatus, RefusedInfo, RoomInfo, RuleGroupInfo, RuleHealth, RuleInfo, RuleKind, Snapshots,
    StorageInfo, Vitals,
};
pub use serve::{CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HEAD_TIMEOUT, Tls, serve};
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
    // Who has no token is not told what is there.
    let mut all = Router::new().fallback(unknown_path).layer(guard(Role::Viewer));
    let mut shared_paths = Router::new();
    for (role, group) in groups() {
        let group = Router::from(group);
        match role {
            None => all = all.merge(group.method_not_allowed_fallback(wrong_method)),
            // These share paths: what no method takes is answered for both at once, below.
            Some(role @ (Role::Viewer | Role::Operator)) => {
                shared_paths = shared_paths.merge(group.route_layer(guard(role)));
            }
            Some(role) => {
                all = all.merge(group.method_not_allowed_fallback(wrong_method).route_layer(guard(role)));
            }
        }
    }
    all = all.merge(shared_paths.method_not_allowed_fallback(wrong_method.layer(guard(Role::Viewer))));
    all = all.merge(interface());
    all.layer(DefaultBodyLimit::max(BODY_MAX_BYTES)).layer(from_fn(envelope::add_headers)).with_state(shared)
}

/// The web interface's files and addresses.
fn interface() -> Router<Arc<Shared>> {
    let files = Router::new()
        .route("/plain", get(page::index))
        .route("/assets/{name}", get(web::file))
        .route("/favicon.svg", get(web::favicon));
    web::PAGES
        .iter()
        .fold(files, |all, path| all.route(path, get(web::shell)))
        .method_not_allowed_fallback(wrong_method)
}

/// Routes with their description.
type Routes = OpenApiRouter<Arc<Shared>>;

/// Every endpoint, by the role that it wants. Where none is named, the handler itself looks who asks.
fn groups() -> [(Option<Role>, Routes); 5] {
    [
        (None, open()),
        (Some(Role::Viewer), viewer()),
        (Some(Role::Writer), writer()),
        (Some(Role::Operator), operator()),
        (Some(Role::Admin), admin()),
    ]
}

fn open() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(status::healthy))
        .routes(routes!(status::ready))
        .routes(routes!(web::index))
        .routes(routes!(runbooks::page))
        .routes(routes!(openapi::page::docs))
        .routes(routes!(session::begin, session::show, session::end))
        // The signed link is the permission.
        .routes(routes!(act::ask, act::act))
}

fn viewer() -> Routes {
    let long = OpenApiRouter::new()
        .routes(routes!(hosts::list))
        .routes(routes!(events::list))
        .routes(routes!(agents::list))
        .layer(compression());
    prometheus()
        .merge(long)
        .routes(routes!(status::metrics))
        .routes(routes!(rules::own_alerts))
        .routes(routes!(preview::preview))
        .routes(routes!(status::status))
        .routes(routes!(live::live))
        .routes(routes!(people::incidents))
        .routes(routes!(people::incident))
        .routes(routes!(people::preview))
        .routes(routes!(v2::silences))
        .routes(routes!(v2::silence))
        .routes(routes!(v2::alerts))
        .routes(routes!(v2::groups))
        .routes(routes!(v2::receivers))
        .routes(routes!(v2::status))
        .routes(routes!(openapi::document))
}

fn writer() -> Routes {
    OpenApiRouter::new().routes(routes!(write::write))
}

fn operator() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(preview::reload))
        .routes(routes!(people::act_on_alert))
        .routes(routes!(people::act_on_incident))
        .routes(routes!(v2::set_silence))
        .routes(routes!(v2::expire_silence))
        .routes(routes!(v2::give_alerts))
}

fn admin() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(agents::revoke))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(status::snapshot))
}

/// The paths that Prometheus has, too.
fn prometheus() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(query::instant))
        .routes(routes!(query::range))
        .routes(routes!(query::exemplars))
        .routes(routes!(query::format))
        .routes(routes!(query::parse))
        .routes(routes!(series::label_names))
        .routes(routes!(series::label_values))
        .routes(routes!(series::series))
        .routes(routes!(series::metadata))
        .routes(routes!(rules::rules))
        .routes(routes!(rules::alerts))
        .routes(routes!(status::build_info))
        .routes(routes!(runtime::config))
        .routes(routes!(runtime::flags))
        .routes(routes!(runtime::runtime_info))
        .routes(routes!(runtime::tsdb))
        .routes(routes!(federate::federate))
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
