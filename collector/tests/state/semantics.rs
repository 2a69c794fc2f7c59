//! What `State` promises, case by case.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pitwatch_collector::state::{
    self, BATCH_MAX_BYTES, BATCH_MAX_KEYS, Batch, Engine, KEY_MAX_BYTES, State, StateError, Table, VALUE_MAX_BYTES,
};
use tempfile::TempDir;

use crate::{child, for_each_engine, workload};

for_each_engine!(
    what_was_put_is_found_and_what_was_deleted_is_not,
    a_scan_is_in_order_of_keys_and_keeps_to_its_prefix_and_table,
    a_scan_stops_where_it_is_told,
    a_scan_may_use_the_store,
    a_callers_panic_goes_through_and_leaves_the_store_usable,
    limits_hold_and_what_breaks_one_changes_nothing,
    it_is_there_after_a_reopening,
    one_process_at_a_time,
    programs_that_start_meanwhile_do_not_keep_it_locked,
    the_other_engines_store_is_refused,
    readers_see_whole_batches_in_their_order,
    the_whole_state_fits_well,
);

fn open(engine: Engine) -> (TempDir, Arc<dyn State>) {
    let dir = tempfile::tempdir().unwrap();
    let state = state::open(engine, &dir.path().join("new/state")).unwrap();
    (dir, state)
}

fn scan(state: &dyn State, table: Table, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    state
        .scan(table, prefix, &mut |key, value| {
            entries.push((key.to_owned(), value.to_owned()));
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

fn keys(state: &dyn State, table: Table, prefix: &[u8]) -> Vec<Vec<u8>> {
    scan(state, table, prefix).into_iter().map(|(key, _)| key).collect()
}

fn what_was_put_is_found_and_what_was_deleted_is_not(engine: Engine) {
    let (_dir, state) = open(engine);
    assert_eq!(state.get(Table::Agents, b"web-1").unwrap(), None);
    state.commit(&Batch::new()).unwrap();
    let mut batch = Batch::new();
    batch.put(Table::Agents, *b"web-1", *b"a").put(Table::Certificates, *b"web-1", *b"b").put(Table::Meta, *b"", *b"");
    state.commit(&batch).unwrap();
    assert_eq!(state.get(Table::Agents, b"web-1").unwrap().unwrap(), b"a");
    assert_eq!(state.get(Table::Certificates, b"web-1").unwrap().unwrap(), b"b");
    assert_eq!(state.get(Table::Meta, b"").unwrap().unwrap(), b"");
    assert_eq!(state.get(Table::Silences, b"web-1").unwrap(), None);
    let mut batch = Batch::new();
    batch.delete(Table::Agents, *b"web-1").delete(Table::Agents, *b"never").put(Table::Certificates, *b"web-1", *b"c");
    state.commit(&batch).unwrap();
    assert_eq!(state.get(Table::Agents, b"web-1").unwrap(), None);
    assert_eq!(state.get(Table::Certificates, b"web-1").unwrap().unwrap(), b"c");
    assert!(state.size_bytes().unwrap() > 0);
}

fn a_scan_is_in_order_of_keys_and_keeps_to_its_prefix_and_table(engine: Engine) {
    let (_dir, state) = open(engine);
    let all: [&[u8]; 7] = [b"", b"\0", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"\xff\xff"];
    let mut batch = Batch::new();
    for table in Table::ALL {
        for key in all.iter().rev() {
            batch.put(table, *key, table.name().as_bytes());
        }
    }
    state.commit(&batch).unwrap();
    for table in Table::ALL {
        assert_eq!(keys(&*state, table, b""), all);
        assert!(scan(&*state, table, b"").iter().all(|(_, value)| value == table.name().as_bytes()));
        assert_eq!(keys(&*state, table, b"a"), all[2..6]);
        assert_eq!(keys(&*state, table, b"a\xff"), all[4..6]);
        assert_eq!(keys(&*state, table, b"\xff"), all[6..]);
        assert_eq!(keys(&*state, table, b"\xff\xff\xff"), Vec::<Vec<u8>>::new());
        assert_eq!(keys(&*state, table, b"b"), Vec::<Vec<u8>>::new());
    }
}

fn a_scan_stops_where_it_is_told(engine: Engine) {
    let (_dir, state) = open(engine);
    let mut batch = Batch::new();
    (0..100_u8).for_each(|number| {
        batch.put(Table::Alerts, [number], [number]);
    });
    state.commit(&batch).unwrap();
    let mut seen = 0;
    let mut each = |_: &[u8], value: &[u8]| {
        seen += 1;
        if value == [9] { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    state.scan(Table::Alerts, b"", &mut each).unwrap();
    assert_eq!(seen, 10);
}

fn a_scan_may_use_the_store(engine: Engine) {
    let (_dir, state) = open(engine);
    let mut batch = Batch::new();
    batch.put(Table::Notifications, *b"1", *b"").put(Table::Notifications, *b"2", *b"");
    state.commit(&batch).unwrap();
    let mut each = |key: &[u8], _: &[u8]| {
        assert!(state.get(Table::Notifications, key).unwrap().is_some());
        let mut batch = Batch::new();
        batch.delete(Table::Notifications, key).put(Table::Notifications, [b"9", key].concat(), *b"moved");
        state.commit(&batch).unwrap();
        ControlFlow::Continue(())
    };
    state.scan(Table::Notifications, b"", &mut each).unwrap();
    assert_eq!(keys(&*state, Table::Notifications, b""), [b"91", b"92"]);
}

fn a_callers_panic_goes_through_and_leaves_the_store_usable(engine: Engine) {
    let (_dir, state) = open(engine);
    let mut batch = Batch::new();
    batch.put(Table::Meta, *b"a", *b"1");
    state.commit(&batch).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| state.scan(Table::Meta, b"", &mut |_, _| panic!("the caller's own"))));
    assert_eq!(*panic.unwrap_err().downcast_ref::<&str>().unwrap(), "the caller's own");
    batch.put(Table::Meta, *b"b", *b"2");
    state.commit(&batch).unwrap();
    assert_eq!(keys(&*state, Table::Meta, b""), [b"a", b"b"]);
}

fn limits_hold_and_what_breaks_one_changes_nothing(engine: Engine) {
    let (_dir, state) = open(engine);
    let refused = |batch: &Batch| {
        let mut with_more = batch.clone();
        with_more.put(Table::Meta, *b"witness", *b"");
        let error = state.commit(&with_more).unwrap_err();
        assert_eq!(state.get(Table::Meta, b"witness").unwrap(), None);
        error
    };
    let mut longest = Batch::new();
    longest.put(Table::Silences, vec![1; KEY_MAX_BYTES], vec![2; VALUE_MAX_BYTES]);
    state.commit(&longest).unwrap();
    assert_eq!(state.get(Table::Silences, &[1; KEY_MAX_BYTES]).unwrap().unwrap(), [2; VALUE_MAX_BYTES]);

    let mut batch = Batch::new();
    batch.put(Table::Silences, vec![1; KEY_MAX_BYTES + 1], *b"");
    assert!(matches!(refused(&batch), StateError::KeyTooLong { table: Table::Silences, key_bytes: 513 }));
    assert!(matches!(state.get(Table::Meta, &[1; KEY_MAX_BYTES + 1]), Err(StateError::KeyTooLong { .. })));
    let mut batch = Batch::new();
    batch.put(Table::Silences, *b"k", vec![1; VALUE_MAX_BYTES + 1]);
    assert!(matches!(refused(&batch), StateError::ValueTooLong { table: Table::Silences, value_bytes: 32_769 }));

    let mut most = Batch::new();
    (0..BATCH_MAX_KEYS as u32).for_each(|key| {
        most.put(Table::Alerts, key.to_be_bytes(), *b"v");
    });
    state.commit(&most).unwrap();
    assert_eq!(keys(&*state, Table::Alerts, b"").len(), BATCH_MAX_KEYS);
    assert!(matches!(refused(&most), StateError::BatchTooManyKeys { keys: 501 }));

    let mut largest = Batch::new();
    let of_these = (BATCH_MAX_BYTES / VALUE_MAX_BYTES) as u8;
    (0..of_these).for_each(|key| {
        largest.put(Table::Agents, [key], vec![key; VALUE_MAX_BYTES - 1]);
    });
    state.commit(&largest).unwrap();
    assert!(matches!(refused(&largest), StateError::BatchTooLarge { batch_bytes } if batch_bytes > BATCH_MAX_BYTES));
}

fn it_is_there_after_a_reopening(engine: Engine) {
    let (dir, state) = open(engine);
    let path = dir.path().join("new/state");
    for number in 1..=20 {
        state.commit(&workload::batch(7, number)).unwrap();
    }
    drop(state);
    for _ in 0..3 {
        assert_eq!(workload::check(&*state::open(engine, &path).unwrap(), 7, 20, 20), 20);
    }
}

fn one_process_at_a_time(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = child::holder(engine, dir.path());
    let error = state::open(engine, dir.path()).unwrap_err();
    assert!(matches!(&error, StateError::InUse { dir: at } if at == dir.path()), "{error:?}");
    assert!(error.to_string().contains("another process"), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let state = state::open(engine, dir.path()).unwrap();
    assert!(matches!(state::open(engine, dir.path()), Err(StateError::InUse { .. })));
    drop(state);
    state::open(engine, dir.path()).unwrap();
}

/// Between fork and exec a child holds copies of every descriptor, the lock's too.
fn programs_that_start_meanwhile_do_not_keep_it_locked(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    drop(state::open(engine, dir.path()).unwrap());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
        }
        let opened = (0..100).try_for_each(|_| state::open(engine, dir.path()).map(drop));
        done.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}

fn the_other_engines_store_is_refused(engine: Engine) {
    let (dir, state) = open(engine);
    drop(state);
    let other = Engine::ALL.into_iter().find(|other| *other != engine).unwrap();
    let error = state::open(other, &dir.path().join("new/state")).unwrap_err();
    if cfg!(feature = "sled") {
        assert!(matches!(error, StateError::OtherEngine { found, wanted, .. } if found == engine && wanted == other));
        assert!(error.to_string().contains(engine.name()), "{error}");
    } else {
        assert!(matches!(error, StateError::EngineAbsent { engine } if engine == other), "{error:?}");
        assert!(error.to_string().contains("--features sled"), "{error}");
    }
}

fn readers_see_whole_batches_in_their_order(engine: Engine) {
    const BATCHES: u64 = 150;
    let (_dir, state) = open(engine);
    let tables = [Table::Agents, Table::Alerts, Table::Meta];
    let commit = |number: u64| {
        let mut batch = Batch::new();
        for table in tables {
            for key in 0..40_u8 {
                // Coming and going, so that a half-done batch shows as a wrong count as well.
                if u64::from(key) < 20 + number % 20 {
                    batch.put(table, [key], number.to_be_bytes());
                } else {
                    batch.delete(table, [key]);
                }
            }
        }
        state.commit(&batch).unwrap();
    };
    commit(1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3_usize {
            let (done, state) = (&done, &state);
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let entries = scan(&**state, tables[reader], b"");
                    let number = u64::from_be_bytes(entries[0].1.as_slice().try_into().unwrap());
                    assert!(entries.iter().all(|(_, value)| *value == number.to_be_bytes()), "a half-done batch");
                    assert_eq!(entries.len() as u64, 20 + number % 20, "a half-done batch");
                    assert!(number >= last, "back from batch {last} to {number}");
                    last = number;
                    let other = state.get(tables[(reader + 1) % 3], &[0]).unwrap().unwrap();
                    assert!(other.as_slice() >= &last.to_be_bytes()[..], "another table is behind");
                }
            });
        }
        // Over a panic as well, or the readers would go on for ever.
        let _stop = StopOnDrop(&done);
        (2..=BATCHES).for_each(commit);
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The size that the collector is built for: 30,000 records, then updates of a few.
fn the_whole_state_fits_well(engine: Engine) {
    const RECORDS: u32 = 30_000;
    const UPDATES: u32 = 200;
    const SIZE_MAX_BYTES: u64 = 64 * 1024 * 1024;
    let (dir, state) = open(engine);
    for first in (0..RECORDS).step_by(BATCH_MAX_KEYS) {
        let mut batch = Batch::new();
        for record in first..first + BATCH_MAX_KEYS as u32 {
            batch.put(Table::ALL[record as usize % 9], record.to_be_bytes(), vec![record as u8; 120]);
        }
        state.commit(&batch).unwrap();
    }
    for update in 0..UPDATES {
        let mut batch = Batch::new();
        for record in (update..RECORDS).step_by(997) {
            batch.put(Table::ALL[record as usize % 9], record.to_be_bytes(), vec![update as u8; 120]);
        }
        state.commit(&batch).unwrap();
    }
    let size_bytes = state.size_bytes().unwrap();
    println!("{engine}: {RECORDS} records, {} KB of keys and values, on disk {} KB", 30 * 124, size_bytes / 1000);
    assert!(size_bytes < SIZE_MAX_BYTES, "{size_bytes}");
    drop(state);
    let state = state::open(engine, &dir.path().join("new/state")).unwrap();
    assert_eq!(workload::contents(&*state).unwrap().len(), RECORDS as usize);
}
