//! A bench for one source: a root directory of its own, a table, ticks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::source::{Buffer, Now, Pass, Sink, Source};
use super::table::Table;

/// How long a source may wait for an answer, as in the run loop.
const PATIENCE: Duration = Duration::from_millis(20);

pub(super) struct Bench {
    dir: tempfile::TempDir,
    source: Box<dyn Source>,
    pub(super) table: Table,
    buffer: Buffer,
    now: Now,
}

impl Bench {
    pub(super) fn new(source: impl FnOnce(&Path) -> Box<dyn Source>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = source(dir.path());
        let now = Now { monotonic: Instant::now(), ts_ms: 1_700_000_000_000 };
        Self { dir, source, table: Table::new(&[]), buffer: Buffer::new(), now }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(super) fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// One tick: how many fields were malformed, or the source's error with paths below the bench's root.
    pub(super) fn tick(&mut self) -> Result<u64, String> {
        self.tick_after(Duration::from_secs(1))
    }

    pub(super) fn tick_after(&mut self, pause: Duration) -> Result<u64, String> {
        self.now.monotonic += pause;
        self.now.ts_ms += pause.as_millis() as i64;
        self.table.begin();
        let mut pass = Pass {
            sink: Sink { table: &mut self.table, malformed: 0 },
            buffer: &mut self.buffer,
            now: self.now,
            patience: PATIENCE,
        };
        let outcome = self.source.gather(&mut pass).map(|()| pass.sink.malformed);
        self.table.end();
        let root = format!("{}/", self.dir.path().display());
        outcome.map_err(|error| error.to_string().replace(&root, ""))
    }

    pub(super) fn value(&self, series: &str) -> Option<f64> {
        let def = self.table.live().find(|def| def.labels.to_string() == series)?;
        Some(self.table.values()[def.slot as usize])
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.table.live().map(|def| def.labels.to_string()).collect();
        names.sort();
        names
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

/// Feeds a source a real file with some bytes cut, changed, doubled or put in: it must survive and stay bounded.
pub(super) fn survives_mutation(path: &str, real: &'static [u8], source: fn(&Path) -> Box<dyn Source>) {
    let change = (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..6), 0_usize..40);
    // Each case writes files: a quarter of the usual number keeps the suite quick.
    let config = ProptestConfig { cases: 64, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(change, 1..12), |changes| {
        let mut bench = Bench::new(source);
        let mut bytes = real.to_vec();
        for (at, put, cut) in changes {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
            bench.file(path, &bytes);
            let _ = bench.tick();
            prop_assert!(bench.len() <= bytes.len(), "more series than bytes");
        }
        Ok(())
    });
    outcome.unwrap();
}
