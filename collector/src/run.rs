//! The collector at work: everything opened in order, joined, and stopped in the other order.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_disk::{Disk, RealDisk};
use pitwatch_history::History;
use pitwatch_history::logs::LogConfig;
use pitwatch_promql::EngineOptions;
use pitwatch_shared::identity::COLLECTOR_NAME;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::access::{Access, AccessError, LocalTls};
use crate::agents::Agents;
use crate::alerts::Alerts;
use crate::alerts::moment::Moments;
use crate::alerts::rules::RuleSource;
use crate::alerts::store::AlertStore;
use crate::api::{self, App};
use crate::authority::Authority;
use crate::backup::{self, snapshot};
use crate::certificate::Served;
use crate::clock::unix_ms;
use crate::config::{Config, reached_at};
use crate::fleet::Registry;
use crate::ingest::{Event, Ingest};
use crate::listen::{self, ListenStats, Shared, keys::Keys};
use crate::source::HistorySource;
use crate::state;
use crate::telemetry::Telemetry;

/// Connections are given this long to close at the end, seconds.
const CLOSE_TIMEOUT_SECS: u64 = 3;
/// Tokens' last uses are stored this often, seconds.
const SAVE_USES_SECS: u64 = 60;
/// The local command line's file is tried again after this, seconds.
const LOCAL_FILE_RETRY_SECS: u64 = 5;
/// What agents said of themselves is stored this often, seconds.
const SAVE_INTRODUCED_SECS: u64 = 2;
/// Threads that read the series of one query, at most; fewer where there are fewer cores.
const QUERY_THREADS_MAX: usize = 8;

/// Where a running collector was reached, once it is.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// UDP, for agents.
    pub agents: SocketAddr,
    /// TCP, for people and programs.
    pub http: SocketAddr,
}

/// Makes the data directory, the authority and the state store without serving.
///
/// # Errors
/// The disk's.
pub fn init(config: &Config) -> anyhow::Result<Authority> {
    let dir = &config.data_dir;
    if dir.join(backup::UNFINISHED).exists() {
        anyhow::bail!("a restore into {} did not come to its end: empty it and restore again", dir.display());
    }
    RealDisk.create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let authority = Authority::open(dir, unix_ms() / 1000)?;
    Keys::open(dir).with_context(|| format!("cannot keep the endpoint's keys in {}", dir.display()))?;
    Ok(authority)
}

/// The options of the store.
pub(crate) fn history_config(config: &Config) -> pitwatch_history::Config {
    pitwatch_history::Config {
        block_span: config.history.block_span,
        head_max_bytes: config.history.head_max_bytes,
        retention_age: Some(config.history.retention),
        retention_minutes: Some(config.history.retention_minutes),
        retention_hours: Some(config.history.retention_hours),
        retention_bytes: config.history.retention_bytes,
        logs: LogConfig { retention_age: Some(config.history.retention_events), ..LogConfig::default() },
        ..pitwatch_history::Config::default()
    }
}

/// Serves until `stop`. `ready` is told the addresses once everything is up.
///
/// # Errors
/// What keeps the collector from beginning.
pub async fn run(
    config: Config,
    mut stop: watch::Receiver<bool>,
    ready: oneshot::Sender<Addresses>,
) -> anyhow::Result<()> {
    let started_ms = unix_ms();
    let dir = config.data_dir.clone();
    let authority = init(&config)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let state = state::open(config.state, &dir.join("state"))?;
    snapshot::remove(&dir).with_context(|| format!("cannot remove a left-over snapshot in {}", dir.display()))?;
    let (history, appender, recovery) = History::open(disk.clone(), &dir.join("history"), history_config(&config))?;
    info!(
        blocks = recovery.blocks,
        rollups = recovery.rollups,
        segments = recovery.segments,
        frames = recovery.frames,
        samples = recovery.samples,
        "history open"
    );
    if recovery.is_uncatalogued && recovery.blocks + recovery.segments > 0 {
        info!("no catalog of what there should be: files that are missing as a whole were not noticed; made anew");
    }
    for loss in &recovery.losses {
        warn!("recovery: {loss}");
    }
    let agents = Arc::new(Agents::open(state.clone(), authority, config.agents.certificate_life)?);
    let access = Arc::new(Access::open(state.clone())?);
    let (ingest, ingest_thread) = Ingest::start(appender).context("no thread for ingest")?;
    let source = RuleSource::new(HistorySource::new(history.clone()), ingest.clone());
    let store = AlertStore::new(state.clone());
    let moments = Moments::new(HistorySource::new(history.clone()));
    let alerts = Alerts::open(config.alerting.clone(), &config.http.external_url, source, moments, store)?;
    let alerts = Arc::new(alerts);

    let keys = Keys::open(&dir).context("cannot keep the endpoint's keys")?;
    let endpoint = listen::open(config.agents.listen, &agents, &keys)?;
    let http = TcpListener::bind(config.http.listen)
        .await
        .with_context(|| format!("cannot listen for HTTP on TCP {}", config.http.listen))?;
    let addresses = Addresses { agents: endpoint.local_addr()?, http: http.local_addr()? };
    let certificate = config.http.tls.clone().map(|origin| Served::open(origin, agents.clone(), started_ms / 1000));
    let certificate = certificate.transpose()?;
    let tls = match &certificate {
        Some(served) => Some(api::Tls { config: Arc::new(served.server_config()?), is_strict: config.http.is_strict }),
        None => None,
    };
    let shared = Arc::new(Shared {
        agents: agents.clone(),
        ingest: ingest.clone(),
        roles: config.roles,
        stats: ListenStats::default(),
    });
    let query_stats = Arc::new(api::QueryStats::default());
    let snapshots = Arc::new(snapshot::Live::new(ingest.clone(), state.clone(), dir.clone()));
    let telemetry = Arc::new(Telemetry {
        history: history.clone(),
        ingest: ingest.clone(),
        agents: agents.clone(),
        listen: shared.clone(),
        alerts: alerts.clone(),
        queries: query_stats.clone(),
        state,
        disk,
        data_dir: dir.clone(),
        started_ms,
        losses: recovery.losses.iter().filter(|loss| !loss.is_harmless()).map(ToString::to_string).collect(),
        told: Arc::default(),
        certificate: certificate.clone(),
        stopping: AtomicBool::new(false),
    });
    let local = Local::new(access.clone(), dir, addresses.http, tls.is_some().then(|| agents.authority()));
    // A full disk must not keep the collector from serving: it would be gone just when somebody has to look.
    let unwritten = local.write().inspect_err(|error| warn!("{}", crate::error_chain(error))).is_err();
    let router = api::router(App {
        history: history.clone(),
        ingest: ingest.clone(),
        engine: EngineOptions { threads: query_threads(), ..EngineOptions::default() },
        queries_at_once: config.http.queries_at_once,
        query_stats,
        access: access.clone(),
        fleet: Arc::new(Registry { agents: agents.clone(), history }),
        alarms: alerts.clone(),
        desk: alerts.clone(),
        vitals: telemetry.clone(),
        snapshots,
        agents_address: Some(config.agents.address.clone().unwrap_or_else(|| reached_at(addresses.agents))),
        started_ms,
    });

    let (stop_parts, stopped) = watch::channel(false);
    if unwritten {
        tokio::spawn(local.write_later(stopped.clone()));
    }
    let agents_served = tokio::spawn(listen::serve(endpoint, shared, stopped.clone()));
    let parts = [
        tokio::spawn(telemetry.clone().run(stopped.clone())),
        tokio::spawn(alerts.clone().evaluate(ingest.clone(), stopped.clone())),
        tokio::spawn(alerts.clone().watch_rules(stopped.clone())),
        tokio::spawn(save_uses(access, stopped.clone())),
        tokio::spawn(save_introduced(agents.clone(), stopped.clone())),
    ];
    let deliveries = tokio::spawn(alerts.deliver(stopped.clone()));
    let renewals = certificate.map(|served| tokio::spawn(served.watch(stopped.clone())));
    let mut http_stop = stopped;
    let http_served = tokio::spawn(api::serve(http, tls, router, async move {
        let _ = http_stop.wait_for(|stop| *stop).await;
    }));
    info!(agents = %addresses.agents, http = %addresses.http, "collector ready");
    let _ = ready.send(addresses);

    let _ = stop.wait_for(|stop| *stop).await;
    info!("stopping");
    telemetry.stopping.store(true, Ordering::Relaxed);
    let _ = stop_parts.send(true);
    let patience = Duration::from_secs(CLOSE_TIMEOUT_SECS);
    // Agents first: they hear that it is planned. Then what arrived is made durable, then the rest may go.
    let _ = tokio::time::timeout(patience, agents_served).await;
    let (done, finished) = oneshot::channel();
    if ingest.send(Event::Stop(done)).await {
        let _ = finished.await;
    }
    if tokio::task::spawn_blocking(move || ingest_thread.join()).await.is_err() {
        warn!("the ingest thread ended badly");
    }
    for part in parts.into_iter().chain(renewals) {
        let _ = tokio::time::timeout(patience, part).await;
    }
    let _ = tokio::time::timeout(patience, deliveries).await;
    let _ = tokio::time::timeout(patience, http_served).await;
    info!("stopped");
    Ok(())
}

/// Threads that read the series of one query.
fn query_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(QUERY_THREADS_MAX)
}

/// How the command line of this host finds the collector and its token.
struct Local {
    access: Arc<Access>,
    dir: PathBuf,
    url: String,
    tls: Option<LocalTls>,
}

impl Local {
    /// For a collector that serves HTTP there, over TLS if an authority is named.
    fn new(access: Arc<Access>, dir: PathBuf, mut http: SocketAddr, authority: Option<&Authority>) -> Self {
        if http.ip().is_unspecified() {
            http.set_ip(if http.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let scheme = if authority.is_some() { "https" } else { "http" };
        let tls = authority
            .map(|authority| LocalTls { name: COLLECTOR_NAME.to_owned(), authority: authority.certificate_pem() });
        Self { access, dir, url: format!("{scheme}://{http}"), tls }
    }

    fn write(&self) -> Result<(), AccessError> {
        self.access.write_local_file(&self.dir, &self.url, self.tls.as_ref()).map(drop)
    }

    /// Tries again until it is written, or until `stop`.
    async fn write_later(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(Duration::from_secs(LOCAL_FILE_RETRY_SECS)) => {}
            }
            let local = this.clone();
            if let Ok(Ok(())) = tokio::task::spawn_blocking(move || local.write()).await {
                info!("the command line of this host finds the collector again");
                return;
            }
        }
    }
}

async fn save_introduced(agents: Arc<Agents>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(Duration::from_secs(SAVE_INTRODUCED_SECS)) => false,
        };
        let agents = agents.clone();
        let _ = tokio::task::spawn_blocking(move || agents.save_introduced()).await;
        if stopping {
            return;
        }
    }
}

async fn save_uses(access: Arc<Access>, mut stop: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(Duration::from_secs(SAVE_USES_SECS)) => false,
        };
        if access.has_uses_to_save() {
            let access = access.clone();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || access.save_uses()).await {
                warn!("tokens' last uses are not stored: {}", crate::error_chain(&error));
            }
        }
        if stopping {
            return;
        }
    }
}
