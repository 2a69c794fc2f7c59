//! The values that templates pass around, and the functions of Go and of Prometheus over them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Context, gofmt, message};
use crate::engine::Row;
use crate::labels::LabelSet;
use crate::limits;
use crate::time;

/// A value of a template.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Labels(LabelSet),
    Sample(Row),
    Samples(Vec<Row>),
    /// What `args` made: a map of `arg0`, `arg1` and so on.
    Args(Arc<[Value]>),
    /// Values in order: alerts, pairs, texts.
    List(Arc<[Value]>),
    /// Named values: a message, an alert, a pair.
    Record(Arc<BTreeMap<&'static str, Value>>),
    /// The dot outside of any block.
    Root,
    /// An instant, Unix milliseconds.
    Time(i64),
    /// A span in nanoseconds.
    Duration(i64),
}

/// Every function that a template may name.
pub(super) const NAMES: [&str; 56] = [
    "tmpl",
    "args",
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "print",
    "printf",
    "println",
    "urlquery",
    "html",
    "query",
    "first",
    "value",
    "label",
    "strvalue",
    "sortByLabel",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "title",
    "toUpper",
    "toLower",
    "stripPort",
    "stripDomain",
    "match",
    "reReplaceAll",
    "parseDuration",
    "toTime",
    "toDuration",
    "now",
    "externalURL",
    "pathPrefix",
    "graphLink",
    "tableLink",
    "urlQueryEscape",
    "safeHtml",
    "slice",
    "join",
    "stringSlice",
    "trimSpace",
    "since",
    "date",
    "tz",
    "safeUrl",
    "urlUnescape",
    "toJson",
];

impl Value {
    /// What the value is, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nothing",
            Self::Bool(_) => "a yes or no",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Labels(_) => "labels",
            Self::Sample(_) => "a sample",
            Self::Samples(_) => "the rows of a query",
            Self::Args(_) => "a map of arguments",
            Self::List(_) => "a list",
            Self::Record(_) => "a record",
            Self::Root => "the whole of the template's data",
            Self::Time(_) => "an instant",
            Self::Duration(_) => "a duration",
        }
    }

    /// Go's truth: not the zero of its type, not empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(v) => *v,
            Self::Int(v) | Self::Duration(v) => *v != 0,
            Self::Float(v) => *v != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Labels(labels) => labels.iter().len() > 0,
            Self::Samples(rows) => !rows.is_empty(),
            Self::Args(values) => !values.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Record(_) | Self::Sample(_) | Self::Root | Self::Time(_) => true,
        }
    }

    /// The number that humanizers take: a number, or a text that is one.
    fn number(&self) -> Result<f64, String> {
        match self {
            Self::Float(v) => Ok(*v),
            // Integers of a template are small; a rounded one still prints right to four figures.
            #[expect(clippy::cast_precision_loss)]
            Self::Int(v) => Ok(*v as f64),
            #[expect(clippy::cast_precision_loss)]
            Self::Duration(ns) => Ok(*ns as f64 / 1e9),
            Self::Text(text) => text.parse().map_err(|_| format!("{text:?} is not a number")),
            other => Err(format!("{} is not a number", other.kind())),
        }
    }

    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(format!("{} is not a text", other.kind())),
        }
    }

    pub(super) fn from_text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => f.write_str(&gofmt::shortest(*v)),
            Self::Text(text) => f.write_str(text),
            Self::Labels(labels) => {
                f.write_str("map[")?;
                for (at, (name, value)) in labels.iter().enumerate() {
                    write!(f, "{}{name}:{value}", if at == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Sample(row) => {
                write!(f, "{{{} {}}}", Self::Labels(row.labels.clone()), gofmt::shortest(row.value))
            }
            Self::Samples(rows) => {
                f.write_str("[")?;
                for (at, row) in rows.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { " " }, Self::Sample(row.clone()))?;
                }
                f.write_str("]")
            }
            Self::Args(values) => {
                f.write_str("map[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}arg{at}:{value}", if at == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::List(list) => {
                let words: Vec<String> = list.iter().map(Self::to_string).collect();
                write!(f, "[{}]", words.join(" "))
            }
            Self::Record(fields) => {
                let words: Vec<String> = fields.values().map(Self::to_string).collect();
                write!(f, "{{{}}}", words.join(" "))
            }
            Self::Root => f.write_str("<no value>"),
            Self::Time(ms) => f.write_str(&time::go_time(*ms)),
            Self::Duration(ns) => f.write_str(&go_duration(*ns)),
        }
    }
}

/// Calls the function `name`, which is one of [`NAMES`]; `and`, `or` and `tmpl` are the executor's.
pub(super) fn call(name: &str, arguments: &[Value], context: &Context<'_>) -> Result<Value, String> {
    evaluate(name, arguments, context).map_err(|message| format!("{name}: {message}"))
}

fn evaluate(name: &str, arguments: &[Value], context: &Context<'_>) -> Result<Value, String> {
    match name {
        "args" => Ok(Value::Args(arguments.into())),
        "not" => one(arguments).map(|value| Value::Bool(!value.is_true())),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, arguments),
        "len" => length(arguments),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(Value::from_text(print(arguments))),
        "println" => Ok(Value::from_text(println(arguments))),
        "printf" => match arguments.split_first() {
            Some((Value::Text(format), rest)) => gofmt::printf(format, rest).map(Value::from_text),
            _ => Err("the first argument is the format, a text".to_owned()),
        },
        _ => of_rows_and_numbers(name, arguments, context),
    }
}

fn of_rows_and_numbers(name: &str, arguments: &[Value], context: &Context<'_>) -> Result<Value, String> {
    let of_number = |f: &dyn Fn(f64) -> String| Ok(Value::from_text(f(one(arguments)?.number()?)));
    match name {
        "query" => query(one(arguments)?.text()?, context),
        "first" => match one(arguments)? {
            Value::Samples(rows) => {
                rows.first().cloned().map(Value::Sample).ok_or_else(|| "the query gave no rows".to_owned())
            }
            other => Err(format!("takes the rows of a query, not {}", other.kind())),
        },
        "value" => sample(one(arguments)?).map(|row| Value::Float(row.value)),
        "strvalue" => sample(one(arguments)?).map(|row| label(row, "__value__")),
        "label" => match arguments {
            [Value::Text(name), row] => sample(row).map(|row| label(row, name)),
            _ => Err("takes a label's name and a sample".to_owned()),
        },
        "sortByLabel" => sort_by_label(arguments),
        "humanize" => of_number(&humanize),
        "humanize1024" => of_number(&humanize_1024),
        "humanizeDuration" => of_number(&humanize_duration),
        "humanizePercentage" => of_number(&|v| gofmt::general(v * 100.0, Some(4)) + "%"),
        "humanizeTimestamp" => {
            of_number(&|v| seconds_to_ms(v).map_or_else(|| gofmt::general(v, Some(4)), time::go_time))
        }
        "toTime" => one(arguments)?
            .number()
            .and_then(|v| seconds_to_ms(v).map(Value::Time).ok_or_else(|| format!("{v} is not an instant"))),
        #[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
        "toDuration" => one(arguments)?.number().map(|v| Value::Duration((v * 1e9) as i64)),
        #[expect(clippy::cast_precision_loss, reason = "a duration that a person wrote")]
        "parseDuration" => {
            one(arguments)?.text().and_then(time::parse_duration_ms).map(|ms| Value::Float(ms as f64 / 1e3))
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of our age")]
        "now" => Ok(Value::Float(context.now_ms as f64 / 1e3)),
        _ => of_texts(name, arguments, context),
    }
}

fn of_texts(name: &str, arguments: &[Value], context: &Context<'_>) -> Result<Value, String> {
    let of_text = |f: &dyn Fn(&str) -> String| Ok(Value::from_text(f(one(arguments)?.text()?)));
    match name {
        "title" => of_text(&title),
        "toUpper" => of_text(&str::to_uppercase),
        "toLower" => of_text(&str::to_lowercase),
        "stripPort" => of_text(&|host| strip_port(host).to_owned()),
        "stripDomain" => of_text(&strip_domain),
        "html" => of_text(&escape_html),
        "safeHtml" => of_text(&str::to_owned),
        "urlquery" | "urlQueryEscape" => of_text(&url_query_escape),
        "match" => match arguments {
            [Value::Text(pattern), Value::Text(text)] => regex(pattern).map(|re| Value::Bool(re.is_match(text))),
            _ => Err("takes a pattern and a text".to_owned()),
        },
        "reReplaceAll" => match arguments {
            [Value::Text(pattern), Value::Text(by), Value::Text(text)] => {
                regex(pattern).map(|re| Value::from_text(re.replace_all(text, &**by).into_owned()))
            }
            _ => Err("takes a pattern, its replacement and a text".to_owned()),
        },
        "externalURL" => Ok(Value::from_text(context.external_url)),
        "pathPrefix" => Ok(Value::from_text(path_prefix(context.external_url))),
        "graphLink" => of_text(&|expr| format!("/graph?g0.expr={}&g0.tab=0", url_query_escape(expr))),
        "tableLink" => of_text(&|expr| format!("/graph?g0.expr={}&g0.tab=1", url_query_escape(expr))),
        _ => message::call(name, arguments, context.now_ms),
    }
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [value] => Ok(value),
        _ => Err(format!("takes one argument, not {}", arguments.len())),
    }
}

fn query(expr: &str, context: &Context<'_>) -> Result<Value, String> {
    match (context.query)(expr)? {
        rows if rows.len() <= limits::TEMPLATE_ROWS_MAX => Ok(Value::Samples(rows)),
        rows => Err(format!("{} rows, more than {}", rows.len(), limits::TEMPLATE_ROWS_MAX)),
    }
}

fn sample(value: &Value) -> Result<&Row, String> {
    match value {
        Value::Sample(row) => Ok(row),
        other => Err(format!("takes one sample (query … | first), not {}", other.kind())),
    }
}

fn label(row: &Row, name: &str) -> Value {
    Value::from_text(row.labels.value(name).unwrap_or(""))
}

fn sort_by_label(arguments: &[Value]) -> Result<Value, String> {
    let [Value::Text(name), Value::Samples(rows)] = arguments else {
        return Err("takes a label's name and the rows of a query".to_owned());
    };
    let mut rows = rows.clone();
    rows.sort_by(|a, b| a.labels.value(name).cmp(&b.labels.value(name)));
    Ok(Value::Samples(rows))
}

fn compare(name: &str, arguments: &[Value]) -> Result<Value, String> {
    use std::cmp::Ordering;
    let (left, others) = match arguments {
        [left, others @ ..] if !others.is_empty() && (name == "eq" || others.len() == 1) => (left, others),
        _ => return Err("takes two values".to_owned()),
    };
    // Go refuses to compare an integer with a float; packs write both, and mean the number.
    let order = |right: &Value| match (left, right) {
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::Nil, Value::Nil) => Ok(Some(Ordering::Equal)),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(left.number()?.partial_cmp(&right.number()?))
        }
        _ => Err(format!("cannot compare {} with {}", left.kind(), right.kind())),
    };
    for right in others {
        let order = order(right)?;
        let holds = match name {
            "eq" => order == Some(Ordering::Equal),
            "ne" => order != Some(Ordering::Equal),
            "lt" => order == Some(Ordering::Less),
            "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            "gt" => order == Some(Ordering::Greater),
            _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        };
        if holds {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn length(arguments: &[Value]) -> Result<Value, String> {
    let length = match one(arguments)? {
        Value::Text(text) => text.len(),
        Value::Labels(labels) => labels.iter().len(),
        Value::Samples(rows) => rows.len(),
        Value::List(list) => list.len(),
        other => return Err(format!("{} has no length", other.kind())),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [Value::Labels(labels), Value::Text(name)] => Ok(Value::from_text(labels.value(name).unwrap_or(""))),
        [Value::Samples(rows), Value::Int(at)] => usize::try_from(*at)
            .ok()
            .and_then(|at| rows.get(at))
            .map(|row| Value::Sample(row.clone()))
            .ok_or_else(|| format!("there is no row {at} of {}", rows.len())),
        [Value::List(list), Value::Int(at)] => usize::try_from(*at)
            .ok()
            .and_then(|at| list.get(at).cloned())
            .ok_or_else(|| format!("there is no item {at} of {}", list.len())),
        _ => Err("takes labels and a name, or rows and a number".to_owned()),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let bound = |value: &Value| match value {
        Value::Int(at) => usize::try_from(*at).map_err(|_| format!("{at} is not a position")),
        other => Err(format!("{} is not a position", other.kind())),
    };
    let (text, from, to) = match arguments {
        [Value::Text(text), from] => (text, bound(from)?, text.len()),
        [Value::Text(text), from, to] => (text, bound(from)?, bound(to)?),
        _ => return Err("takes a text and one or two positions".to_owned()),
    };
    text.get(from..to).map(Value::from_text).ok_or_else(|| format!("{from} to {to} is not within {text:?}"))
}

/// Go's Sprint: a space between two operands of which neither is a text.
fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !matches!(value, Value::Text(_)) && !matches!(arguments[at - 1], Value::Text(_)) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}

fn println(arguments: &[Value]) -> String {
    let words: Vec<String> = arguments.iter().map(Value::to_string).collect();
    words.join(" ") + "\n"
}

fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(limits::TEMPLATE_REGEX_MAX_BYTES)
        .build()
        .map_err(|error| format!("pattern {pattern:?}: {error}"))
}

fn humanize(mut v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return gofmt::general(v, Some(4));
    }
    let mut prefix = "";
    if v.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if v.abs() < 1000.0 {
                break;
            }
            (prefix, v) = (next, v / 1000.0);
        }
    } else {
        (prefix, v) = below_one(v);
    }
    gofmt::general(v, Some(4)) + prefix
}

/// A value below 1 scaled up, with the prefix that says by how much.
fn below_one(mut v: f64) -> (&'static str, f64) {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if v.abs() >= 1.0 {
            break;
        }
        (prefix, v) = (next, v * 1000.0);
    }
    (prefix, v)
}

fn humanize_1024(mut v: f64) -> String {
    let mut prefix = "";
    if v.abs() > 1.0 && v.is_finite() {
        for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
            if v.abs() < 1024.0 {
                break;
            }
            (prefix, v) = (next, v / 1024.0);
        }
    }
    gofmt::general(v, Some(4)) + prefix
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return gofmt::general(v, Some(4));
    }
    if v == 0.0 {
        return "0s".to_owned();
    }
    if v.abs() < 1.0 {
        let (prefix, v) = below_one(v);
        return format!("{}{prefix}s", gofmt::general(v, Some(4)));
    }
    let (sign, v) = if v < 0.0 { ("-", -v) } else { ("", v) };
    #[expect(clippy::cast_possible_truncation, reason = "float to integer saturates")]
    let whole = v as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    match () {
        () if days != 0 => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
        () if hours != 0 => format!("{sign}{hours}h {minutes}m {seconds}s"),
        () if minutes != 0 => format!("{sign}{minutes}m {seconds}s"),
        () => format!("{sign}{}s", gofmt::general(v, Some(4))),
    }
}

/// Seconds to milliseconds, if the instant is one that Go's nanoseconds reach.
fn seconds_to_ms(seconds: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "bounded on the line")]
    (seconds.abs() < 9.2e9).then(|| (seconds * 1e3).round() as i64)
}

/// `1h2m3.5s`, as Go prints a duration.
fn go_duration(ns: i64) -> String {
    let (sign, ns) = if ns < 0 { ("-", ns.unsigned_abs()) } else { ("", ns.unsigned_abs()) };
    let trimmed = |value: u64, unit: u64| {
        let text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", trimmed(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", trimmed(ns, 1_000_000)),
        _ => {
            let minutes = ns / 60_000_000_000;
            let seconds = trimmed(ns % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

/// The host of `host:port` or `[v6]:port`; anything else as it is.
fn strip_port(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else { return host };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(bare) => bare,
        None if name.contains([':', '[', ']']) || port.contains([']', '[']) => host,
        None => name,
    }
}

/// `name` of `name.domain.tld:port`, the port kept; an address as it is.
fn strip_domain(host_port: &str) -> String {
    let host = strip_port(host_port);
    let port = if host == host_port { "" } else { host_port.rsplit_once(':').map_or("", |(_, port)| port) };
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let short = if address { host } else { host.split('.').next().unwrap_or(host) };
    if port.is_empty() { short.to_owned() } else { format!("{short}:{port}") }
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

/// Percent-encoding of a query's value; a space becomes `+`.
pub(crate) fn url_query_escape(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            // Writing to a String cannot fail.
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

fn path_prefix(url: &str) -> &str {
    let behind_host = url.split_once("://").map_or(url, |(_, rest)| rest);
    behind_host.find('/').map_or("", |at| &behind_host[at..])
}
