//! Power cuts: a process commits batches under strace; at many moments of its trace the disk is rebuilt as a power
//! cut may have left it, and another process opens the store there and looks for what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;
use std::time::SystemTime;

use pitwatch_collector::state::Engine;

use crate::child::{Orders, Task};
use crate::disk::{Disk, Fate};
use crate::for_each_engine;
use crate::trace;
use crate::workload::Rng;

/// Set to the printed seed to run the same cuts again (the threads' interleaving is not repeated).
const SEED_VAR: &str = "PITWATCH_STATE_SEED";
const BATCHES: u64 = 200;
/// Half of them right after an acknowledgement, half anywhere.
const CUTS: u64 = 45;
/// Each with another fate of what was not synced.
const IMAGES_PER_CUT: u64 = 2;

for_each_engine!(
    power_cuts_lose_nothing_acknowledged,
    power_cuts_after_a_failed_fsync_lose_nothing_acknowledged,
    an_engine_that_does_not_sync_is_caught,
);

fn power_cuts_lose_nothing_acknowledged(engine: Engine) {
    let seed = seed();
    let outcome = run(engine, Task::Commit { batches: BATCHES }, &[], seed, usize::MAX);
    println!("{engine}, seed {seed}: {outcome:?}");
    assert!(outcome.images >= CUTS, "{outcome:?}");
    assert!(outcome.bad.is_empty(), "{engine}, {SEED_VAR}={seed}: {:#?}", outcome.bad);
}

fn power_cuts_after_a_failed_fsync_lose_nothing_acknowledged(engine: Engine) {
    let seed = seed();
    let faults = ["inject=fdatasync:error=EIO:when=40..200+40"];
    let outcome = run(engine, Task::CommitPersistently { batches: BATCHES }, &faults, seed, usize::MAX);
    println!("{engine} with failed fsyncs, seed {seed}: {outcome:?}");
    assert!(outcome.failed_syncs > 0, "{outcome:?}");
    assert!(outcome.bad.is_empty(), "{engine}, {SEED_VAR}={seed}: {:#?}", outcome.bad);
}

fn an_engine_that_does_not_sync_is_caught(engine: Engine) {
    let seed = seed();
    let outcome = run(engine, Task::CommitUnsafely { batches: BATCHES }, &[], seed, 3);
    println!("{engine} without its fsync, seed {seed}: {outcome:?}");
    assert!(!outcome.bad.is_empty(), "{engine}, {SEED_VAR}={seed}: the harness missed it: {outcome:?}");
}

#[derive(Debug, Default)]
struct Outcome {
    images: u64,
    by_fate: BTreeMap<String, u64>,
    writes: u64,
    written_bytes: u64,
    syncs: u64,
    failed_syncs: u64,
    range_syncs: u64,
    bad: Vec<String>,
}

fn seed() -> u64 {
    match env::var(SEED_VAR) {
        Ok(text) => text.parse().expect("the seed is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_nanos() as u64,
    }
}

/// Traces `task` with `faults`, cuts the power and checks; stops after `bad_max` bad images.
fn run(engine: Engine, task: Task, faults: &[&str], seed: u64, bad_max: usize) -> Outcome {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).expect("it can be made");
    let orders = Orders { task, engine, dir: root.join("state"), seed };
    let trace = trace::record(&orders, faults, scratch.path());

    let mut rng = Rng::new(seed);
    let cuts = choose_cuts(&trace, &root, &mut rng);
    let mut disk = Disk::new(&root);
    let mut outcome = Outcome::default();
    let (mut moments, mut acked) = (0, 0);
    trace::replay(&trace, &mut |call, moment| {
        if let (Some(number), trace::Moment::Begin) = (call.ack(), &moment) {
            acked = number;
        } else if !disk.feed(call, &moment) {
            return true;
        }
        moments += 1;
        if cuts.contains(&moments) {
            for _ in 0..IMAGES_PER_CUT {
                let fate = Fate::ALL[rng.below(Fate::ALL.len() as u64) as usize];
                let image = scratch.path().join("image");
                disk.cut(fate, &mut rng, &image);
                outcome.images += 1;
                *outcome.by_fate.entry(format!("{fate:?}")).or_default() += 1;
                let check = Task::Check { acked, begun: acked + 1 };
                let checked = Orders { task: check, dir: image.join("state"), ..orders.clone() }.run(&[]);
                if let Err(reason) = checked.verdict() {
                    outcome.bad.push(format!("moment {moments}, {fate:?}, {acked} acknowledged: {reason}"));
                }
                std::fs::remove_dir_all(&image).expect("the image can be removed");
            }
        }
        outcome.bad.len() < bad_max
    });
    outcome.writes = disk.counts.writes;
    outcome.written_bytes = disk.counts.written_bytes;
    outcome.syncs = disk.counts.syncs;
    outcome.failed_syncs = disk.counts.failed_syncs;
    outcome.range_syncs = disk.counts.range_syncs;
    outcome
}

fn choose_cuts(trace: &Path, root: &Path, rng: &mut Rng) -> BTreeSet<u64> {
    let mut disk = Disk::new(root);
    let mut moments = 0;
    let mut acks = Vec::new();
    trace::replay(trace, &mut |call, moment| {
        let ack = call.ack().is_some() && matches!(moment, trace::Moment::Begin);
        if ack || disk.feed(call, &moment) {
            moments += 1;
        }
        if ack {
            acks.push(moments);
        }
        true
    });
    assert_eq!(acks.len() as u64, BATCHES, "acknowledgements in the trace");
    assert!(disk.counts.written_bytes > 500_000, "the trace misses the engine's writes: {:?}", disk.counts);
    let mut cuts = BTreeSet::new();
    while (cuts.len() as u64) < CUTS {
        let ack = acks[rng.below(acks.len() as u64) as usize];
        cuts.insert(if rng.coin() { ack } else { 1 + rng.below(moments) });
    }
    cuts
}
