//! Writes and fsyncs that fail: errors, never panics; nothing acknowledged is lost; it goes on by itself afterwards.

use std::fs;
use std::path::Path;

use pitwatch_collector::state::Engine;

use crate::child::{Finished, Orders, Task};
use crate::{for_each_engine, trace};

for_each_engine!(
    a_full_disk_is_an_error_until_there_is_room,
    a_failed_fsync_is_an_error_and_the_next_commit_reopens,
    no_room_to_open_is_an_error,
);

const SEED: u64 = 11;
const BATCHES: u64 = 120;

/// Runs `task` in `dir` with strace making system calls fail as `faults` says.
fn run(engine: Engine, task: Task, dir: &Path, faults: &[&str]) -> Finished {
    let log = dir.with_extension("strace");
    let mut options = vec!["-e", "trace=pwrite64,fsync,fdatasync", "-s", "0", "-o", log.to_str().unwrap()];
    faults.iter().for_each(|fault| options.extend(["-e", fault]));
    let orders = Orders { task, engine, dir: dir.to_owned(), seed: SEED };
    let finished = orders.run(&trace::strace(&options));
    if let Err(reason) = finished.verdict() {
        panic!("{engine} with {faults:?}: {reason}");
    }
    let injected = fs::read_to_string(&log).unwrap().matches("(INJECTED)").count();
    assert!(injected > 0, "nothing was made to fail by {faults:?}");
    finished
}

fn check(engine: Engine, dir: &Path, batches: u64) {
    let orders =
        Orders { task: Task::Check { acked: batches, begun: batches }, engine, dir: dir.to_owned(), seed: SEED };
    if let Err(reason) = orders.run(&[]).verdict() {
        panic!("{engine} afterwards: {reason}");
    }
}

fn a_full_disk_is_an_error_until_there_is_room(engine: Engine) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("state");
    // strace counts the calls of each thread by itself: sled writes from several.
    let window = match engine {
        Engine::Redb => "inject=pwrite64:error=ENOSPC:when=400..460",
        Engine::Sled => "inject=pwrite64:error=ENOSPC:when=5..7",
    };
    let finished = run(engine, Task::CommitPersistently { batches: BATCHES }, &dir, &[window]);
    let (full, failed, unread) = (finished.number("FULL"), finished.number("FAILED"), finished.number("UNREAD"));
    println!("{engine}: {full} commits had no room, {failed} failed otherwise, {unread} reads failed");
    assert!(full > 0 && failed == 0, "{}", finished.stdout());
    check(engine, &dir, BATCHES);
}

fn a_failed_fsync_is_an_error_and_the_next_commit_reopens(engine: Engine) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("state");
    let faults = ["inject=fdatasync:error=EIO:when=30..33"];
    let finished = run(engine, Task::CommitPersistently { batches: BATCHES }, &dir, &faults);
    println!("{engine}: {} commits failed, {} reads", finished.number("FAILED"), finished.number("UNREAD"));
    assert!(finished.number("FAILED") > 0, "{}", finished.stdout());
    check(engine, &dir, BATCHES);
}

fn no_room_to_open_is_an_error(engine: Engine) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("state");
    run(engine, Task::OpenFull, &dir, &["inject=pwrite64:error=ENOSPC"]);
    // What that left must not be in the way.
    check(engine, &dir, 0);
    run(engine, Task::OpenFull, &dir, &["inject=pwrite64:error=ENOSPC"]);
    check(engine, &dir, 1);
}
