//! Random queries over the metrics `requests_total`, `temperature`, `latency_seconds_bucket`, `build_info` and `odd`.

/// The time that fixed times in the queries are near to, in seconds.
pub(crate) const START_S: i64 = 1_600_000_000;

/// A small generator of numbers (Marsaglia's xorshift): a seed gives the same queries on every machine.
pub(crate) struct Dice {
    state: u64,
    /// Whether only what means the same in Prometheus 2 and 3 is generated.
    common: bool,
}

#[allow(dead_code, reason = "each suite makes its own kind")]
impl Dice {
    /// Queries of the whole language.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { state: seed, common: false }
    }

    /// Queries that mean the same in Prometheus 2 and 3.
    pub(crate) fn common(seed: u64) -> Dice {
        Dice { state: seed, common: true }
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 11) % n as u64) as usize
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
    match dice.below(17) {
        0 | 1 => selector(dice),
        2 | 3 => over_time(dice, depth),
        4 | 5 => aggregate(dice, depth),
        6 => of_one(dice, depth),
        7 => {
            // The last bit of one side may be the whole of a remainder; and Prometheus 2 keeps the name over atan2.
            let ops = ["+", "-", "*", "/", "^", ">", "<=", "== bool", "!=", "> bool", ">= bool", "<", "%", "atan2"];
            let op = dice.of(&ops[..ops.len() - 2 * usize::from(dice.common)]);
            let number = dice.of(&["0", "2", "0.5", "1e6", "time()", "-3", "100", "pi()", "scalar(build_info)"]);
            if dice.below(2) == 0 {
                format!("({}) {op} {number}", vector(dice, depth - 1))
            } else {
                format!("{number} {op} ({})", vector(dice, depth - 1))
            }
        }
        8 => {
            let ops = ["+", "-", "/", "^", ">", "<= bool", "== bool", "and", "or", "unless", "atan2", "%"];
            let op = dice.of(&ops[..ops.len() - usize::from(dice.common)]);
            let by = dice.of(&["job", "instance", "job, instance"]);
            let (a, b) = (vector(dice, depth - 1), vector(dice, depth - 1));
            let outer = if op == "atan2" { ("sum without () (", ")") } else { ("", "") };
            format!("{}sum by ({by}) ({a}) {op} max by ({by}) ({b}){}", outer.0, outer.1)
        }
        9 => {
            let op = dice.of(&["and", "or", "unless"]);
            let on =
                dice.of(&["", "on (job)", "on (instance, job)", "ignoring (code, zone, le)", "on ()", "ignoring ()"]);
            // Where names are dropped at once, `or` sees two series where it should see one.
            let plain = dice.common && op == "or";
            let mut side = || if plain { selector(dice) } else { vector(dice, depth - 1) };
            format!("({}) {op} {on} ({})", side(), side())
        }
        10 => grouped(dice, depth),
        11 => {
            let phi = dice.of(&["0.5", "0.9", "0.99", "0", "1", "-0.1", "1.5", "scalar(build_info) / 2"]);
            let by = dice.of(&["job", "instance", "job, instance"]);
            let function = dice.of(&["rate", "increase", "delta", "sum_over_time"]);
            let range = dice.of(&["1m", "5m", "10m"]);
            match dice.below(4) {
                0 => format!("histogram_quantile({phi}, {function}(latency_seconds_bucket[{range}]))"),
                1 if !dice.common => {
                    format!("histogram_fraction(0.1, {phi}, sum by (le, {by}) (latency_seconds_bucket))")
                }
                _ => format!(
                    "histogram_quantile({phi}, sum by (le, {by}) ({function}(latency_seconds_bucket[{range}])))"
                ),
            }
        }
        12 => {
            let part = dice.of(&[
                "minute",
                "hour",
                "month",
                "year",
                "day_of_month",
                "day_of_week",
                "day_of_year",
                "days_in_month",
            ]);
            match dice.below(3) {
                0 => format!("{part}()"),
                1 => format!("{part}(vector(time() * {}))", dice.of(&["1", "0.7", "-1", "3"])),
                _ => format!("{part}(timestamp({}))", selector(dice)),
            }
        }
        13 => odd(dice),
        _ => relabelled(dice, depth),
    }
}

/// A function of single values.
fn of_one(dice: &mut Dice, depth: u32) -> String {
    let function = dice.of(&[
        "abs",
        "ceil",
        "exp",
        "floor",
        "ln",
        "log2",
        "log10",
        "round",
        "sgn",
        "sqrt",
        "-",
        "+",
        "deg",
        "rad",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "timestamp",
        "sort",
        "sort_desc",
    ]);
    // Where these are steep, the last bit of their argument is a third of the digits of their value.
    let steep = ["acos", "asin", "acosh", "atanh"].contains(&function);
    let inner = if dice.common && steep { selector(dice) } else { vector(dice, depth - 1) };
    format!("{function}({inner})")
}

fn relabelled(dice: &mut Dice, depth: u32) -> String {
    let inner = vector(dice, depth - 1);
    match dice.below(10) {
        0 => format!("label_replace({inner}, \"to\", \"$1-x\", \"instance\", \"([ab])\")"),
        1 => format!("label_replace({inner}, \"code\", \"${{a}}$2\", \"job\", \"(?P<a>.)(.*)\")"),
        2 => format!("label_join({inner}, \"to\", \"-\", \"job\", \"instance\", \"nope\")"),
        3 => format!("clamp({inner}, -5, {})", dice.of(&["10", "1e6", "-10", "NaN"])),
        4 => {
            format!("{}({inner}, {})", dice.of(&["clamp_min", "clamp_max"]), dice.of(&["10", "1e6", "time()", "-Inf"]))
        }
        5 => format!("round({inner}, {})", dice.of(&["5", "0.1", "1e3", "-2"])),
        6 => format!("absent({inner})"),
        7 => format!("absent_over_time({}[5m])", plain_selector(dice)),
        8 => format!("vector(scalar({inner}))"),
        _ => format!("({inner}) * scalar(sum({}))", selector(dice)),
    }
}

/// One series against many.
fn grouped(dice: &mut Dice, depth: u32) -> String {
    let op = dice.of(&["*", "/", ">", "== bool", "-"]);
    let include = dice.of(&["version", "", "version, nope"]);
    match dice.below(5) {
        0 => format!("({}) {op} on (job, instance) group_left ({include}) build_info", selector(dice)),
        1 => format!("build_info {op} on (job, instance) group_right ({include}) ({})", selector(dice)),
        2 => format!(
            "({}) {op} ignoring (code, zone, version) group_left () build_info",
            dice.of(&["requests_total", "temperature"])
        ),
        3 => {
            let by = dice.of(&["job", "instance", "job, instance"]);
            let inner = vector(dice, depth - 1);
            format!("requests_total {op} on ({by}) group_left () sum by ({by}) ({inner})")
        }
        _ => format!("temperature {op} on (job, instance, zone) avg by (job, instance, zone) ({})", selector(dice)),
    }
}

/// NaN, infinities and negative zero, where Prometheus 2 and 3 do the same with them.
fn odd(dice: &mut Dice) -> String {
    match dice.below(5) {
        0 => format!(
            "odd{} {} {}",
            when(dice),
            dice.of(&[">", "<=", "== bool", "!=", "+", "*", "/"]),
            dice.of(&["0", "NaN", "-1"])
        ),
        1 => format!("{} by (job) (odd{})", dice.of(&["min", "max", "count", "group"]), when(dice)),
        2 => format!("quantile by (job) ({}, odd)", dice.of(&["0", "0.5", "1"])),
        3 => format!(
            "{}(odd{})",
            dice.of(&["abs", "sgn", "floor", "exp", "sqrt", "round", "sort", "atan", "-"]),
            when(dice)
        ),
        _ => {
            let function = dice.of(&[
                "min_over_time",
                "max_over_time",
                "count_over_time",
                "last_over_time",
                "changes",
                "resets",
                "present_over_time",
            ]);
            format!("{function}(odd[{}]{})", dice.of(&["1m", "5m", "20m"]), when(dice))
        }
    }
}

fn plain_selector(dice: &mut Dice) -> String {
    let name = dice.of(&["requests_total", "temperature", "build_info"]);
    let matchers = dice.of(&[
        "",
        "{job=\"api\"}",
        "{instance=~\"a|b\"}",
        "{job!=\"api\",instance!~\"c.*\"}",
        "{zone=\"x\"}",
        "{code=~\"[45]..\"}",
        "{nope=\"\",job=~\".+\"}",
        "{instance!=\"a\",job=~\"^api$\"}",
    ]);
    format!("{name}{matchers}")
}

fn selector(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => format!("{{__name__=~\"temp.*|build_info\",job=\"db\"}}{}", when(dice)),
        _ => format!("{}{}", plain_selector(dice), when(dice)),
    }
}

fn when(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => " offset 7m".to_owned(),
        1 => " offset -3m".to_owned(),
        2 => format!(" @ {}", START_S + 1000 + dice.below(3000) as i64),
        3 => " @ end()".to_owned(),
        4 => " @ start() offset 1m30s".to_owned(),
        5 if !dice.common => {
            dice.of(&[" offset step()", " offset -(1m + step())", " offset min_of(range(), 2m)"]).to_owned()
        }
        _ => String::new(),
    }
}

fn over_time(dice: &mut Dice, depth: u32) -> String {
    let functions = [
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
        "quantile_over_time(scalar(build_info) / 3, ",
        "predict_linear",
        "first_over_time",
    ];
    let function = dice.of(&functions[..functions.len() - usize::from(dice.common)]);
    let open = if function.ends_with(' ') { "" } else { "(" };
    let close = if function == "predict_linear" { ", 600)" } else { ")" };
    let range = match function {
        // Where a counter restarts between the only two samples of a window, Prometheus 2 extrapolates otherwise.
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
    let by = dice.of(&[
        "",
        " by (job)",
        " by (job, instance)",
        " without (instance)",
        " by (le, job)",
        " without ()",
        " by ()",
    ]);
    let param = match op {
        "topk" | "bottomk" => dice.of(&["1, ", "3, ", "100, ", "0, ", "scalar(count(build_info)) / 3, "]),
        "quantile" => dice.of(&["0.5, ", "0.9, ", "0, ", "1.1, ", "scalar(build_info) / 4, "]),
        "count_values" => "\"value\", ",
        _ => "",
    };
    let inner = match op {
        // The text of a value shows its last bit.
        "count_values" => selector(dice),
        // Which of equal values lead was left open: these are hardly ever equal.
        "topk" | "bottomk" if dice.common => format!("requests_total{}", dice.of(&["", "{job=\"api\"}", " offset 5m"])),
        _ => vector(dice, depth - 1),
    };
    format!("{op}{by} ({param}{inner})")
}
