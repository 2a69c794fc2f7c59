//! What evaluating rules costs: rules over a fleet in history, many alerts held at once, and a storm at one room.
//!
//! `cargo run --release -p pitwatch-collector --example rules -- [HOSTS] [ALERTS]`
//!
//! A store in a temporary directory holds HOSTS hosts of 20 gauges and 10 counters, 330 s of them at one sample a
//! second. 100 rules of four kinds run over it on one thread: all hosts at once, and by instance, as they do when the
//! samples of 20 hosts at a time become durable. Then ALERTS alerts are made to fire,
//! 5,000 a second, and held: by the engine, and by what tells of them. Last, 10,000 alerts in a minute go to a room that takes
//! a message a second, in simulated time.

use std::sync::Arc;
use std::time::Instant;

use pitwatch_alerting::dispatch::Fallback;
use pitwatch_alerting::engine::{Instances, Options, Wake};
use pitwatch_alerting::receivers::{HttpOptions, Integration, Kind, Receiver, Secret, Slack};
use pitwatch_alerting::{Dispatcher, Engine, LabelSet, Notification, Outcome, Routing, RuleFile, Silences, Transition};
use pitwatch_collector::alerts::rules::RuleSource;
use pitwatch_collector::ingest::{Event, Ingest, Tick};
use pitwatch_collector::source::HistorySource;
use pitwatch_disk::RealDisk;
use pitwatch_history::{Config, History};
use pitwatch_promql::Expr;
use pitwatch_rules::prepare;
use pitwatch_shared::model::{Labels, MetricType};

const GAUGES: usize = 20;
const COUNTERS: usize = 10;
const SECONDS: i64 = 330;
const ROUNDS: i64 = 10;
/// Hosts whose samples one commit makes durable: 1,000 a second, a commit each 20 ms.
const HOSTS_A_COMMIT: usize = 20;
const STORM_A_ROUND: usize = 5_000;
/// Alerts of the storm at one room, and over how long they begin, milliseconds.
const ROOM_ALERTS: usize = 10_000;
const ROOM_STORM_MS: i64 = 60_000;
/// How long the room takes to answer, milliseconds.
const ROOM_ANSWER_MS: i64 = 100;
/// The end of the past; later than the epoch of any store.
const BEGIN_MS: i64 = 1_772_331_240_000;

struct Fleet {
    ingest: Ingest,
    hosts: Vec<Vec<Labels>>,
    now_ms: i64,
}

impl Fleet {
    fn new(ingest: Ingest, hosts: usize) -> Self {
        let series = |host: usize| -> Vec<Labels> {
            let metric = |nth: usize| match nth.checked_sub(GAUGES) {
                None => format!("gauge_{nth:02}"),
                Some(nth) => format!("counter_{nth:02}_total"),
            };
            let labels = |nth| {
                let pairs = [
                    ("__name__", metric(nth)),
                    ("instance", format!("host-{host:04}")),
                    ("role", "database".to_owned()),
                    ("env", "prod".to_owned()),
                    ("region", "eu".to_owned()),
                ];
                Labels::new(pairs).expect("labels")
            };
            (0..GAUGES + COUNTERS).map(labels).collect()
        };
        Self { ingest, hosts: (0..hosts).map(series).collect(), now_ms: BEGIN_MS }
    }

    /// One sample of every series, a second later.
    fn tick(&mut self) {
        self.now_ms += 1_000;
        let second = (self.now_ms - BEGIN_MS) / 1_000;
        for (host, series) in self.hosts.iter().enumerate() {
            let value = |nth: usize| match nth < GAUGES {
                // A gauge changes every tenth second, a counter always.
                true => (second / 10 * (nth as i64 + 1) % 97) as f64,
                false => (second * (nth as i64 + host as i64 % 7 + 1)) as f64,
            };
            let samples =
                series.iter().enumerate().map(|(nth, labels)| (labels.clone(), MetricType::Gauge, value(nth)));
            let (table, ts_ms) = (format!("host-{host}").into(), self.now_ms);
            assert!(self.ingest.blocking_send(Event::Internal(Tick { table, ts_ms, samples: samples.collect() })));
        }
        settle(&self.ingest);
    }
}

/// Waits until all that was sent is in history.
fn settle(ingest: &Ingest) {
    let (reply, done) = tokio::sync::oneshot::channel();
    let (progress, _) = tokio::sync::watch::channel(Default::default());
    let source = pitwatch_history::SourceName::agent("settles");
    assert!(ingest.blocking_send(Event::Open { source, session: 1, progress, reply }));
    done.blocking_recv().expect("the thread answers");
}

fn rules() -> Vec<(&'static str, Vec<String>)> {
    let gauge = |nth: usize| format!("gauge_{:02}", nth % GAUGES);
    let thresholds = (0..50).map(|nth| format!("{} > 1e12", gauge(nth))).collect();
    let ratios = (0..20).map(|nth| format!("100 * {} / {} > 1e12", gauge(nth), gauge(nth + 7))).collect();
    let rates = (0..20).map(|nth| format!("rate(counter_{:02}_total[5m]) > 1e12", nth % COUNTERS)).collect();
    let both = (0..10).map(|nth| format!("{} > 1e12 and {} > 50", gauge(nth), gauge(nth + 3))).collect();
    vec![("threshold", thresholds), ("ratio of two", ratios), ("rate over 5 min", rates), ("this and that", both)]
}

fn engine(exprs: &[String]) -> Engine<Expr> {
    let mut text = "groups:\n- name: g\n  rules:\n".to_owned();
    for (nth, expr) in exprs.iter().enumerate() {
        text += &format!("  - {{alert: Rule{nth}, expr: '{expr}', for: 1m, labels: {{severity: page}}, ");
        text += "annotations: {summary: '{{ $labels.instance }} is at {{ $value }}'}}\n";
    }
    let file = RuleFile::parse("bench.yml", &text, prepare).unwrap_or_else(|errors| panic!("{errors}"));
    Engine::new(vec![file], Options::default())
}

fn speed(hosts: usize, history: &Arc<History>, ingest: &Ingest) {
    let begun = Instant::now();
    let mut fleet = Fleet::new(ingest.clone(), hosts);
    for _ in 0..SECONDS {
        fleet.tick();
    }
    println!("{hosts} hosts, {} series: stored in {:.0} s", hosts * 30, begun.elapsed().as_secs_f64());
    let mut source = RuleSource::new(HistorySource::new(history.clone()), ingest.clone());
    let kinds = rules();
    let all: Vec<String> = kinds.iter().flat_map(|(_, exprs)| exprs.clone()).collect();
    let commits: Vec<Instances> = (0..hosts)
        .collect::<Vec<_>>()
        .chunks(HOSTS_A_COMMIT)
        .map(|hosts| hosts.iter().map(|host| Arc::from(format!("host-{host:04}"))).collect())
        .collect();
    println!("{:<18} {:>6} {:>21} {:>31}", "", "", "all at once", "by instance");
    println!(
        "{:<18} {:>6} {:>8} {:>12} {:>12} {:>8} {:>12}",
        "rules", "count", "ms", "rule×host/s", "ms a commit", "ms all", "rule×host/s"
    );
    for (name, exprs) in kinds.into_iter().chain([("all", all)]) {
        let mut engine = engine(&exprs);
        // The first round finds the series.
        engine.evaluate(Wake::Every, fleet.now_ms, &mut source);
        let mut run = |engine: &mut Engine<Expr>, wake: Wake<'_>, now_ms: i64| {
            let begun = cpu_secs();
            let output = engine.evaluate(wake, now_ms, &mut source);
            let spent = cpu_secs() - begun;
            assert!(output.runs.iter().all(|run| run.error.is_none()), "{:?}", output.runs);
            spent
        };
        let (mut whole, mut parts) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            fleet.tick();
            whole += run(&mut engine, Wake::Every, fleet.now_ms);
            fleet.tick();
            parts += commits.iter().map(|hosts| run(&mut engine, Wake::Arrived(hosts), fleet.now_ms)).sum::<f64>();
        }
        let (whole, parts, count) = (whole / ROUNDS as f64, parts / ROUNDS as f64, exprs.len());
        let speed = |secs: f64| (count * hosts) as f64 / secs;
        println!(
            "{name:<18} {count:>6} {:>8.1} {:>12.0} {:>12.1} {:>8.1} {:>12.0}",
            whole * 1e3,
            speed(whole),
            parts * 1e3 / commits.len() as f64,
            parts * 1e3,
            speed(parts)
        );
    }
}

fn storm(alerts: usize, history: &Arc<History>, ingest: &Ingest) {
    let hosts: Vec<Vec<Labels>> = (0..alerts.div_ceil(100)).map(disks).collect();
    let mut source = RuleSource::new(HistorySource::new(history.clone()), ingest.clone());
    let mut engine = engine(&["trouble > 0".to_owned()]);
    let mut now_ms = BEGIN_MS + 1_000_000;
    let send = |now_ms: i64, bad: usize| {
        for (host, series) in hosts.iter().enumerate() {
            let value = |disk: usize| if host * 100 + disk < bad { 1.0 + disk as f64 } else { 0.0 };
            let samples = series.iter().enumerate();
            let samples = samples.map(|(disk, labels)| (labels.clone(), MetricType::Gauge, value(disk)));
            let tick = Tick { table: format!("trouble-{host}").into(), ts_ms: now_ms, samples: samples.collect() };
            assert!(ingest.blocking_send(Event::Internal(tick)));
        }
        settle(ingest);
    };
    send(now_ms, 0);
    engine.evaluate(Wake::Every, now_ms, &mut source);
    let before = resident_mib();
    let (mut told, mut slowest, mut telling) = (0, 0.0_f64, 0.0);
    let mut desk = room();
    // Pending for a minute, so the rounds go on until the last has fired.
    for round in 1..=alerts.div_ceil(STORM_A_ROUND) + 62 {
        now_ms += 1_000;
        send(now_ms, round * STORM_A_ROUND);
        let begun = cpu_secs();
        let output = engine.evaluate(Wake::Every, now_ms, &mut source);
        slowest = slowest.max(cpu_secs() - begun);
        told += output.notifications.len();
        let before = resident_mib();
        for notification in output.notifications {
            desk.take(Arc::new(notification), now_ms);
        }
        telling += resident_mib() - before;
    }
    let held = resident_mib();
    source.flush(now_ms);
    settle(ingest);
    let stored = resident_mib();
    let begun = cpu_secs();
    engine.evaluate(Wake::Every, now_ms + 1_000, &mut source);
    let steady = cpu_secs() - begun;
    println!(
        "{} alerts held, {told} told: {:.0} MiB, {telling:.0} of them to tell of them",
        engine.stored().len(),
        held - before
    );
    println!("their ALERTS and ALERTS_FOR_STATE series in history: {:.0} MiB", stored - held);
    println!("a round of the storm {:.0} ms at most, a round without change {:.0} ms", slowest * 1e3, steady * 1e3);
}

/// What tells a room like Slack's of everything.
fn room() -> Dispatcher {
    let kind = Kind::Slack(Box::new(Slack::hook(Secret::Text("http://x".to_owned()))));
    let integration = Integration { kind, send_resolved: true, http: HttpOptions::default() };
    let receiver = Receiver { name: "room".into(), integrations: vec![integration] };
    let routing = Arc::new(Routing::plain(vec![receiver], i64::MAX / 4));
    Dispatcher::new(routing, Fallback::default(), Silences::default(), 1)
}

/// A storm at a room that takes a message a second, in simulated time: who hears of what, and when the last is told.
fn room_storm() {
    let mut desk = room();
    let (mut begun, mut told, mut messages) = (0, std::collections::HashSet::new(), 0);
    let (mut now_ms, mut last_ms, mut answers) = (BEGIN_MS, BEGIN_MS, Vec::new());
    while begun < ROOM_ALERTS || desk.counts().any(|(_, _, counts)| counts.waiting > 0) || !answers.is_empty() {
        let due = (now_ms - BEGIN_MS) * ROOM_ALERTS as i64 / ROOM_STORM_MS;
        while begun < ROOM_ALERTS && begun as i64 <= due {
            desk.take(Arc::new(fired(begun, now_ms)), now_ms);
            begun += 1;
        }
        desk.tick(now_ms);
        for (line, _) in answers.extract_if(.., |(_, at_ms)| *at_ms <= now_ms).collect::<Vec<(usize, i64)>>() {
            desk.on_result(line, now_ms, &Outcome::Delivered, None);
            last_ms = now_ms;
        }
        while let Some(attempt) = desk.poll(now_ms) {
            messages += 1;
            told.extend(attempt.message.firing.iter().map(|alert| alert.alert_key.clone()));
            answers.push((attempt.line, now_ms + ROOM_ANSWER_MS));
        }
        now_ms += 10;
    }
    let after = (last_ms - BEGIN_MS - ROOM_STORM_MS) as f64 / 1e3;
    println!(
        "{ROOM_ALERTS} alerts in a minute: {messages} messages told of {}, the last {after:.1} s after the storm",
        told.len()
    );
}

fn fired(nth: usize, now_ms: i64) -> Notification {
    let labels =
        [("alertname", "Trouble".to_owned()), ("instance", format!("host-{nth:05}")), ("role", "game".to_owned())];
    Notification {
        id: format!("{nth}-fired"),
        alert_key: format!("r-{nth}"),
        transition: Transition::Fired,
        at_ms: now_ms,
        labels: LabelSet::new(labels),
        annotations: LabelSet::new([("summary", format!("host {nth} is in trouble"))]),
        value: 1.0,
        active_at_ms: now_ms,
        fired_at_ms: now_ms,
        resolved_at_ms: None,
        no_data_since_ms: None,
        expr: "trouble > 0".to_owned(),
        depends_on: Vec::new(),
    }
}

/// The series of a host's 100 disks.
fn disks(host: usize) -> Vec<Labels> {
    let labels = |disk: usize| {
        let pairs = [
            ("__name__", "trouble".to_owned()),
            ("instance", format!("host-{host:04}")),
            ("mountpoint", format!("/data/{disk:02}")),
            ("role", "database".to_owned()),
            ("env", "prod".to_owned()),
            ("region", "eu".to_owned()),
        ];
        Labels::new(pairs).expect("labels")
    };
    (0..100).map(labels).collect()
}

/// Processor time of this thread: other programs may want the machine at the same time.
fn cpu_secs() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (hosts, alerts) = (number(1_000), number(100_000));
    let dir = tempfile::tempdir().expect("a directory");
    let (history, appender, _) = History::open(Arc::new(RealDisk), dir.path(), Config::default()).expect("the store");
    let (ingest, _thread) = Ingest::start(appender).expect("a thread");
    speed(hosts, &history, &ingest);
    storm(alerts, &history, &ingest);
    room_storm();
    let (reply, done) = tokio::sync::oneshot::channel();
    assert!(ingest.blocking_send(Event::Stop(reply)));
    done.blocking_recv().expect("the thread ends");
}
