//! Random operations on a store and on a plain map, which must agree.

use std::time::Duration;

use proptest::prelude::*;

use crate::common::*;
use pitwatch_disk::SimDisk;
use pitwatch_history::{AppendError, Compacted, Config, Done, Job, Reject, SourceName};
use pitwatch_shared::model::{Lane, Mark};

#[derive(Clone, Debug)]
enum Op {
    Tick { source: usize, group: u16, step_ms: i64 },
    Schema { source: usize, group: u16, salt: u64 },
    Restart { source: usize, group: u16, salt: u64 },
    SendAgain { source: usize, salt: u64 },
    Malformed { source: usize, salt: u64 },
    Commit,
    Seal { run: bool },
    Compact,
    Wait { ms: i64 },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let source = 0..3_usize;
    let group = 0..2_u16;
    prop_oneof![
        12 => (source.clone(), group.clone(), prop_oneof![8 => 1..3000_i64, 1 => -5000..1_i64, 2 => (-8..5_i64).prop_map(|s| s * 1000), 1 => 50_000..5_000_000_i64])
            .prop_map(|(source, group, step_ms)| Op::Tick { source, group, step_ms }),
        3 => (source.clone(), group.clone(), any::<u64>())
            .prop_map(|(source, group, salt)| Op::Schema { source, group, salt }),
        1 => (source.clone(), group, any::<u64>()).prop_map(|(source, group, salt)| Op::Restart { source, group, salt }),
        1 => (source.clone(), any::<u64>()).prop_map(|(source, salt)| Op::SendAgain { source, salt }),
        1 => (source, any::<u64>()).prop_map(|(source, salt)| Op::Malformed { source, salt }),
        1 => Just(Op::Commit),
        2 => any::<bool>().prop_map(|run| Op::Seal { run }),
        1 => Just(Op::Compact),
        1 => (0..200_000_i64).prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Reopen),
    ]
}

fn slots(random: &mut Random) -> Vec<u32> {
    (0..6).filter(|_| random.below(2) == 0).collect()
}

fn run(ops: &[Op], seed: u64) {
    let disk = SimDisk::new(seed);
    let span = [Duration::from_secs(3), Duration::from_secs(600), Duration::from_secs(7200)][seed as usize % 3];
    let age = seed.is_multiple_of(2).then_some(span * 40);
    let config = Config { block_span: span, retention_age: age, retention_minutes: age, ..Config::default() };
    let (mut clock, mut horizon) = (0, i64::MIN);
    let (mut history, mut appender, _) = open(&disk, &config);
    let names = [SourceName::agent("one"), SourceName::agent("two"), SourceName::internal("self")];
    let mut feeders = names.map(Feeder::new);
    let mut random = Random(seed);
    for (nth, op) in ops.iter().enumerate() {
        // With retention the store's clock is never behind a sample, or what is sealed ahead of it would go early.
        let latest = feeders.iter().map(|feeder| feeder.now).max().unwrap_or(0);
        clock = if age.is_some() { latest.max(clock) } else { feeders[0].now };
        match *op {
            Op::Restart { source, group, salt } => {
                feeders[source].restart(group, &slots(&mut Random(salt)));
            }
            Op::Schema { source, group, salt } => {
                let feeder = &mut feeders[source];
                let live = feeder.slots(group);
                let wanted = slots(&mut Random(salt));
                let retire: Vec<_> = live.iter().copied().filter(|slot| !wanted.contains(slot)).collect();
                let add: Vec<_> = wanted.iter().copied().filter(|slot| !live.contains(slot)).collect();
                if feeder.has_chain() {
                    feeder.schema(false, group, &retire, &add);
                } else {
                    feeder.restart(group, &wanted);
                }
            }
            Op::Tick { source, group, step_ms } => {
                let feeder = &mut feeders[source];
                if feeder.groups().contains(&group) {
                    feeder.tick(group, step_ms, |_, before| value(&mut random, before));
                }
            }
            Op::SendAgain { source, salt } => {
                let feeder = &feeders[source];
                if !feeder.frames.is_empty() {
                    let frame = &feeder.frames[salt as usize % feeder.frames.len()];
                    let again = appender.append(&feeder.name, Lane::Metrics, frame.mark, &frame.payload).unwrap();
                    assert!(again.duplicate && again.samples == 0);
                }
            }
            Op::Malformed { source, salt } => malformed(&mut appender, &feeders[source], salt),
            Op::Commit => appender.commit().unwrap(),
            Op::Seal { run } => {
                if let Some(job) = appender.seal(clock).unwrap()
                    && run
                {
                    job.run().unwrap();
                }
                if run && let Some(job) = appender.maintain(clock).unwrap() {
                    run_job(job).unwrap();
                }
            }
            Op::Compact => {
                while let Some(job) = appender.compact(clock)
                    && run_job(Job::Compact(job)).unwrap() != Done::Compacted(Compacted::default())
                {}
            }
            Op::Wait { ms } => {
                clock += ms;
                if let Some(job) = appender.maintain(clock).unwrap() {
                    run_job(job).unwrap();
                }
            }
            Op::Reopen => {
                appender.commit().unwrap();
                drop((history, appender));
                let report;
                (history, appender, report) = open(&disk, &config);
                assert!(report.losses.is_empty(), "{:?}", report.losses);
            }
        }
        if let Op::Tick { source, .. } | Op::Schema { source, .. } | Op::Restart { source, .. } = *op {
            let feeder = &feeders[source];
            if let Some(frame) = feeder.frames.last() {
                appender.append(&feeder.name, Lane::Metrics, frame.mark, &frame.payload).unwrap();
            }
        }
        if let Some(age) = age {
            horizon = horizon.max(clock - age.as_millis() as i64);
        }
        if nth % 8 == 7 || nth + 1 == ops.len() {
            let mut expected = Model::new();
            for feeder in &feeders {
                feeder.model(Some(Mark { epoch: u64::MAX, seq: 0 }), &mut expected);
            }
            assert_same_since(horizon, contents(&history), expected, &format!("after {nth} {op:?}"));
        }
    }
}

fn malformed(appender: &mut pitwatch_history::Appender, feeder: &Feeder, salt: u64) {
    let last = feeder.frames.last().map_or(Mark { epoch: 1, seq: 0 }, |frame| frame.mark);
    let next = Mark { seq: last.seq + 1, ..last };
    let bad: Vec<u8> = (0..salt % 40).map(|i| (salt >> (i % 8)) as u8 | 0x80).collect();
    let refused = appender.append(&feeder.name, Lane::Metrics, next, &bad);
    assert!(matches!(refused, Err(AppendError::Reject(_))));
    if let Some(frame) = feeder.frames.iter().find(|frame| frame.samples.len() > 1) {
        let gap = Mark { seq: last.seq + 2, ..last };
        let refused = appender.append(&feeder.name, Lane::Metrics, gap, &frame.payload);
        assert!(matches!(refused, Err(AppendError::Reject(Reject::Gap { .. }))));
    }
    let refused = appender.append(&feeder.name, Lane::Logs, next, b"line");
    assert!(matches!(refused, Err(AppendError::Reject(Reject::Lane(Lane::Logs)))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_store_agrees_with_a_map(ops in proptest::collection::vec(op(), 1..120), seed: u64) {
        run(&ops, seed);
    }
}
