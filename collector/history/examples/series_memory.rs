//! Resident memory of a store a series: agents of 500 series each, with four labels and the agent's name, six ticks, a third of the
//! series changing at each.
//!
//! `cargo run --release -p pitwatch-history --example series_memory -- [agents]`

use std::sync::Arc;

use pitwatch_disk::RealDisk;
use pitwatch_history::{Appender, Config, History, SourceName};
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, METRIC_NAME, Mark, MetricType};

const SERIES: u32 = 500;
const TICKS: i64 = 6;
const BEGIN_MS: i64 = 1_700_000_000_000;
const AGENTS_A_COMMIT: usize = 50;

fn series() -> Vec<SeriesDef> {
    let labels = |slot: u32| {
        Labels::new([
            (METRIC_NAME, format!("node_something_like_metric_{}", slot / 10)),
            ("device", format!("dev{}", slot % 10)),
            ("mode", "idle".to_owned()),
            ("role", "game".to_owned()),
        ])
    };
    let def = |slot| SeriesDef { slot, kind: MetricType::Gauge, labels: labels(slot).expect("labels") };
    (0..SERIES).map(def).collect()
}

fn feed(agent: usize, defs: &[SeriesDef], appender: &mut Appender) {
    let name = SourceName::agent(&format!("host-{agent:05}"));
    let (mut encoder, mut frame, mut mark) = (Encoder::new(), Vec::new(), Mark { epoch: 1, seq: 0 });
    let mut send = |frame: &[u8]| {
        mark.seq += 1;
        appender.append(&name, Lane::Metrics, mark, frame).expect("an append");
    };
    encoder.schema(&mut frame, true, 0, &[], defs).expect("a schema frame");
    send(&frame);
    for tick in 0..TICKS {
        let value = |slot: i64| if slot % 3 == 0 { tick * slot } else { slot } as f64;
        let row: Vec<f64> = (0..i64::from(SERIES)).map(value).collect();
        frame.clear();
        encoder.tick(&mut frame, 0, BEGIN_MS + tick * 1000, &row).expect("a sample frame");
        send(&frame);
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    1024 * line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("KiB")
}

fn main() {
    let agents = std::env::args().nth(1).map_or(600, |arg| arg.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let opened = History::open(Arc::new(RealDisk), dir.path(), Config::default());
    let (_history, mut appender, _) = opened.expect("a store");
    let defs = series();
    let before = resident_bytes();
    for agent in 0..agents {
        feed(agent, &defs, &mut appender);
        if agent % AGENTS_A_COMMIT == 0 {
            appender.commit().expect("a commit");
        }
    }
    appender.commit().expect("a commit");
    let grown = (resident_bytes() - before) as f64;
    println!("{:.0} bytes a series, of {}", grown / (agents as f64 * f64::from(SERIES)), agents * SERIES as usize);
}
