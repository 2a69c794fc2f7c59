//! What a log line costs on disk, and what a search for one id costs: a million generated lines, or the files named.
//!
//!     cargo run --release -p pitwatch-history --example log_search -- [FILE …]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use pitwatch_disk::RealDisk;
use pitwatch_history::logs::{Direction, LogConfig, LogStore, Needle, Query};
use pitwatch_shared::model::Labels;

const LINES: u64 = 1_000_000;
const HOSTS: u64 = 20;
/// Lines in memory between two seals.
const SEAL_EVERY: u64 = 250_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a payment service might write; each line has a request id of its own.
fn line(random: &mut Random, id: u64) -> String {
    let (n, user, ms) = (random.next() % 4, random.next() % 50_000, random.next() % 2_000);
    match n {
        0 => {
            format!("level=info msg=\"request done\" req={id:016x} user={user} path=/api/v1/wallet status=200 ms={ms}")
        }
        1 => format!("level=info msg=\"bet placed\" req={id:016x} user={user} game=slots-{} stake={ms}", user % 300),
        2 => format!("level=warn msg=\"slow query\" req={id:016x} table=rounds ms={ms} rows={}", user % 97),
        _ => format!("level=error msg=\"gateway timeout\" req={id:016x} gateway=pay{} attempt={}", user % 9, ms % 4),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (store, _) = LogStore::open(Arc::new(RealDisk), dir.path(), LogConfig::default())?;
    let files: Vec<String> = std::env::args().skip(1).collect();
    let mut random = Random(1);
    let mut text_bytes = 0;
    let begun = Instant::now();
    let mut sealed = 0.0;
    let mut append = |nth: u64, stream: &Labels, text: &str| -> Result<(), Box<dyn Error>> {
        store.append(stream, nth as i64 * 1_000_000, text)?;
        text_bytes += text.len() as u64;
        if nth % SEAL_EVERY == SEAL_EVERY - 1 || store.is_due() {
            let begun = Instant::now();
            store.seal(0, 0).map(|job| job.run()).transpose()?;
            sealed += begun.elapsed().as_secs_f64();
        }
        Ok(())
    };
    if files.is_empty() {
        let hosts: Vec<Labels> =
            (0..HOSTS).map(|n| Labels::new([("instance", format!("game-{n}"))])).collect::<Result<_, _>>()?;
        for nth in 0..LINES {
            let text = line(&mut random, nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            append(nth, &hosts[(nth % HOSTS) as usize], &text)?;
        }
    }
    for name in &files {
        let stream = Labels::new([("file", &**name)])?;
        for (nth, line) in std::fs::read_to_string(name)?.lines().enumerate() {
            append(nth as u64, &stream, line)?;
        }
    }
    store.seal(0, 0).map(|job| job.run()).transpose()?;
    let (stats, secs) = (store.stats(), begun.elapsed().as_secs_f64());
    let each = |bytes: u64| bytes as f64 / stats.file_lines as f64;
    println!("{} lines of {:.1} bytes in {} files", stats.file_lines, each(text_bytes), stats.files);
    println!(
        "{:.1} bytes a line on disk, {:.3} of the text",
        each(stats.file_bytes),
        stats.file_bytes as f64 / text_bytes as f64
    );
    println!("{:.0} lines a second appended and sealed", stats.file_lines as f64 / secs);
    let id = format!("{:016x}", 777_777_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for needle in [Needle::Words(id.clone()), Needle::Text(format!("req={id} ")), Needle::Text(id.clone())] {
        let begun = Instant::now();
        let needles = [needle];
        let query = Query {
            matchers: &[],
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            needles: &needles,
            limit: 100,
            direction: Direction::Backward,
        };
        let answer = store.query(&query)?;
        println!(
            "{:?}: {} lines, {} of {} chunks unpacked ({:.1}%), {:.1} ms",
            needles[0],
            answer.lines.len(),
            answer.unpacked,
            answer.chunks,
            100.0 * answer.unpacked as f64 / answer.chunks.max(1) as f64,
            begun.elapsed().as_secs_f64() * 1000.0
        );
    }
    let begun = Instant::now();
    let (again, _) = LogStore::open(Arc::new(RealDisk), dir.path(), LogConfig::default())?;
    println!("opened in {:.1} ms, {} streams", begun.elapsed().as_secs_f64() * 1000.0, again.stats().streams);
    Ok(())
}
