//! Random queries over the metrics `requests_total`, `temperature`, `latency_seconds_bucket` and `build_info`.

/// The time that fixed times in the queries are near to, in seconds.
pub(crate) const START_S: i64 = 1_600_000_000;

/// A small generator of numbers (Marsaglia's xorshift): a seed gives the same queries on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    /// One of the choices.
    pub(crate) fn of<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.below(choices.len())]
    }
}

/// A random query that gives a vector.
pub(crate) fn vector(dice: &mut Dice, depth: u32) -> String {
    if depth == 0 {
        return selector(dice);
    }
    match dice.below(13) {
        0 | 1 => selector(dice),
        2 | 3 => over_time(dice, depth),
        4 | 5 => aggregate(dice, depth),
        6 => {
            let function = dice.of(&["abs", "ceil", "exp", "floor", "ln", "round", "sgn", "sqrt", "-", "deg"]);
            format!("{function}({})", vector(dice, depth - 1))
        }
        7 => {
            let op = dice.of(&["+", "-", "*", "/", "%", "^", ">", "<=", "== bool", "!=", "> bool", "atan2"]);
            let number = dice.of(&["0", "2", "0.5", "1e6", "time()", "-3", "100"]);
            if dice.below(2) == 0 {
                format!("({}) {op} {number}", vector(dice, depth - 1))
            } else {
                format!("{number} {op} ({})", vector(dice, depth - 1))
            }
        }
        8 => {
            let op = dice.of(&["+", "-", "/", ">", "<= bool", "and", "or", "unless"]);
            let by = dice.of(&["job", "instance", "job, instance"]);
            let (a, b) = (vector(dice, depth - 1), vector(dice, depth - 1));
            format!("sum by ({by}) ({a}) {op} max by ({by}) ({b})")
        }
        9 => {
            let op = dice.of(&["and", "or", "unless"]);
            let on = dice.of(&["", "on (job)", "on (instance, job)", "ignoring (code, zone, le)", "on ()"]);
            format!("({}) {op} {on} ({})", vector(dice, depth - 1), vector(dice, depth - 1))
        }
        10 => {
            let op = dice.of(&["*", "/", ">"]);
            format!("({}) {op} on (job, instance) group_left (version) build_info", selector(dice))
        }
        11 => format!(
            "histogram_quantile({}, sum by (le, {}) (rate(latency_seconds_bucket[{}])))",
            dice.of(&["0.5", "0.9", "0.99", "0", "1"]),
            dice.of(&["job", "instance", "job, instance"]),
            dice.of(&["1m", "5m", "10m"])
        ),
        _ => {
            let inner = vector(dice, depth - 1);
            match dice.below(4) {
                0 => format!("label_replace({inner}, \"to\", \"$1-x\", \"instance\", \"([ab])\")"),
                1 => format!("clamp({inner}, -5, {})", dice.of(&["10", "1e6", "-10"])),
                2 => format!("absent({inner})"),
                _ => format!("({inner}) * scalar(sum({}))", selector(dice)),
            }
        }
    }
}

fn selector(dice: &mut Dice) -> String {
    let name = dice.of(&["requests_total", "temperature", "build_info"]);
    let matchers = dice.of(&[
        "",
        "{job=\"api\"}",
        "{instance=~\"a|b\"}",
        "{job!=\"api\",instance!~\"c.*\"}",
        "{zone=\"x\"}",
        "{code=~\"[45]..\"}",
    ]);
    format!("{name}{matchers}{}", when(dice))
}

fn when(dice: &mut Dice) -> String {
    match dice.below(10) {
        0 => " offset 7m".to_owned(),
        1 => " offset -3m".to_owned(),
        2 => format!(" @ {}", START_S + 1000 + dice.below(3000) as i64),
        3 => " @ end()".to_owned(),
        _ => String::new(),
    }
}

fn over_time(dice: &mut Dice, depth: u32) -> String {
    let function = dice.of(&[
        "rate",
        "increase",
        "delta",
        "irate",
        "idelta",
        "avg_over_time",
        "sum_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "last_over_time",
        "present_over_time",
        "changes",
        "resets",
        "deriv",
        "quantile_over_time(0.7, ",
        "predict_linear",
    ]);
    let open = if function.ends_with(' ') { "" } else { "(" };
    let close = if function == "predict_linear" { ", 600)" } else { ")" };
    let range = match function {
        // As above: a restart between the only two samples of a window.
        "rate" | "increase" => dice.of(&["20m", "1h"]),
        _ => dice.of(&["1m", "5m", "20m", "90s"]),
    };
    if dice.below(4) == 0 && !["rate", "increase"].contains(&function) {
        let step = dice.of(&["", "15s", "1m", "2m"]);
        let inner = vector(dice, depth - 1);
        return format!("{function}{open}({inner})[{range}:{step}]{}{close}", when(dice));
    }
    let name = match function {
        // How far a counter near zero is extrapolated has changed.
        "rate" | "increase" => dice.of(&["requests_total", "latency_seconds_bucket"]),
        _ => dice.of(&["requests_total", "temperature", "latency_seconds_bucket"]),
    };
    let matchers = dice.of(&["", "{job=\"api\"}", "{instance=~\"a|b\"}"]);
    format!("{function}{open}{name}{matchers}[{range}]{}{close}", when(dice))
}

fn aggregate(dice: &mut Dice, depth: u32) -> String {
    let op = dice.of(&[
        "sum",
        "avg",
        "min",
        "max",
        "count",
        "stddev",
        "stdvar",
        "group",
        "topk",
        "bottomk",
        "quantile",
        "count_values",
    ]);
    let by = dice.of(&["", " by (job)", " by (job, instance)", " without (instance)", " by (le, job)"]);
    let param = match op {
        "topk" | "bottomk" => dice.of(&["1, ", "3, ", "100, "]),
        "quantile" => dice.of(&["0.5, ", "0.9, ", "0, "]),
        "count_values" => "\"value\", ",
        _ => "",
    };
    // The text of a value shows its last bit.
    let inner = if op == "count_values" { selector(dice) } else { vector(dice, depth - 1) };
    format!("{op}{by} ({param}{inner})")
}
