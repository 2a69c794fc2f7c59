//! The state store: one suite for both engines (sled's with `--features sled`).
//!
//! - `semantics`: what `State` promises, case by case; `model`: the same against a `BTreeMap`, by proptest.
//! - `damage`: files that are not ours, not whole or too new.
//! - `power_cut`: every write since the last fsync dropped, whole or in part, on the engine's real system calls:
//!   `strace` records them, `trace` reads them, `disk` keeps what a power cut would leave.
//! - `full_disk`: writes and fsyncs that fail.
//! - `workload`: the batches that the last two commit; `child`: the processes that do it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy.toml knows only functions marked #[test]"
)]

#[path = "state/child.rs"]
mod child;
#[path = "state/damage.rs"]
mod damage;
#[path = "state/disk.rs"]
mod disk;
#[path = "state/full_disk.rs"]
mod full_disk;
#[path = "state/model.rs"]
mod model;
#[path = "state/power_cut.rs"]
mod power_cut;
#[path = "state/semantics.rs"]
mod semantics;
#[path = "state/trace.rs"]
mod trace;
#[path = "state/workload.rs"]
mod workload;

/// Makes each of the named functions of an engine a test of every engine that is built in.
macro_rules! for_each_engine {
    ($($test:ident),* $(,)?) => {
        mod on_redb {
            $(#[test]
            fn $test() {
                super::$test(pitwatch_collector::state::Engine::Redb);
            })*
        }
        #[cfg(feature = "sled")]
        mod on_sled {
            $(#[test]
            fn $test() {
                super::$test(pitwatch_collector::state::Engine::Sled);
            })*
        }
    };
}
pub(crate) use for_each_engine;
