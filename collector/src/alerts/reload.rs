//! Rules and routing taken anew: when their files change, on SIGHUP, on request. All or none: a mistake in any of them
//! leaves both as they are.
//!
//! Alerts of rules that stay go on as they are; those of rules that are gone are withdrawn. Who was told of what under a
//! route that stays is not told again; what waits goes out by the new routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pitwatch_alerting::StoredAlert;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::deliver::Ways;
use super::{Alerts, dispatcher, routing, rules};
use crate::clock::unix_ms;

/// The rule files are looked at this often, milliseconds. A change is taken at the second look that finds the same: a
/// file that is being written is left alone.
const LOOK_MS: u64 = 2_000;

impl Alerts {
    /// Takes rule files anew when they change or SIGHUP comes, until `stop`.
    pub async fn watch_rules(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            error!("SIGHUP cannot be waited for: rules are not taken anew by themselves");
            return;
        };
        let look = |this: Arc<Self>| tokio::task::spawn_blocking(move || this.fingerprint());
        let mut taken = look(self.clone()).await.ok().flatten();
        let mut before = taken.clone();
        loop {
            let is_asked = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                heard = hangup.recv() => heard.is_some(),
                () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => false,
            };
            let Ok(now) = look(self.clone()).await else { continue };
            // A directory that cannot be read now tells nothing.
            let has_settled = now.is_some() && now != taken && now == before;
            before.clone_from(&now);
            if is_asked || has_settled {
                taken = now;
                let this = self.clone();
                let _ = tokio::task::spawn_blocking(move || this.reload_now()).await;
            }
        }
    }

    fn fingerprint(&self) -> Option<rules::Fingerprint> {
        let mut files = rules::fingerprint(&self.config).ok()?;
        let patterns = self.desk().ways.routing.template_files.clone();
        files.extend(routing::fingerprint(&self.config, &patterns).ok()?);
        Some(files)
    }

    /// Takes the rule files and the routing as they are now; gives the number of rules.
    ///
    /// # Errors
    /// Every mistake in them.
    pub(super) fn reload_now(&self) -> anyhow::Result<usize> {
        let loaded = rules::load(&self.config).and_then(|files| Ok((files, Ways::load(&self.config)?)));
        let (files, ways) = loaded.inspect_err(|mistakes| {
            self.stats.reload_failures.fetch_add(1, Ordering::Relaxed);
            self.stats.rules_refused.store(true, Ordering::Relaxed);
            warn!("rules and routing are as they were, for mistakes in the files:\n{mistakes:#}");
        })?;
        let count = rules::count(&files);
        let now_ms = unix_ms();
        let mut inner = self.lock();
        let output = inner.engine.reload(files, now_ms);
        self.tell(output.notifications, &output.changes, now_ms);
        let alerts: Vec<StoredAlert> = inner.engine.stored().into_iter().chain(inner.outside.iter().cloned()).collect();
        self.route_by(ways, &alerts, now_ms)?;
        drop(inner);
        self.stats.reloads.fetch_add(1, Ordering::Relaxed);
        self.stats.rules_refused.store(false, Ordering::Relaxed);
        info!(rules = count, "rules and routing taken anew");
        Ok(count)
    }

    /// Has the desk tell by other ways from now on.
    fn route_by(&self, ways: Ways, alerts: &[StoredAlert], now_ms: i64) -> anyhow::Result<()> {
        let mut desk = self.desk();
        let kept = desk.dispatcher.kept();
        let silences = std::mem::take(&mut desk.dispatcher.silences);
        desk.dispatcher = dispatcher(&self.config, &ways, silences, now_ms);
        desk.ways = Arc::new(ways);
        let changes = desk.restore(kept, alerts, now_ms);
        self.store.save(&[], &changes, &[])?;
        drop(desk);
        self.queued.notify_one();
        Ok(())
    }
}
