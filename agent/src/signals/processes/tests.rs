//! The top processes: on a /proc of the tests' own, and on this host's.

use std::time::Duration;

use proptest::prelude::*;

use super::super::testing::Bench;
use super::*;

fn bench(top: usize) -> Bench {
    Bench::new(|root| Box::new(Processes::new(root, root, top, true, &[], Notices::default())))
}

fn stat(name: &str, cpu_ticks: u64, start_ticks: u64, memory_pages: u64) -> String {
    format!(
        "7 ({name}) S 1 7 7 0 -1 4194560 1 2 3 4 {cpu_ticks} 0 0 0 20 0 1 0 {start_ticks} 4096 {memory_pages} 18446744073709551615 1 1\n"
    )
}

fn put(bench: &Bench, pid: u32, name: &str, cpu_ticks: u64, memory_pages: u64) {
    bench.file(&format!("{pid}/stat"), stat(name, cpu_ticks, u64::from(pid), memory_pages).as_bytes());
}

fn pass(bench: &mut Bench) -> u64 {
    bench.tick_after(Duration::from_secs(5)).unwrap()
}

fn ratio(bench: &Bench, name: &str, pid: u32) -> Option<f64> {
    bench.value(&format!("pitwatch_process_cpu_ratio{{name=\"{name}\",pid=\"{pid}\"}}"))
}

fn tracked(bench: &Bench) -> Vec<String> {
    let prefix = "pitwatch_process_resident_memory_bytes";
    bench.names().into_iter().filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect()
}

#[test]
fn the_top_by_cpu_and_by_memory_have_series() {
    let mut bench = bench(1);
    for (pid, name, pages) in [(10, "big", 900), (20, "busy", 5), (30, "small", 4)] {
        put(&bench, pid, name, 100, pages);
    }
    bench.file("self/stat", b"not a process");
    assert_eq!(pass(&mut bench), 0);
    assert_eq!(tracked(&bench), ["{name=\"big\",pid=\"10\"}"], "a first pass knows no CPU");
    put(&bench, 20, "busy", 350, 5);
    pass(&mut bench);
    assert_eq!(tracked(&bench), ["{name=\"big\",pid=\"10\"}", "{name=\"busy\",pid=\"20\"}"]);
    assert_eq!(ratio(&bench, "busy", 20), Some(0.5));
    assert_eq!(ratio(&bench, "big", 10), Some(0.0));
    assert_eq!(bench.value("pitwatch_processes"), Some(3.0));
}

#[test]
fn a_new_process_counts_from_the_last_pass() {
    let mut bench = bench(1);
    put(&bench, 10, "old", 0, 1);
    pass(&mut bench);
    put(&bench, 11, "new", 250, 1);
    pass(&mut bench);
    assert_eq!(ratio(&bench, "new", 11), Some(0.5));
}

#[test]
fn a_pid_that_came_again_is_another_process() {
    let mut bench = bench(1);
    put(&bench, 10, "first", 1_000_000, 9);
    pass(&mut bench);
    bench.file("10/stat", stat("second", 50, 777, 9).as_bytes());
    pass(&mut bench);
    pass(&mut bench);
    assert_eq!(tracked(&bench), ["{name=\"second\",pid=\"10\"}"]);
    assert_eq!(ratio(&bench, "second", 10), Some(0.0));
}

#[test]
fn series_are_held_for_a_while_and_end_at_once_with_the_process() {
    let mut bench = bench(1);
    put(&bench, 10, "a", 0, 9);
    put(&bench, 20, "b", 0, 5);
    pass(&mut bench);
    put(&bench, 20, "b", 1, 50);
    // Pid 20 is idle by now and read every fourth pass only; its CPU wakes it.
    for _ in 0..IDLE_EVERY_PASSES {
        pass(&mut bench);
    }
    assert_eq!(tracked(&bench).len(), 2);
    for _ in 0..HOLD_PASSES - IDLE_EVERY_PASSES {
        pass(&mut bench);
    }
    assert_eq!(tracked(&bench).len(), 2, "held outside of the top");
    for _ in 0..IDLE_EVERY_PASSES {
        pass(&mut bench);
    }
    assert_eq!(tracked(&bench), ["{name=\"b\",pid=\"20\"}"]);
    std::fs::remove_dir_all(bench.path("20")).unwrap();
    pass(&mut bench);
    assert_eq!(tracked(&bench), ["{name=\"a\",pid=\"10\"}"]);
}

#[test]
fn no_more_processes_have_series_than_the_limit() {
    let mut bench = bench(2);
    for turn in 0..30_u32 {
        for pid in 1..40 {
            put(&bench, pid, "p", 0, u64::from((pid * 7 + turn * 11) % 41) + 1);
        }
        // A new start is a new process to the scan, which is read at once.
        for pid in 1..40 {
            bench.file(
                &format!("{pid}/stat"),
                stat("p", 0, u64::from(turn), u64::from((pid * 7 + turn * 11) % 41) + 1).as_bytes(),
            );
        }
        pass(&mut bench);
        assert!(tracked(&bench).len() <= 2 * TRACKED_PER_TOP);
    }
}

#[test]
fn an_idle_process_is_read_in_turn_only() {
    let mut bench = bench(0);
    for pid in 1..=100 {
        put(&bench, pid, "idle", 5, 1);
    }
    for _ in 0..6 {
        assert_eq!(pass(&mut bench), 0);
    }
    for pid in 1..=100 {
        bench.file(&format!("{pid}/stat"), b"broken");
    }
    assert_eq!(pass(&mut bench), 25, "a quarter of them a pass");
}

#[test]
fn hostile_names_are_names_only() {
    let mut bench = bench(5);
    put(&bench, 10, "a) S 1 (b", 0, 3);
    bench.file("11/stat", &[b"11 (\xff\x1b[2J) S ".to_vec(), stat("x", 0, 1, 2).into_bytes()[9..].to_vec()].concat());
    bench.file("12/stat", b"12 (unclosed S 1 2 3");
    bench.file("13/stat", b"");
    std::fs::create_dir_all(bench.path("14")).unwrap();
    assert_eq!(pass(&mut bench), 2);
    assert_eq!(tracked(&bench), ["{name=\"\\\\xff\\\\x1b[2J\",pid=\"11\"}", "{name=\"a) S 1 (b\",pid=\"10\"}"]);
}

/// One busy process of this host is found, by the real /proc.
#[test]
fn a_real_burner_is_found() {
    let mut burner = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let mut bench =
        Bench::new(|_| Box::new(Processes::new(Path::new("/proc"), Path::new("/"), 10, true, &[], Notices::default())));
    let mut found = None;
    for _ in 0..100 {
        bench.tick_after(Duration::from_millis(200)).unwrap();
        found = ratio(&bench, "sh", burner.id()).filter(|ratio| *ratio > 0.05);
        if found.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    burner.kill().unwrap();
    burner.wait().unwrap();
    assert!(found.is_some());
}

proptest! {
    #[test]
    fn a_rank_is_the_largest_in_order(amounts in prop::collection::vec(0_u32..50, 0..40), top in 0_usize..12) {
        let mut rank = Vec::new();
        for (pid, amount) in (0..).zip(&amounts) {
            place(&mut rank, f64::from(*amount), pid, top);
        }
        let mut sorted = amounts.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted.truncate(top);
        prop_assert_eq!(rank.iter().map(|(amount, _)| *amount as u32).collect::<Vec<_>>(), sorted);
    }
}
