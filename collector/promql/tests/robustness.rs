//! No text makes the parser panic and no valid query the evaluator, whatever the samples. With `PROMQL_FUZZ` set it is
//! ten million texts and a million queries; `-r` is advised.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use pitwatch_promql::testing::MemorySource;
use pitwatch_promql::{Cancel, Engine, EngineOptions, Error, Expr, Labels, NATIVE_HISTOGRAM, STALE, parse};

#[path = "support/queries.rs"]
mod queries;

use queries::{Dice, START_S, vector};

fn tries(usual: usize, full: usize) -> usize {
    if std::env::var_os("PROMQL_FUZZ").is_some() { full } else { usual }
}

const WORDS: &[&str] = &[
    "sum",
    "avg",
    "topk",
    "count_values",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "offset",
    "@",
    "start()",
    "end()",
    "step()",
    "range()",
    "min_of",
    "rate",
    "label_replace",
    "histogram_quantile",
    "time()",
    "foo",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    "=",
    "==",
    "!=",
    "=~",
    "!~",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "and",
    "or",
    "unless",
    "atan2",
    "\"x\"",
    "'",
    "`",
    "\\",
    "\"\\xff\"",
    "\"(\"",
    "1",
    "0x",
    "1e400",
    "5m",
    "1y",
    "-Inf",
    "NaN",
    "1_0",
    ".5",
    "#",
    "\n",
    " ",
    "é",
    "\u{0}",
    "\u{202e}",
];

#[test]
fn no_text_makes_the_parser_panic() {
    let mut dice = Dice::new(0x0dd_ba11);
    let mut parsed = 0;
    for i in 0..tries(200_000, 10_000_000) {
        let text = if i % 2 == 0 {
            (0..dice.below(30)).map(|_| dice.of(WORDS)).collect::<Vec<_>>().join(dice.of(&["", " "]))
        } else {
            mutated(&mut dice)
        };
        if let Ok(expr) = parse(&text) {
            parsed += 1;
            // Now and then: it takes longer than all the rest.
            if parsed % 8 == 0 {
                reads_back(&text, &expr);
            }
        }
    }
    assert!(parsed > 1000, "only {parsed} texts were valid: the generator is of no use");
}

/// A valid query with a few bytes changed, doubled or lost.
fn mutated(dice: &mut Dice) -> String {
    let mut bytes = vector(dice, 3).into_bytes();
    for _ in 0..dice.below(4) {
        let at = dice.below(bytes.len().max(1));
        match dice.below(4) {
            0 if !bytes.is_empty() => bytes[at] = dice.below(256) as u8,
            1 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            2 => {
                let word = dice.of(WORDS).bytes().collect::<Vec<_>>();
                bytes.splice(at..at, word);
            }
            _ => bytes.truncate(at.max(bytes.len() / 2)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Series with everything that can be nasty: extremes, NaN, stale markers, native histograms, gaps, equal times.
fn nasty(dice: &mut Dice) -> MemorySource {
    let mut store = MemorySource::new();
    let values = [0.0, -0.0, 1.0, -1.5, 1e308, -1e308, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for name in ["requests_total", "temperature", "latency_seconds_bucket", "build_info"] {
        for (job, instance) in [("api", "a"), ("api", "b"), ("db", "a"), ("db", "c")] {
            for other in ["x", "+Inf", "0.5", "nonsense", ""] {
                let mut labels = Labels::from_pairs([("__name__", name), ("job", job), ("instance", instance)]);
                let label = ["zone", "code", "le", "version"][dice.below(4)];
                labels = labels.with(label, other);
                let mut time = START_S * 1000 + dice.below(60_000) as i64;
                for _ in 0..200 {
                    time += [1, 1000, 15_000, 600_000][dice.below(4)];
                    let value = match dice.below(8) {
                        0 => STALE,
                        1 => NATIVE_HISTOGRAM,
                        2..=4 => values[dice.below(values.len())],
                        _ => dice.below(1000) as f64 / 7.0,
                    };
                    store.push(&labels, time, value);
                }
            }
        }
    }
    store
}

#[test]
fn no_valid_query_makes_the_evaluator_panic() {
    let mut dice = Dice::new(0xbad_5eed);
    let store = nasty(&mut dice);
    let engine = Engine::new(EngineOptions { max_samples: 200_000, ..EngineOptions::default() });
    let (mut answered, mut refused) = (0, 0);
    for i in 0..tries(4000, 1_000_000) {
        let Ok(expr) = parse(&vector(&mut dice, 4)) else { continue };
        let start = START_S * 1000 + dice.below(5_000_000) as i64;
        let answer = if i % 2 == 0 {
            engine.instant(&store, &expr, start, &Cancel::new())
        } else {
            let step = [1, 7, 1000, 60_000][dice.below(4)];
            engine.range(&store, &expr, start, start + step * dice.below(60) as i64, step, &Cancel::new())
        };
        match answer {
            Ok(_) => answered += 1,
            Err(Error::Execution(_) | Error::TooManySamples { .. }) => refused += 1,
            Err(error) => panic!("{expr}: {error}"),
        }
    }
    println!("{answered} answered, {refused} refused");
    assert!(answered > 1000);
}

#[test]
fn extreme_times_are_refused_or_answered() {
    let mut dice = Dice::new(7);
    let store = nasty(&mut dice);
    let engine = Engine::default();
    let times = [i64::MIN, -(1 << 53), -1, 0, 1, 1 << 53, i64::MAX];
    for query in [
        "requests_total",
        "rate(requests_total[100y])",
        "requests_total offset 290y",
        "requests_total offset -290y",
        "max_over_time(requests_total[1y:1y])",
        "max_over_time(max_over_time(requests_total[290y:290y])[290y:290y])",
        "requests_total @ 9007199254740",
        "year(vector(9e300))",
        "absent(requests_total{a=\"b\"})",
    ] {
        let expr = parse(query).unwrap();
        for time in times {
            let _ = engine.instant(&store, &expr, time, &Cancel::new());
            for end in times {
                let _ = engine.range(&store, &expr, time, end, i64::MAX, &Cancel::new());
                let _ = engine.range(&store, &expr, time, end, 1, &Cancel::new());
            }
        }
    }
}

#[test]
fn the_deepest_queries_evaluate() {
    let mut dice = Dice::new(3);
    let store = nasty(&mut dice);
    let engine = Engine::default();
    for (open, middle, close) in [
        ("abs(", "temperature", ")"),
        ("(", "temperature", ")"),
        ("-(", "temperature", ")"),
        ("sum by (job) (", "temperature", ")"),
        ("1 + (", "temperature", ")"),
        ("max_over_time((", "temperature", ")[1m:1m])"),
        ("temperature or (", "temperature", ")"),
        ("", "temperature", " or temperature"),
        ("sort(", "temperature", ")"),
        ("label_replace(", "temperature", ", \"a\", \"b\", \"c\", \"d\")"),
        ("histogram_quantile(0.5, ", "temperature", ")"),
        ("topk(scalar(", "temperature", "), temperature)"),
    ] {
        let deepest = (1..250).rev().find_map(|n| {
            let query = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
            parse(&query).ok().map(|expr| (n, expr))
        });
        let (n, expr) = deepest.unwrap();
        assert!(n >= 60, "{open}: only {n} levels");
        let start = START_S * 1000 + 600_000;
        let _ = engine.instant(&store, &expr, start, &Cancel::new());
        let _ = engine.range(&store, &expr, start, start + 120_000, 60_000, &Cancel::new());
    }
}

#[test]
fn what_is_too_dear_is_refused_with_the_limit() {
    let mut dice = Dice::new(9);
    let store = nasty(&mut dice);
    let engine = Engine::new(EngineOptions { max_samples: 5000, ..EngineOptions::default() });
    let run = |query: &str| engine.instant(&store, &parse(query).unwrap(), START_S * 1000 + 600_000, &Cancel::new());
    let error = run("max_over_time(requests_total[1y:1ms])").unwrap_err();
    assert!(matches!(error, Error::TooManySamples { limit: 5000, .. }), "{error}");
    assert!(error.to_string().contains("5000"));
    let range = engine.range(&store, &parse("temperature").unwrap(), 0, 11_001_000, 1000, &Cancel::new());
    assert!(matches!(range.unwrap_err(), Error::BadRequest(_)));
    let cancel = Cancel::new();
    cancel.cancel();
    let cancelled = engine.instant(&store, &parse("temperature").unwrap(), START_S * 1000, &cancel);
    assert!(matches!(cancelled.unwrap_err(), Error::Cancelled));
}

fn shared(path: &str) -> Option<PathBuf> {
    // Dashboards and rules lie outside of the project; PITWATCH_DATA_DIR says where else to look.
    let data = std::env::var_os("PITWATCH_DATA_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = data.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

/// The tree without the places in the text; matchers in the order in which they are printed.
fn shape(expr: &Expr) -> String {
    fn sort_matchers(expr: &mut Expr) {
        match expr {
            Expr::Vector(selector) => selector.matchers.sort_by_key(ToString::to_string),
            Expr::Matrix(matrix) => matrix.vector.matchers.sort_by_key(ToString::to_string),
            other => other.children_mut().into_iter().for_each(sort_matchers),
        }
    }
    let mut expr = expr.clone();
    sort_matchers(&mut expr);
    let text = format!("{expr:?}");
    let mut out = String::new();
    let mut parts = text.split("span: Span {");
    out.push_str(parts.next().unwrap_or_default());
    parts.for_each(|part| out.push_str(part.split_once('}').map_or("", |(_, rest)| rest)));
    out
}

/// Checks that a query is the same after it was written out, on one line or several.
fn reads_back(text: &str, expr: &Expr) {
    for printed in [expr.to_string(), expr.pretty()] {
        let again = parse(&printed).unwrap_or_else(|e| panic!("{text:?} prints as {printed:?}: {e}"));
        assert_eq!(shape(&again), shape(expr), "{text:?} prints as {printed:?}");
    }
}

fn evaluates(query: &str) {
    let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    reads_back(query, &expr);
    let (engine, store) = (Engine::default(), MemorySource::new());
    engine.instant(&store, &expr, START_S * 1000, &Cancel::new()).unwrap_or_else(|e| panic!("{query}: {e}"));
    engine.range(&store, &expr, 0, 60_000, 1000, &Cancel::new()).unwrap_or_else(|e| panic!("{query}: {e}"));
}

#[test]
fn every_query_of_a_large_dashboard_evaluates() {
    let Some(path) = shared("dashboards/node-exporter-full.tsv") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let variables = [("$__rate_interval", "1m"), ("$node", "db-1"), ("$job", "node")];
    for line in text.lines().skip(1) {
        let query = line.split('\t').nth(2).unwrap();
        let query = variables.iter().fold(query.to_owned(), |q, (variable, value)| q.replace(variable, value));
        assert!(!query.contains('$'), "{query}: what is to be filled in?");
        evaluates(&query);
    }
    assert!(text.lines().count() > 250);
}

#[test]
fn every_expression_of_the_rule_packs_evaluates() {
    let Some(directory) = shared("rules") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yml") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some(value) = line.trim_start().strip_prefix("expr:") else { continue };
            let value = value.trim();
            let query = match value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
                Some(inner) => inner.replace("''", "'"),
                None => value.to_owned(),
            };
            evaluates(&query);
            count += 1;
        }
    }
    assert!(count > 200, "only {count} expressions were found");
}
