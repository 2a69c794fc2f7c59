//! Signals of applications: endpoints that are scraped, the textfile directory, StatsD.
//!
//! In reading order:
//! - [`config`]: their sections of agent.toml.
//! - [`exposition`]: the text format; [`names`], [`rules`]: what becomes of its names; `foreign`: its series in a table.
//! - [`http`]: asking an endpoint; [`access`]: its TLS and credentials; [`scrape`]: doing so at a cadence.
//! - `textfile`: files of the same format.
//! - [`statsd`], which takes datagrams.
//!
//! Each endpoint, the directory and StatsD are a group of the metrics lane each, with a table of their own: what floods one
//! takes no room of another, nor of the host's signals.

pub mod access;
pub mod config;
pub mod exposition;
mod foreign;
pub mod http;
pub mod names;
pub mod rules;
pub mod scrape;
pub mod statsd;
mod textfile;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::limits;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

pub use self::config::AppsConfig;

use self::names::Namer;
use self::scrape::{Scraped, Target};
use self::statsd::Statsd;
use self::statsd::listen::{Socket, listen};
use self::textfile::Textfile;
use crate::signals::Table;

/// The group of the textfile directory. Below are the host's.
pub const TEXTFILE: GroupId = 16;
/// The group of StatsD.
pub const STATSD: GroupId = 17;
/// The group of the first endpoint.
const FIRST_TARGET: GroupId = 18;
/// Most endpoints.
pub const TARGETS_MAX: usize = 32;
/// Answers of endpoints that wait to be taken.
const WAITING_MAX: usize = 2;
/// A socket that cannot be opened is tried again after this.
const SOCKET_RETRY: Duration = Duration::from_secs(10);

const _: () = assert!(FIRST_TARGET as usize + TARGETS_MAX <= limits::GROUPS_PER_LANE_MAX as usize);

/// The signals of applications.
pub struct Apps {
    groups: Vec<(GroupId, Table)>,
    textfile: Option<(Textfile, Timer)>,
    statsd: Option<(Arc<Mutex<Statsd>>, Timer)>,
    targets: Vec<Target>,
    scraped: mpsc::Receiver<Scraped>,
    /// Kept so that the channel stays open without endpoints.
    _sender: mpsc::Sender<Scraped>,
    _tasks: JoinSet<()>,
}

struct Timer {
    cadence: Duration,
    due: Instant,
}

impl Timer {
    fn new(cadence: Duration) -> Self {
        Self { cadence, due: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.due <= now;
        if is_due {
            self.due = (self.due + self.cadence).max(now);
        }
        is_due
    }
}

impl Apps {
    /// Begins to listen and to ask; series carry `labels`, those of an endpoint its own besides.
    #[must_use]
    pub fn start(config: &AppsConfig, labels: &[(String, String)]) -> Self {
        let (sender, scraped) = mpsc::channel(WAITING_MAX);
        let mut apps = Self {
            groups: Vec::new(),
            textfile: None,
            statsd: None,
            targets: Vec::new(),
            scraped,
            _sender: sender.clone(),
            _tasks: JoinSet::new(),
        };
        if !config.textfile.directories.is_empty() {
            apps.groups.push((TEXTFILE, Table::new(labels)));
            let files = Textfile::new(&config.textfile.directories, Namer::new(labels), config.textfile.series_max);
            apps.textfile = Some((files, Timer::new(config.textfile.cadence)));
        }
        if config.statsd.udp.is_some() || config.statsd.unix.is_some() {
            apps.listen(config, labels);
        }
        for (at, target) in config.scrape.iter().enumerate() {
            let own = target.labels.iter().cloned().chain([("job".to_owned(), target.job.clone())]);
            let mut all: Vec<(String, String)> = own.collect();
            let host = labels.iter().filter(|(name, _)| !all.iter().any(|(known, _)| known == name));
            let host: Vec<_> = host.cloned().collect();
            all.extend(host);
            apps.targets.push(Target::new(target, Namer::new(&all)));
            apps.groups.push((FIRST_TARGET + at as GroupId, Table::new(&all)));
            apps._tasks.spawn(scrape::run(at, target.clone(), sender.clone()));
        }
        apps
    }

    fn listen(&mut self, config: &AppsConfig, labels: &[(String, String)]) {
        let statsd = &config.statsd;
        let expire = statsd.expire.as_secs_f64() / statsd.cadence.as_secs_f64();
        let made = Statsd::new(Namer::new(labels), statsd.series_max, expire.ceil() as u32);
        let shared = Arc::new(Mutex::new(made));
        self.groups.push((STATSD, Table::new(labels)));
        self.statsd = Some((shared.clone(), Timer::new(statsd.cadence)));
        if let Some(address) = statsd.udp {
            let shared = shared.clone();
            self._tasks.spawn(async move {
                let socket = opened(&format!("UDP {address}"), || Socket::udp(address)).await;
                listen(socket, shared).await;
            });
        }
        if let Some(path) = statsd.unix.clone() {
            self._tasks.spawn(async move {
                let socket = opened(&path.display().to_string(), || std::future::ready(Socket::unix(&path))).await;
                listen(socket, shared).await;
            });
        }
    }

    /// Every group with its table.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Table)> {
        self.groups.iter().map(|(id, table)| (*id, table))
    }

    /// A group's table.
    pub fn table(&mut self, group: GroupId) -> Option<&mut Table> {
        self.groups.iter_mut().find(|(id, _)| *id == group).map(|(_, table)| table)
    }

    /// When something is to be gathered that is not asked for by a task.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let textfile = self.textfile.as_ref().map(|(_, timer)| timer.due);
        let statsd = self.statsd.as_ref().map(|(_, timer)| timer.due);
        textfile.into_iter().chain(statsd).min()
    }

    /// The next answer of an endpoint; never, if there are none.
    pub async fn scraped(&mut self) -> Option<Scraped> {
        self.scraped.recv().await
    }

    /// Puts the answer of an endpoint into its table; gives the group.
    pub fn take(&mut self, scraped: Scraped) -> Option<GroupId> {
        let group = FIRST_TARGET + scraped.target as GroupId;
        let target = self.targets.get_mut(scraped.target)?;
        let (_, table) = self.groups.iter_mut().find(|(id, _)| *id == group)?;
        target.take(scraped, table);
        Some(group)
    }

    /// Gathers what is due; gives the groups.
    pub fn gather(&mut self) -> Vec<GroupId> {
        let mut gathered = Vec::new();
        if let Some((files, timer)) = &mut self.textfile
            && timer.take()
            && let Some((id, table)) = self.groups.iter_mut().find(|(id, _)| *id == TEXTFILE)
        {
            files.gather(table);
            gathered.push(*id);
        }
        if let Some((statsd, timer)) = &mut self.statsd
            && timer.take()
            && let Some((id, table)) = self.groups.iter_mut().find(|(id, _)| *id == STATSD)
        {
            statsd.lock().unwrap_or_else(PoisonError::into_inner).tick(table);
            gathered.push(*id);
        }
        gathered
    }
}

/// Opens a socket, again and again until it can be.
async fn opened<F>(what: &str, open: impl Fn() -> F) -> Socket
where
    F: Future<Output = std::io::Result<Socket>>,
{
    let mut said = false;
    loop {
        match open().await {
            Ok(socket) => return socket,
            Err(error) if !said => {
                warn!("cannot listen for StatsD on {what}, trying again every {} s: {error}", SOCKET_RETRY.as_secs());
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(SOCKET_RETRY).await;
    }
}
