//! A test file: its YAML to what is to be done, every mistake with its line.

use std::collections::BTreeMap;

use pitwatch_alerting::time::parse_duration_ms;
use pitwatch_alerting::yaml::{self, Node, Value};
use pitwatch_promql::Labels;
use pitwatch_promql::promqltest::series::{self, Item};

use super::SAMPLES_MAX;

/// A test file.
#[derive(Debug)]
pub(super) struct TestFile {
    pub(super) rule_files: Vec<String>,
    pub(super) evaluation_interval_ms: i64,
    pub(super) group_eval_order: Vec<String>,
    pub(super) fuzzy_compare: bool,
    pub(super) tests: Vec<TestGroup>,
}

/// One test.
#[derive(Debug)]
pub(super) struct TestGroup {
    pub(super) name: Option<String>,
    /// The distance of the samples of its series.
    pub(super) interval_ms: i64,
    /// When it begins, Unix milliseconds.
    pub(super) start_ms: i64,
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) external_url: String,
    pub(super) series: Vec<(Labels, Vec<Item>)>,
    pub(super) alerts: Vec<AlertTest>,
    pub(super) exprs: Vec<ExprTest>,
}

/// Which alerts of a name are to fire at a time after the test's begin.
#[derive(Debug)]
pub(super) struct AlertTest {
    pub(super) eval_time_ms: i64,
    pub(super) alertname: String,
    /// Labels and annotations of each.
    pub(super) expected: Vec<(BTreeMap<String, String>, BTreeMap<String, String>)>,
}

/// What an expression is to yield at a time after the test's begin.
#[derive(Debug)]
pub(super) struct ExprTest {
    pub(super) expr: String,
    pub(super) eval_time_ms: i64,
    pub(super) expected: Vec<(String, f64)>,
}

/// Lines and what is wrong there.
type Errors = Vec<(usize, String)>;

/// Reads a test file.
pub(super) fn file(text: &str) -> Result<TestFile, Errors> {
    let root = yaml::parse(text).map_err(|error| vec![error])?;
    let mut reader = Reader { errors: Vec::new(), samples: 0 };
    let file = reader.file(&root);
    if reader.errors.is_empty() {
        return Ok(file);
    }
    reader.errors.sort();
    Err(reader.errors)
}

struct Reader {
    errors: Errors,
    /// Samples of all series so far.
    samples: usize,
}

type Fields<'a> = BTreeMap<&'a str, &'a Node>;

impl Reader {
    fn file(&mut self, root: &Node) -> TestFile {
        const KNOWN: &[&str] = &["rule_files", "evaluation_interval", "group_eval_order", "fuzzy_compare", "tests"];
        let fields = self.fields(root, "a test file", KNOWN);
        let evaluation_interval_ms = match self.duration(&fields, "evaluation_interval") {
            0 => 60_000,
            ms => ms,
        };
        let group_eval_order = self.texts(&fields, "group_eval_order");
        for (at, name) in group_eval_order.iter().enumerate() {
            if group_eval_order[..at].contains(name) {
                self.errors.push((root.line, format!("group name repeated in evaluation order: {name}")));
            }
        }
        let tests = self.list(&fields, "tests");
        TestFile {
            rule_files: self.texts(&fields, "rule_files"),
            evaluation_interval_ms,
            group_eval_order,
            fuzzy_compare: self.flag(&fields, "fuzzy_compare"),
            tests: tests.iter().map(|node| self.group(node, evaluation_interval_ms)).collect(),
        }
    }

    fn group(&mut self, node: &Node, default_interval_ms: i64) -> TestGroup {
        const KNOWN: &[&str] = &[
            "name",
            "interval",
            "start_timestamp",
            "external_labels",
            "external_url",
            "input_series",
            "alert_rule_test",
            "promql_expr_test",
        ];
        let fields = self.fields(node, "a test", KNOWN);
        let interval_ms = match self.duration(&fields, "interval") {
            0 => default_interval_ms,
            ms => ms,
        };
        let start_ms = self.text(&fields, "start_timestamp").map_or(0, |text| {
            instant_ms(&text).unwrap_or_else(|| {
                let what = format!("start_timestamp: {text:?} is neither RFC 3339 nor seconds since 1970");
                self.errors.push((node.line, what));
                0
            })
        });
        let series = self.list(&fields, "input_series");
        let (alerts, exprs) = (self.list(&fields, "alert_rule_test"), self.list(&fields, "promql_expr_test"));
        TestGroup {
            name: self.text(&fields, "name"),
            interval_ms,
            start_ms,
            external_labels: self.pairs(&fields, "external_labels"),
            external_url: self.text(&fields, "external_url").unwrap_or_default(),
            series: series.iter().filter_map(|node| self.series(node)).collect(),
            alerts: alerts.iter().map(|node| self.alert(node)).collect(),
            exprs: exprs.iter().map(|node| self.expr(node)).collect(),
        }
    }

    fn series(&mut self, node: &Node) -> Option<(Labels, Vec<Item>)> {
        let fields = self.fields(node, "a series", &["series", "values"]);
        let (series, values) = (self.text(&fields, "series")?, self.text(&fields, "values").unwrap_or_default());
        let read = series::line(&format!("{series} {values}"));
        let (labels, items) = read.map_err(|error| self.errors.push((node.line, error))).ok()?;
        self.samples += items.len();
        if self.samples > SAMPLES_MAX {
            // Nothing more is kept: the file is refused.
            self.errors.truncate(0);
            self.errors.push((node.line, format!("more than {SAMPLES_MAX} samples")));
            return None;
        }
        Some((labels, items))
    }

    fn alert(&mut self, node: &Node) -> AlertTest {
        let fields = self.fields(node, "an item of alert_rule_test", &["eval_time", "alertname", "exp_alerts"]);
        let alertname = self.text(&fields, "alertname").unwrap_or_default();
        let eval_time_ms = self.duration(&fields, "eval_time");
        if alertname.is_empty() {
            let what = "an item under alert_rule_test misses required attribute alertname at eval_time";
            self.errors.push((node.line, format!("{what} {}", super::compare::duration(eval_time_ms))));
        }
        let expected = self.list(&fields, "exp_alerts");
        let mut one = |node: &&Node| {
            let fields = self.fields(node, "an expected alert", &["exp_labels", "exp_annotations"]);
            (self.pairs(&fields, "exp_labels"), self.pairs(&fields, "exp_annotations"))
        };
        AlertTest { eval_time_ms, alertname, expected: expected.iter().map(&mut one).collect() }
    }

    fn expr(&mut self, node: &Node) -> ExprTest {
        let fields = self.fields(node, "an item of promql_expr_test", &["expr", "eval_time", "exp_samples"]);
        let samples = self.list(&fields, "exp_samples");
        let mut one = |node: &&Node| {
            let fields = self.fields(node, "an expected sample", &["labels", "value", "histogram"]);
            let value = self.text(&fields, "value").map_or(0.0, |text| {
                number(&text).unwrap_or_else(|| {
                    self.errors.push((node.line, format!("value: {text:?} is not a number")));
                    0.0
                })
            });
            (self.text(&fields, "labels").unwrap_or_default(), value)
        };
        let expected = samples.iter().map(&mut one).collect();
        let expr = self.text(&fields, "expr").unwrap_or_default();
        ExprTest { expr, eval_time_ms: self.duration(&fields, "eval_time"), expected }
    }

    /// The fields of a map; what is nothing has none. Unknown ones and repetitions are mistakes.
    fn fields<'a>(&mut self, node: &'a Node, what: &str, known: &[&str]) -> Fields<'a> {
        let mut fields = Fields::new();
        let pairs = match &node.value {
            Value::Map(pairs) => pairs.as_slice(),
            Value::Null => &[],
            other => {
                self.errors.push((node.line, format!("{what} is a map, not {}", other.kind())));
                &[]
            }
        };
        for (key, line, value) in pairs {
            if !known.contains(&&**key) {
                let known = known.join(", ");
                self.errors.push((*line, format!("field {key} not found in {what}; known are {known}")));
            } else if fields.insert(key, value).is_some() {
                self.errors.push((*line, format!("{key} stands twice in {what}")));
            }
        }
        fields.retain(|_, node| node.value != Value::Null);
        fields
    }

    fn list<'a>(&mut self, fields: &Fields<'a>, name: &str) -> Vec<&'a Node> {
        match fields.get(name) {
            Some(Node { value: Value::List(items), .. }) => items.iter().collect(),
            None => Vec::new(),
            Some(other) => {
                self.errors.push((other.line, format!("{name} is a list, not {}", other.value.kind())));
                Vec::new()
            }
        }
    }

    fn texts(&mut self, fields: &Fields<'_>, name: &str) -> Vec<String> {
        let list = self.list(fields, name);
        list.iter().filter_map(|node| self.as_text(name, node)).collect()
    }

    fn text(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        fields.get(name).and_then(|node| self.as_text(name, node))
    }

    fn as_text(&mut self, name: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Null => Some(String::new()),
            other => {
                self.errors.push((node.line, format!("{name} is a text, not {}", other.kind())));
                None
            }
        }
    }

    fn pairs(&mut self, fields: &Fields<'_>, name: &str) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        match fields.get(name) {
            Some(Node { value: Value::Map(pairs), .. }) => {
                for (key, line, node) in pairs {
                    let text = self.as_text(name, node).unwrap_or_default();
                    if out.insert(key.clone(), text).is_some() {
                        self.errors.push((*line, format!("{name}: {key} stands twice")));
                    }
                }
            }
            None => {}
            Some(other) => {
                self.errors.push((other.line, format!("{name} is a map, not {}", other.value.kind())));
            }
        }
        out
    }

    fn duration(&mut self, fields: &Fields<'_>, name: &str) -> i64 {
        let Some(text) = self.text(fields, name) else { return 0 };
        let line = fields.get(name).map_or(0, |node| node.line);
        parse_duration_ms(&text).map_err(|error| self.errors.push((line, format!("{name}: {error}")))).unwrap_or(0)
    }

    fn flag(&mut self, fields: &Fields<'_>, name: &str) -> bool {
        let line = fields.get(name).map_or(0, |node| node.line);
        match self.text(fields, name).as_deref() {
            Some("true" | "True" | "TRUE") => true,
            None | Some("false" | "False" | "FALSE") => false,
            Some(other) => {
                self.errors.push((line, format!("{name}: {other:?} is neither true nor false")));
                false
            }
        }
    }
}

/// A number as YAML writes them: `1.5`, `1e3`, `0x1f`, `017`, `1_000`, `.inf`, `.nan`.
fn number(text: &str) -> Option<f64> {
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => (-1.0, bare),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match bare {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ if !bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        _ => {}
    }
    let plain = bare.replace('_', "");
    let digits = |prefix: &str, radix| u64::from_str_radix(plain.strip_prefix(prefix)?, radix).ok();
    let octal = || plain.bytes().all(|b| b.is_ascii_digit()).then(|| digits("0", 8)).flatten();
    let whole = digits("0x", 16).or_else(|| digits("0o", 8)).or_else(|| digits("0b", 2)).or_else(octal);
    #[expect(clippy::cast_precision_loss, reason = "YAML's integers as numbers are rounded too")]
    let value = whole.map(|whole| whole as f64).or_else(|| plain.parse().ok())?;
    Some(sign * value)
}

/// Milliseconds of seconds since 1970 or of RFC 3339.
fn instant_ms(text: &str) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "float to integer saturates, and what is too large is refused")]
    if let Some(seconds) = number(text) {
        return (seconds.abs() < 1e11).then_some((seconds * 1e3) as i64);
    }
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let marks = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    let marked = marks.iter().all(|(at, mark)| text.get(*at..at + 1) == Some(mark));
    if !marked || !matches!(text.get(10..11), Some("T" | "t" | " ")) {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let rest = text.get(19..)?;
    let after = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let fraction: f64 = rest[..rest.len() - after.len()].parse().unwrap_or(0.0);
    let zone_minutes = match after.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if after.len() == 6 => {
            let offset = after.get(1..3)?.parse::<i64>().ok()? * 60 + after.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    // Days from a date, after Howard Hinnant's `days_from_civil`.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + (minute - zone_minutes) * 60 + second;
    #[expect(clippy::cast_possible_truncation, reason = "less than 1,000")]
    valid.then_some(seconds * 1_000 + (fraction * 1e3) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_yamls() {
        for (text, value) in [
            ("1", 1.0),
            ("-1.5e3", -1500.0),
            ("0x1f", 31.0),
            ("010", 8.0),
            ("1_000", 1000.0),
            ("-.inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        assert!(number(".nan").unwrap().is_nan());
        for text in ["NaN", "inf", "", "x", "1x", "-"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:34:56.12Z", 1_709_210_096_120),
            ("2024-02-29T13:34:56+01:00", 1_709_210_096_000),
            ("1709210096.5", 1_709_210_096_500),
        ] {
            assert_eq!(instant_ms(text), Some(ms), "{text}");
        }
        for text in ["", "2024", "2024-13-01T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00", "yesterday"] {
            assert!(instant_ms(text).is_none_or(|ms| text == "2024" && ms == 2_024_000), "{text}");
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text = "rule_files: r.yml
evaluation_interval: often
fuzzy_compare: perhaps
group_eval_order: [a, a]
tests:
- interval: 1m
  colour: red
  start_timestamp: yesterday
  input_series:
  - {series: 'm{', values: '1'}
  - {series: m, values: '1 bad'}
  alert_rule_test:
  - {eval_time: 1m}
  promql_expr_test:
  - {expr: m, exp_samples: [{value: NaN}]}
";
        let errors = file(text).unwrap_err();
        let lines: Vec<usize> = errors.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 1, 2, 3, 6, 7, 10, 11, 13, 15], "{errors:?}");
    }

    #[test]
    fn a_bomb_of_samples_is_refused() {
        let series = "  - {series: m, values: '0x100000'}\n".repeat(60);
        let errors = file(&format!("tests:\n- interval: 1s\n  input_series:\n{series}")).unwrap_err();
        assert!(errors[0].1.contains("samples"), "{errors:?}");
    }
}
