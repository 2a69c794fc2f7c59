//! Log lines: held against a plain list, over seals, restarts, power cuts and damage.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{DIR, Random};
use pitwatch_disk::{Disk, SimDisk};
use pitwatch_history::logs::{
    Direction, LINE_MAX_BYTES, LogAppendError, LogConfig, LogError, LogStore, Needle, Query, verify,
};
use pitwatch_history::{MatchOp, Matcher};
use pitwatch_shared::model::Labels;

type Plain = Vec<(Labels, i64, String)>;

const ALL: (i64, i64) = (i64::MIN, i64::MAX);

fn open(disk: &SimDisk, config: &LogConfig) -> Arc<LogStore> {
    let (store, losses) = LogStore::open(Arc::new(disk.clone()), Path::new(DIR), config.clone()).unwrap();
    assert!(losses.is_empty(), "{losses:?}");
    store
}

fn stream(host: &str, unit: &str) -> Labels {
    Labels::new([("instance", host), ("unit", unit)]).unwrap()
}

fn matcher(name: &str, value: &str) -> Matcher {
    Matcher::new(name, MatchOp::Eq, value).unwrap()
}

/// A line as programs write them; every thirtieth has `id`.
fn text(random: &mut Random) -> String {
    let (user, ms) = (random.below(500), random.below(9000));
    match random.below(3) {
        0 => format!("GET /api/v1/rounds/{:08x} 200 in {ms} ms, user {user}", random.below(1 << 32)),
        1 => format!("payment pay-{:06} accepted für user={user}", random.below(1000)),
        _ => format!("worker[{}]: queue of {ms}", random.below(30)),
    }
}

fn append(store: &LogStore, plain: &mut Plain, stream: &Labels, ts_ns: i64, text: &str) {
    store.append(stream, ts_ns, text).unwrap();
    plain.push((stream.clone(), ts_ns, text.to_owned()));
}

/// What a query should answer: by time, then in the order of arrival in each stream.
fn expected(plain: &Plain, query: &Query<'_>) -> Vec<(i64, String)> {
    let has = |text: &str| {
        query.needles.iter().all(|needle| match needle {
            Needle::Text(wanted) => text.contains(&**wanted),
            Needle::Words(wanted) => format!(" {text} ").contains(&format!(" {wanted} ")),
        })
    };
    let means = |labels: &Labels| query.matchers.iter().all(|m| m.matches(labels.value(m.name()).unwrap_or("")));
    let in_range = |ts: i64| ts >= query.start_ns && ts < query.end_ns;
    let lines = plain.iter().filter(|(labels, ts, text)| in_range(*ts) && means(labels) && has(text));
    let mut lines: Vec<(i64, String)> = lines.map(|(_, ts, text)| (*ts, text.clone())).collect();
    lines.sort_by_key(|(ts, _)| *ts);
    if query.direction == Direction::Backward {
        lines.reverse();
    }
    lines.truncate(query.limit);
    lines
}

fn check(store: &LogStore, plain: &Plain, query: &Query<'_>) {
    let answer = store.query(query).unwrap();
    assert!(answer.unpacked <= answer.chunks && !answer.is_cut);
    let found: Vec<_> = answer.lines.into_iter().map(|(_, line)| (line.ts_ns, line.text)).collect();
    let expected = expected(plain, query);
    let times = |lines: &[(i64, String)]| lines.iter().map(|(ts, _)| *ts).collect::<Vec<_>>();
    assert_eq!(times(&found), times(&expected), "{query:?}");
    // At one time the order of different streams is free, and which of them are left out at the limit.
    let sorted = |mut lines: Vec<(i64, String)>| {
        let last = lines.last().map(|(ts, _)| *ts);
        lines.retain(|(ts, _)| Some(*ts) != last);
        lines.sort();
        lines
    };
    assert_eq!(sorted(found), sorted(expected), "{query:?}");
}

fn ask(store: &LogStore, plain: &Plain, random: &mut Random) {
    let hosts = [vec![], vec![matcher("instance", "one")], vec![matcher("unit", "db"), matcher("instance", "two")]];
    let needles = [
        vec![],
        vec![Needle::Text("accepted".to_owned())],
        vec![Needle::Words(format!("user={}", random.below(500)))],
        vec![Needle::Text("ueue".to_owned()), Needle::Text("7".to_owned())],
        vec![Needle::Text(format!("pay-{:06} accepted", random.below(1000)))],
    ];
    let start = random.below(3000) as i64 - 500;
    let (start_ns, end_ns) = if random.below(3) == 0 { ALL } else { (start, start + random.below(2000) as i64) };
    for direction in [Direction::Forward, Direction::Backward] {
        let query = Query {
            matchers: &hosts[random.below(3) as usize],
            start_ns,
            end_ns,
            needles: &needles[random.below(5) as usize],
            limit: [3, 50, 10_000][random.below(3) as usize],
            direction,
        };
        check(store, plain, &query);
    }
}

#[test]
fn answers_are_those_of_a_plain_list_over_seals_and_restarts() {
    for seed in 0..20 {
        let (disk, mut random) = (SimDisk::new(seed), Random(seed));
        let config = LogConfig { retention_age: None, ..LogConfig::default() };
        let mut store = open(&disk, &config);
        let mut plain = Plain::new();
        let streams = [stream("one", "db"), stream("one", "web"), stream("two", "db")];
        for nth in 0..1500_i64 {
            let stream = &streams[random.below(3) as usize];
            // Mostly forth, now and then back, often the same time.
            let ts = if random.below(9) == 0 { nth - random.below(700) as i64 } else { nth / 2 * 2 };
            append(&store, &mut plain, stream, ts, &text(&mut random));
            match random.below(400) {
                0..3 => {
                    let job = store.seal(nth.unsigned_abs(), 0).unwrap();
                    append(&store, &mut plain, stream, ts, "beside a seal");
                    ask(&store, &plain, &mut random);
                    if random.below(4) == 0 {
                        drop(job);
                    } else {
                        job.run().unwrap();
                    }
                }
                3 => {
                    while let Some(job) = store.seal(nth.unsigned_abs(), 0) {
                        job.run().unwrap();
                    }
                    disk.power_cut();
                    store = open(&disk, &config);
                    assert_eq!(store.sealed_through(), Some(nth.unsigned_abs()));
                }
                4..8 => ask(&store, &plain, &mut random),
                _ => {}
            }
        }
        ask(&store, &plain, &mut random);
    }
}

/// A store of one sealed file, its lines, and the file.
fn sealed() -> (SimDisk, Plain, PathBuf) {
    let (disk, mut random) = (SimDisk::new(5), Random(5));
    let store = open(&disk, &LogConfig::default());
    let mut plain = Plain::new();
    for nth in 0..40 {
        append(&store, &mut plain, &stream("one", ["db", "web"][nth % 2]), nth as i64, &text(&mut random));
    }
    store.seal(7, 9).unwrap().run().unwrap();
    (disk, plain, Path::new(DIR).join("logs/00000001.log"))
}

/// Every line that is found was written, and either all are found or something says what is missing.
fn noticed(disk: &SimDisk, plain: &Plain, what: &str) -> bool {
    let opened = LogStore::open(Arc::new(disk.clone()), Path::new(DIR), LogConfig::default());
    let Ok((store, losses)) = opened else { return true };
    let checked = verify(disk, Path::new(DIR), &mut |_| {}).unwrap();
    let word = [Needle::Words("ms, user".to_owned())];
    let mut noticed = !losses.is_empty();
    for needles in [&[][..], &word] {
        let (start_ns, end_ns) = ALL;
        let query = Query { matchers: &[], start_ns, end_ns, needles, limit: 1000, direction: Direction::Forward };
        match store.query(&query) {
            Ok(answer) => {
                let wanted = expected(plain, &query).len();
                let right = answer.lines.iter().all(|(labels, line)| {
                    plain.iter().any(|(l, ts, text)| (l, *ts, text) == (labels, line.ts_ns, &line.text))
                });
                assert!(right, "{what}: a line that was never written");
                assert!(answer.lines.len() == wanted || !losses.is_empty(), "{what}: lines are missing in silence");
            }
            Err(_) => noticed = true,
        }
    }
    assert_eq!(noticed, !checked.losses.is_empty(), "{what}: the verification says otherwise");
    noticed
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let (disk, plain, path) = sealed();
    let whole = disk.contents(&path).unwrap();
    assert!(!noticed(&disk, &plain, "whole"));
    for bit in 0..whole.len() * 8 {
        disk.flip_bit(&path, bit);
        assert!(noticed(&disk, &plain, &format!("bit {bit}")), "bit {bit} of {}", whole.len() * 8);
        disk.flip_bit(&path, bit);
    }
    for len in (0..whole.len()).rev() {
        disk.open(&path).unwrap().set_len(len as u64).unwrap();
        assert!(noticed(&disk, &plain, &format!("{len} bytes")), "{len} of {}", whole.len());
    }
}

#[test]
fn a_cut_at_any_change_of_a_seal_leaves_all_or_nothing() {
    for cut in 0..12 {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let store = open(&disk, &LogConfig::default());
            let mut plain = Plain::new();
            for nth in 0..50 {
                append(&store, &mut plain, &stream("one", "db"), nth, &format!("line {nth}"));
            }
            disk.cut_after(cut);
            let done = store.seal(3, 0).unwrap().run();
            disk.power_cut();
            let store = open(&disk, &LogConfig::default());
            let lines = store.stats().file_lines;
            assert!(lines == 50 || (lines == 0 && done.is_err()), "cut {cut}, seed {seed}: {lines} lines, {done:?}");
            assert_eq!(store.sealed_through(), (lines == 50).then_some(3));
        }
    }
}

#[test]
fn a_failed_seal_is_tried_again_and_memory_stays_bounded() {
    let disk = SimDisk::new(1);
    let config = LogConfig { head_max_bytes: 200_000, ..LogConfig::default() };
    let store = open(&disk, &config);
    let mut plain = Plain::new();
    disk.fail_syncs(1);
    append(&store, &mut plain, &stream("one", "db"), 1, "kept over a failure");
    assert!(matches!(store.seal(1, 0).unwrap().run(), Err(LogError::Io { action: "sync", .. })));
    let line = "x".repeat(50_000);
    let mut taken = 0;
    let refused = loop {
        match store.append(&stream("one", "db"), 2, &line) {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 20 && (taken < 4 || store.is_due()));
    };
    assert!(matches!(refused, LogAppendError::Full(bytes) if bytes < 500_000), "{refused}");
    store.seal(2, 0).unwrap().run().unwrap();
    assert_eq!(store.sealed_through(), Some(1), "the failed one first");
    store.seal(2, 0).unwrap().run().unwrap();
    assert_eq!((store.stats().file_lines, store.stats().head_bytes), (taken + 1, 0));
    let long = "y".repeat(LINE_MAX_BYTES + 1);
    assert!(matches!(store.append(&stream("one", "db"), 2, &long), Err(LogAppendError::Line(_))));
    assert!(store.append(&stream("one", "db"), 2, &long[1..]).is_ok());
}

#[test]
fn old_files_go_with_their_streams_and_the_newest_stays() {
    let disk = SimDisk::new(1);
    let config = LogConfig { retention_age: Some(Duration::from_secs(60)), ..LogConfig::default() };
    let store = open(&disk, &config);
    for (nth, unit) in ["a", "b", "c"].into_iter().enumerate() {
        store.append(&stream("one", unit), nth as i64 * 30_000_000_000, "text").unwrap();
        store.seal(nth as u64, nth as i64 * 30_000).unwrap().run().unwrap();
    }
    store.retain(60_001);
    assert_eq!((store.stats().files, store.streams(&[], ALL.0, ALL.1).len()), (2, 2));
    store.retain(i64::MAX);
    assert_eq!((store.stats().files, store.sealed_through()), (1, Some(2)));
    assert_eq!(open(&disk, &config).streams(&[], ALL.0, ALL.1), [stream("one", "c")]);
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// So many seals of one day, of three streams with lines of one time among them.
fn seals(store: &Arc<LogStore>, plain: &mut Plain, count: u64) {
    let mut random = Random(count);
    for nth in 0..count {
        for line in 0..20 {
            let of = stream("one", ["a", "b", "c"][random.below(3) as usize]);
            let ts_ns = (nth * 20 + line) as i64 / 3 * 1_000;
            append(store, plain, &of, ts_ns, &text(&mut random));
        }
        store.seal(nth + 1, nth as i64).unwrap().run().unwrap();
    }
}

fn merge(store: &Arc<LogStore>, now_ms: i64) -> Option<usize> {
    store.merge(now_ms).map(|job| job.run(&mut |_| ControlFlow::Continue(())).unwrap())
}

fn all<'q>(direction: Direction) -> Query<'q> {
    let (start_ns, end_ns) = ALL;
    Query { matchers: &[], start_ns, end_ns, needles: &[], limit: 10_000, direction }
}

#[test]
fn files_of_a_day_become_one_with_the_same_lines() {
    let (disk, mut plain) = (SimDisk::new(1), Plain::new());
    let store = open(&disk, &LogConfig::default());
    seals(&store, &mut plain, 9);
    let other = store.merge(0).unwrap();
    assert!(store.merge(0).is_none(), "one at a time");
    drop(other);
    assert_eq!(merge(&store, 0), Some(9));
    assert_eq!(merge(&store, 0), None);
    append(&store, &mut plain, &stream("one", "d"), 7, "late");
    store.seal(10, 9).unwrap().run().unwrap();
    assert_eq!(merge(&store, 0), None, "two are too few while the day lasts");
    for _ in 0..2 {
        let store = open(&disk, &LogConfig::default());
        assert_eq!(store.sealed_through(), Some(10));
        check(&store, &plain, &all(Direction::Forward));
        check(&store, &plain, &all(Direction::Backward));
        merge(&store, DAY_MS);
        assert_eq!((store.stats().files, store.stats().file_lines), (1, plain.len() as u64));
    }
    let names = disk.list(&Path::new(DIR).join("logs")).unwrap();
    assert_eq!(names, ["00000001-00000010.log"]);
    assert_eq!(verify(&disk, Path::new(DIR), &mut |_| {}).unwrap().lines, plain.len() as u64);
}

#[test]
fn a_merge_that_a_power_cut_ends_loses_and_doubles_nothing() {
    for after in 0..60 {
        let (disk, mut plain) = (SimDisk::new(after), Plain::new());
        let store = open(&disk, &LogConfig::default());
        seals(&store, &mut plain, 9);
        disk.cut_after(after);
        let done = store.merge(DAY_MS).unwrap().run(&mut |_| ControlFlow::Continue(()));
        disk.power_cut();
        disk.cut_after(u64::MAX);
        let store = open(&disk, &LogConfig::default());
        check(&store, &plain, &all(Direction::Forward));
        assert_eq!(store.stats().file_lines, plain.len() as u64, "cut after {after}: {done:?}");
        merge(&store, DAY_MS);
        assert_eq!(disk.list(&Path::new(DIR).join("logs")).unwrap().len(), 1, "cut after {after}");
    }
}

#[test]
fn a_merge_that_is_stopped_or_meets_damage_leaves_all_as_it_was() {
    let (disk, mut plain) = (SimDisk::new(1), Plain::new());
    let store = open(&disk, &LogConfig::default());
    seals(&store, &mut plain, 3);
    assert_eq!(store.merge(DAY_MS).unwrap().run(&mut |_| ControlFlow::Break(())).unwrap(), 0);
    let path = Path::new(DIR).join("logs/00000002.log");
    // After the header of 16 bytes, a filter and its checksum come the lines.
    (60..140).for_each(|byte| disk.flip_bit(&path, 8 * byte));
    let error = store.merge(DAY_MS).unwrap().run(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("00000002.log"), "{error}");
    assert!(store.merge(DAY_MS).is_none(), "the damaged one is left alone");
    assert_eq!(disk.list(&Path::new(DIR).join("logs")).unwrap().len(), 3);
}

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1.log");

#[test]
fn version_1_is_read_and_a_newer_one_refused() {
    let (_, plain, path) = sealed();
    let mut bytes = std::fs::read(FIXTURE).unwrap();
    let disk = SimDisk::new(1);
    disk.create(&path).unwrap().write_at(0, &bytes).unwrap();
    let (start_ns, end_ns) = ALL;
    let query = Query { matchers: &[], start_ns, end_ns, needles: &[], limit: 100, direction: Direction::Backward };
    check(&open(&disk, &LogConfig::default()), &plain, &query);
    bytes[8] = 2;
    let crc = crc32(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let disk = SimDisk::new(1);
    disk.create(&path).unwrap().write_at(0, &bytes).unwrap();
    let opened = LogStore::open(Arc::new(disk), Path::new(DIR), LogConfig::default());
    assert!(matches!(opened, Err(LogError::Newer { found: 2, known: 1, .. })));
}

/// CRC-32 as the formats have it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0_u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
#[ignore = "writes the fixture of a new version"]
fn write_fixture() {
    let (disk, _, path) = sealed();
    std::fs::write(FIXTURE, disk.contents(&path).unwrap()).unwrap();
}

#[test]
fn real_files_come_back_line_by_line() {
    let disk = SimDisk::new(1);
    let store = open(&disk, &LogConfig::default());
    let mut lines = 0;
    for name in ["dpkg.log", "alternatives.log", "syslog", "kern.log", "apt/history.log"] {
        // Not every machine has every file, and not everybody may read them.
        let Ok(text) = std::fs::read_to_string(Path::new("/var/log").join(name)) else { continue };
        let stream = stream("here", name);
        let text: Vec<&str> = text.lines().take(5000).collect();
        text.iter().enumerate().for_each(|(nth, line)| store.append(&stream, nth as i64, line).unwrap());
        lines += text.len() as u64;
        if lines > 0 {
            store.seal(0, 0).unwrap().run().unwrap();
        }
        let matchers = [matcher("unit", name)];
        let (start_ns, end_ns) = ALL;
        let query =
            Query { matchers: &matchers, start_ns, end_ns, needles: &[], limit: 5000, direction: Direction::Forward };
        let found: Vec<_> = store.query(&query).unwrap().lines.into_iter().map(|(_, line)| line.text).collect();
        assert_eq!(found, text);
    }
    assert_eq!(store.stats().file_lines, lines);
}
