//! Power cuts at any change of the disk, kills, failing syncs and a full disk, by seed. After each restart the store
//! must hold exactly the frames up to each source's mark, and the mark must cover all that was acknowledged.

use std::path::Path;
use std::sync::Arc;

use crate::common::*;
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::{Appender, Config, History, Loss, SourceName};
use pitwatch_shared::model::{Lane, Mark};

const SEEDS: u64 = 1000;
const LIVES: u64 = 5;

struct World {
    disk: SimDisk,
    random: Random,
    feeders: Vec<Feeder>,
    acknowledged: Vec<Option<Mark>>,
    /// Seals and cuts seen, so that the test cannot go blind.
    seals: u64,
    cuts: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let names = [SourceName::agent("one"), SourceName::agent("two"), SourceName::internal("self")];
        Self {
            disk: SimDisk::new(seed),
            random: Random(seed),
            feeders: names.map(Feeder::new).into(),
            acknowledged: vec![None; 3],
            seals: 0,
            cuts: 0,
        }
    }

    fn open(&mut self) -> (Arc<History>, Appender) {
        if self.random.below(4) == 0 {
            self.disk.cut_after(self.random.below(12));
        }
        let report;
        let (history, appender);
        loop {
            match History::open(Arc::new(self.disk.clone()), Path::new(DIR), Config::default()) {
                // Opening does without some changes, so that the power may be gone all the same.
                Ok(_) if self.disk.list(Path::new(DIR)).is_err() => self.cut(),
                Ok(opened) => {
                    (history, appender, report) = opened;
                    break;
                }
                Err(_) => self.cut(),
            }
        }
        self.disk.cut_after(u64::MAX);
        for loss in &report.losses {
            assert!(matches!(loss, Loss::TornTail { .. } | Loss::Header { .. }), "{loss}");
        }
        let mut expected = Model::new();
        let mut sent = 0;
        for (feeder, acknowledged) in self.feeders.iter().zip(&mut self.acknowledged) {
            let mark = appender.mark(&feeder.name, Lane::Metrics);
            assert!(
                mark >= *acknowledged,
                "{}: {acknowledged:?} was acknowledged, {mark:?} is there",
                feeder.name.name
            );
            assert!(mark <= feeder.frames.last().map(|frame| frame.mark));
            feeder.model(mark, &mut expected);
            sent += feeder.samples(mark);
            // What the store answers here is what a reconnecting agent is told.
            *acknowledged = mark;
        }
        let stats = history.stats();
        assert!(stats.block_samples + stats.head_samples <= sent, "samples are stored twice: {stats:?}");
        assert_same(&contents(&history), &expected, "after a restart");
        (history, appender)
    }

    fn cut(&mut self) {
        self.disk.power_cut();
        self.cuts += 1;
    }

    /// One frame of one source, or a few.
    fn frame(&mut self, appender: &mut Appender) {
        let which = self.random.below(3) as usize;
        let group = self.random.below(2) as u16;
        let choice = self.random.below(20);
        let random = &mut self.random;
        let feeder = &mut self.feeders[which];
        let some = |random: &mut Random| (0..5).filter(|_| random.below(2) == 0).collect::<Vec<u32>>();
        if !feeder.has_chain() || choice == 0 {
            feeder.restart(group, &some(random));
        } else if choice < 3 {
            let (live, wanted) = (feeder.slots(group), some(random));
            let retire: Vec<_> = live.iter().copied().filter(|slot| !wanted.contains(slot)).collect();
            let add: Vec<_> = wanted.iter().copied().filter(|slot| !live.contains(slot)).collect();
            feeder.schema(false, group, &retire, &add);
        } else if feeder.groups().contains(&group) {
            let step = if random.below(20) == 0 { -2500 } else { 1000 };
            feeder.tick(group, step, |_, before| value(random, before));
        } else {
            return;
        }
        let Some(frame) = feeder.frames.last() else { return };
        appender.append(&feeder.name, Lane::Metrics, frame.mark, &frame.payload).unwrap();
    }

    fn commit(&mut self, appender: &mut Appender) -> bool {
        if appender.commit().is_err() {
            return false;
        }
        for (feeder, acknowledged) in self.feeders.iter().zip(&mut self.acknowledged) {
            *acknowledged = feeder.frames.last().map(|frame| frame.mark);
            assert_eq!(*acknowledged, appender.mark(&feeder.name, Lane::Metrics));
        }
        true
    }

    fn life(&mut self) {
        let (_history, mut appender) = self.open();
        for feeder in &self.feeders {
            let mark = appender.mark(&feeder.name, Lane::Metrics);
            feeder.send_after(&mut appender, mark);
        }
        let cut_after = self.random.below(60);
        if self.random.below(5) > 0 {
            self.disk.cut_after(cut_after);
        }
        for _ in 0..self.random.below(120) {
            match self.random.below(24) {
                0..3 => {
                    self.commit(&mut appender);
                }
                3 => {
                    if let Ok(Some(job)) = appender.seal(self.feeders[0].now)
                        && self.random.below(4) > 0
                        && job.run().is_ok()
                    {
                        self.seals += 1;
                    }
                }
                4 => {
                    if let Ok(Some(job)) = appender.maintain(self.feeders[0].now) {
                        self.seals += u64::from(run_job(job).is_ok());
                    }
                }
                5 => self.disk.fail_syncs(self.random.below(3) as u32),
                6 => self.disk.set_capacity(self.disk.used_bytes() + self.random.below(4000)),
                7 => self.disk.set_capacity(u64::MAX),
                _ => self.frame(&mut appender),
            }
        }
        self.disk.set_capacity(u64::MAX);
        self.disk.fail_syncs(0);
        if self.random.below(3) == 0 {
            // A kill before the commit; if the power is gone too, opening notices.
            return;
        }
        if !self.commit(&mut appender) {
            self.cut();
        } else if self.random.below(2) == 0 {
            // Otherwise it is a kill: the system goes on, with what it has in memory.
            self.cut();
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_once_after_any_cut() {
    let seeds = match std::env::var("PITWATCH_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..SEEDS,
    };
    let (mut seals, mut cuts) = (0, 0);
    for seed in seeds.clone() {
        let ran = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..LIVES {
                world.life();
            }
            world.open();
            (world.seals, world.cuts)
        });
        let Ok(ran) = ran else { panic!("seed {seed} fails; run it alone with PITWATCH_SEED={seed}") };
        seals += ran.0;
        cuts += ran.1;
    }
    assert!(seeds.end - seeds.start < SEEDS || (seals > SEEDS / 2 && cuts > SEEDS), "{seals} seals, {cuts} cuts");
}
