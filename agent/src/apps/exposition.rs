//! The text format that applications expose: Prometheus' (0.0.4) and OpenMetrics, as far as both agree.
//!
//! A text is read wholly or refused with the line that is wrong, as Prometheus does: half a scrape must not pass for a
//! whole one. Timestamps and exemplars are read and left out: a scrape's samples are all of one moment. Nothing is copied
//! before a series is new.

use pitwatch_shared::limits;
use pitwatch_shared::model::MetricType;

/// Longest line, bytes: more than the longest labels take.
const LINE_MAX_BYTES: usize = 4 * limits::LABELS_MAX_BYTES;

/// One sample of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series as it is written, name and labels: the same text is the same series.
    pub series: &'a str,
    /// The metric's name.
    pub name: &'a str,
    /// What is between the braces.
    labels: &'a str,
    /// What the family's TYPE line says.
    pub kind: MetricType,
    /// The value.
    pub value: f64,
}

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Malformed {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What to do with timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// They are left out.
    Ignored,
    /// A text with one is refused.
    Refused,
}

/// Reads a text; at most `max` samples are kept, the rest are checked and counted. Gives how many there were.
///
/// # Errors
/// The first line that is wrong.
pub fn parse<'a>(
    text: &'a str,
    timestamps: Timestamps,
    max: usize,
    out: &mut Vec<Sample<'a>>,
) -> Result<usize, Malformed> {
    let (mut family, mut kind) = ("", MetricType::Unknown);
    let mut count = 0;
    for (at, line) in text.split('\n').enumerate() {
        let wrong = |what| Malformed { line: at + 1, what };
        if line.len() > LINE_MAX_BYTES {
            return Err(wrong("it is too long"));
        }
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_ascii_whitespace();
            match words.next() {
                Some("TYPE") => {
                    family = words.next().ok_or_else(|| wrong("TYPE without a name"))?;
                    kind = kind_of(words.next().ok_or_else(|| wrong("TYPE without a type"))?);
                }
                Some("EOF") if words.next().is_none() => break,
                _ => {}
            }
            continue;
        }
        let (mut sample, has_timestamp) = parse_sample(line).map_err(wrong)?;
        if has_timestamp && timestamps == Timestamps::Refused {
            return Err(wrong("it has a timestamp, which is not supported here"));
        }
        sample.kind = if is_of(sample.name, family) { kind } else { MetricType::Unknown };
        count += 1;
        if out.len() < max {
            out.push(sample);
        }
    }
    Ok(count)
}

impl<'a> Sample<'a> {
    /// The labels, unescaped.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, String)> + use<'a> {
        let mut rest = self.labels;
        std::iter::from_fn(move || {
            let (name, raw, after) = next_label(rest).ok()??;
            rest = after;
            Some((name, unescape(raw)))
        })
    }
}

fn kind_of(word: &str) -> MetricType {
    match word {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" | "gaugehistogram" => MetricType::Histogram,
        "summary" => MetricType::Summary,
        _ => MetricType::Unknown,
    }
}

/// Whether a sample of that name belongs to the family.
fn is_of(name: &str, family: &str) -> bool {
    const SUFFIXES: [&str; 9] = ["", "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum", "_gcount"];
    let suffix = name.strip_prefix(family);
    !family.is_empty() && suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix))
}

/// A line's sample, and whether it has a timestamp.
fn parse_sample(line: &str) -> Result<(Sample<'_>, bool), &'static str> {
    let end = line.find(|c: char| !is_name(c, true)).unwrap_or(line.len());
    let name = &line[..end];
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
        return Err("it begins with no metric's name");
    }
    let (mut labels, mut rest, mut series) = ("", &line[end..], name);
    if let Some(inside) = rest.trim_start().strip_prefix('{') {
        let mut at = inside;
        let mut count = 0;
        while let Some((_, _, after)) = next_label(at)? {
            at = after;
            count += 1;
            if count >= limits::LABELS_PER_SERIES_MAX {
                return Err("too many labels");
            }
        }
        labels = &inside[..inside.len() - at.len()];
        rest = at.trim_start_matches([' ', '\t', ',']).strip_prefix('}').ok_or("labels without an end")?;
        series = &line[..line.len() - rest.len()];
    }
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("no value")?.parse().map_err(|_| "the value is no number")?;
    let has_timestamp = match words.next() {
        None => false,
        // An exemplar of OpenMetrics.
        Some("#") => false,
        Some(timestamp) => {
            timestamp.parse::<f64>().map_err(|_| "the timestamp is no number")?;
            if words.next().is_some_and(|word| word != "#") {
                return Err("more than a value and a timestamp");
            }
            true
        }
    };
    Ok((Sample { series, name, labels, kind: MetricType::Unknown, value }, has_timestamp))
}

/// A label's name, its value as written, and what follows.
type Label<'a> = (&'a str, &'a str, &'a str);

/// The label at the front; none at the closing brace.
fn next_label(text: &str) -> Result<Option<Label<'_>>, &'static str> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    if text.is_empty() || text.starts_with('}') {
        return Ok(None);
    }
    let end = text.find(|c: char| !is_name(c, false)).ok_or("a label without a value")?;
    let name = &text[..end];
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
        return Err("no label's name where one should be");
    }
    let rest = text[end..].trim_start().strip_prefix('=').ok_or("a label without a value")?;
    let value = rest.trim_start().strip_prefix('"').ok_or("a label's value without quotes")?;
    let mut escaped = false;
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(Some((name, &value[..at], &value[at + 1..]))),
            _ => {}
        }
    }
    Err("a label's value without its closing quote")
}

fn is_name(c: char, of_metric: bool) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':')
}

fn unescape(raw: &str) -> String {
    if !raw.contains('\\') {
        return raw.to_owned();
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<String>, Malformed> {
        let mut samples = Vec::new();
        parse(text, Timestamps::Ignored, 100, &mut samples)?;
        let say = |sample: &Sample<'_>| {
            let labels: Vec<String> = sample.labels().map(|(name, value)| format!("{name}={value:?}")).collect();
            format!("{} {} [{}] {}", sample.kind.as_str(), sample.name, labels.join(","), sample.value)
        };
        Ok(samples.iter().map(say).collect())
    }

    #[test]
    fn both_formats_are_read() {
        let text = "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n\
                    http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
                    http_requests_total { path = \"C:\\\\DIR\\n\\\"x\\\"\" , } +Inf\r\n\n\
                    # TYPE t histogram\nt_bucket{le=\"+Inf\"} 4 # {trace=\"a\"} 0.67\nt_sum 1.5e-3\nother NaN\n\
                    # EOF\ngarbage {{{\n";
        assert_eq!(
            read(text).unwrap(),
            [
                "counter http_requests_total [method=\"post\",code=\"200\"] 1027",
                "counter http_requests_total [path=\"C:\\\\DIR\\n\\\"x\\\"\"] inf",
                "histogram t_bucket [le=\"+Inf\"] 4",
                "histogram t_sum [] 0.0015",
                "unknown other [] NaN",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, what) in [
            ("a 1\nb\n", "line 2: no value"),
            ("{a=\"b\"} 1", "line 1: it begins with no metric's name"),
            ("9a 1", "line 1: it begins with no metric's name"),
            ("a{b=\"c} 1", "line 1: a label's value without its closing quote"),
            ("a{b=c} 1", "line 1: a label's value without quotes"),
            ("a{b=\"c\" 1", "line 1: a label without a value"),
            ("a{=\"c\"} 1", "line 1: no label's name where one should be"),
            ("a{b=\"c\"", "line 1: labels without an end"),
            ("a x", "line 1: the value is no number"),
            ("a 1 x", "line 1: the timestamp is no number"),
            ("a 1 2 3", "line 1: more than a value and a timestamp"),
            ("# TYPE a", "line 1: TYPE without a type"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), what, "{text}");
        }
        assert!(read(&format!("a{{b=\"{}\"}} 1", "x".repeat(LINE_MAX_BYTES))).is_err());
    }

    #[test]
    fn more_samples_than_the_limit_are_counted() {
        let mut out = Vec::new();
        assert_eq!(parse("a 1\nb 2\nc 3\n", Timestamps::Ignored, 2, &mut out), Ok(3));
        assert_eq!(out.len(), 2);
        assert!(parse("a 1 5\n", Timestamps::Refused, 2, &mut out).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|[{}\"\\\\=,# \n]|# TYPE |a=\")*") {
            let mut out = Vec::new();
            if parse(&text, Timestamps::Ignored, 10, &mut out).is_ok() {
                out.iter().for_each(|sample| sample.labels().for_each(drop));
            }
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z_:][a-z0-9_:]{0,8}", value: f64,
            labels in prop::collection::vec(("[a-z_][a-z0-9_]{0,5}", "\\PC{0,9}|[\"\\\\\n]{0,4}"), 0..5),
        ) {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escape(v))).collect();
            let text = format!("{name}{{{}}} {value}\n", pairs.join(","));
            let mut out = Vec::new();
            parse(&text, Timestamps::Ignored, 10, &mut out).unwrap();
            prop_assert_eq!(out[0].name, &name);
            prop_assert_eq!(out[0].value.to_bits(), if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() });
            let back: Vec<(String, String)> = out[0].labels().map(|(n, v)| (n.to_owned(), v)).collect();
            prop_assert_eq!(back, labels);
        }
    }
}
