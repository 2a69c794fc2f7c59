//! Certificates for a whole fleet at once.
//!
//! Enrolment over the wire is a suite's matter; here thousands are wanted in seconds: the collector's authority signs
//! them in this process, before the collector starts, and its state store is told of them in large batches.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use pitwatch_agent::identity::{Identity, Request};
use pitwatch_collector::agents::AgentRecord;
use pitwatch_collector::authority::Authority;
use pitwatch_collector::clock::unix_ms;
use pitwatch_collector::state::{self, BATCH_MAX_KEYS, Batch, Engine, Table};
use pitwatch_shared::identity::AgentName;
use serde_json::json;

/// Life of the certificates: no benchmark lasts until their renewal.
const LIFE: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);
/// Threads that make keys.
const WORKERS: usize = 2;

/// Enrols agents `fleet-0`, `fleet-1`, … in the data directory of a collector that does not run.
///
/// # Errors
/// The disk's, or cryptography's.
pub fn enrol(data_dir: &Path, collector: SocketAddr, agents: usize) -> anyhow::Result<Vec<Identity>> {
    let names: Vec<String> = (0..agents).map(|nth| format!("fleet-{nth}")).collect();
    enrol_named(data_dir, collector, &names)
}

/// As [`enrol`], under these names.
///
/// # Errors
/// As [`enrol`]; a name that no agent may have.
pub fn enrol_named(data_dir: &Path, collector: SocketAddr, names: &[String]) -> anyhow::Result<Vec<Identity>> {
    std::fs::create_dir_all(data_dir)?;
    let now_ms = unix_ms();
    let authority = Authority::open(data_dir, now_ms / 1000)?;
    let one = |nth: usize| -> anyhow::Result<(usize, Identity, Vec<u8>)> {
        let name: AgentName = names[nth].parse()?;
        let request = Request::new()?;
        let issued = authority.issue(&request.csr, &name, LIFE, now_ms / 1000)?;
        let not_after_secs = issued.not_after_secs;
        let identity = request.granted(&name, &collector.to_string(), issued);
        let certificate =
            json!({ "fingerprint": identity.fingerprint().to_string(), "not_after_secs": not_after_secs });
        let record: AgentRecord = serde_json::from_value(json!({
            "enrolled_ms": now_ms,
            "revoked_ms": null,
            "revoked_by": null,
            "certificates": [certificate],
            "software": env!("CARGO_PKG_VERSION"),
            "labels": {},
        }))?;
        Ok((nth, identity, serde_json::to_vec(&record)?))
    };
    let share = |worker: usize| (worker..names.len()).step_by(WORKERS).map(one).collect::<anyhow::Result<Vec<_>>>();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || share(worker))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut made = Vec::with_capacity(names.len());
    for part in parts {
        made.extend(part.ok().context("a thread that makes keys panicked")??);
    }
    // The workers made them by turns.
    made.sort_unstable_by_key(|(nth, ..)| *nth);
    let state = state::open(Engine::default(), &data_dir.join("state"))?;
    for batch in made.chunks(BATCH_MAX_KEYS) {
        let mut puts = Batch::new();
        for (_, identity, record) in batch {
            puts.put(Table::Agents, identity.name().as_bytes(), record.as_slice());
        }
        state.commit(&puts)?;
    }
    Ok(made.into_iter().map(|(_, identity, _)| identity).collect())
}
