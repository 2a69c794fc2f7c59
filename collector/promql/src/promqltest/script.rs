//! Reads a script into commands.

use std::sync::LazyLock;

use regex::Regex;

use super::series::{self, Item};
use crate::labels::Labels;
use crate::text::parse_duration;

pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Eval),
}

pub(super) struct Load {
    pub(super) step_ms: i64,
    /// Whether classic histograms also become native ones.
    pub(super) native_too: bool,
    /// Whether some series say when their counters started.
    pub(super) start_times: bool,
    pub(super) series: Vec<(Labels, Vec<Item>)>,
}

/// When to evaluate, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    At(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// A text that a message must have.
pub(super) enum Text {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Text {
    pub(super) fn fits(&self, message: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(text) => text == message,
            Text::Matching(regex) => regex.is_match(message),
        }
    }
}

/// What is expected of a kind of annotation.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) some: Vec<Text>,
    pub(super) none: bool,
}

pub(super) struct Eval {
    pub(super) when: When,
    pub(super) expr: String,
    pub(super) fail: Vec<Text>,
    pub(super) warn: Notes,
    pub(super) info: Notes,
    pub(super) ordered: bool,
    pub(super) string: Option<String>,
    pub(super) scalar: Option<f64>,
    /// The times of the samples of an expected range vector: start and step.
    pub(super) range_vector: Option<(i64, i64)>,
    pub(super) results: Vec<(Labels, Vec<Item>)>,
}

impl Eval {
    pub(super) fn fails(&self) -> bool {
        !self.fail.is_empty()
    }
}

static INSTANT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$").ok());
static RANGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$").ok()
});

/// The commands of a script and their lines, counted from one.
pub(super) fn commands(text: &str) -> Vec<(usize, Result<Command, String>)> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let first = at;
        at += 1;
        let head = lines[first];
        let word = head.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let command = match word.as_str() {
            "" => continue,
            "clear" => Ok(Command::Clear),
            word if word.starts_with("load") => load(head, body(&lines, &mut at)),
            word if word.starts_with("eval") => eval(head, &lines, &mut at),
            word => Err(format!("unknown command {word:?}")),
        };
        out.push((first + 1, command));
    }
    out
}

/// The lines up to the next blank one.
fn body<'l>(lines: &'l [&'l str], at: &mut usize) -> &'l [&'l str] {
    let first = *at;
    while lines.get(*at).is_some_and(|line| !line.is_empty()) {
        *at += 1;
    }
    &lines[first..*at]
}

fn load(head: &str, body: &[&str]) -> Result<Command, String> {
    let (word, step) = head.split_once(char::is_whitespace).ok_or("load needs a step")?;
    let step_ms = time(step.trim())?;
    let (starts, lines): (Vec<&str>, Vec<&str>) = body.iter().partition(|line| series::is_start_times(line));
    let series = lines.into_iter().map(series::line).collect::<Result<_, _>>()?;
    let start_times = !starts.is_empty();
    Ok(Command::Load(Load { step_ms, native_too: word == "load_with_nhcb", start_times, series }))
}

fn eval(head: &str, lines: &[&str], at: &mut usize) -> Result<Command, String> {
    let instant = INSTANT.as_ref().and_then(|r| r.captures(head));
    let range = RANGE.as_ref().and_then(|r| r.captures(head));
    let group = |c: &regex::Captures<'_>, i| c.get(i).map_or("", |m| m.as_str()).to_owned();
    let (kind, when, expr) = match (instant, range) {
        (Some(c), _) => {
            let at = group(&c, 2);
            let at = if at.is_empty() { 0 } else { time(&at)? };
            (group(&c, 1), When::At(at), group(&c, 3))
        }
        (None, Some(c)) => {
            let (start, end, step) = (time(&group(&c, 2))?, time(&group(&c, 3))?, time(&group(&c, 4))?);
            (group(&c, 1), When::Range { start, end, step }, group(&c, 5))
        }
        (None, None) => {
            body(lines, at);
            return Err("no valid eval".to_owned());
        }
    };
    let mut eval = Eval {
        when,
        expr,
        fail: Vec::new(),
        warn: Notes::default(),
        info: Notes::default(),
        ordered: kind == "ordered",
        string: None,
        scalar: None,
        range_vector: None,
        results: Vec::new(),
    };
    match kind.as_str() {
        "fail" => eval.fail.push(Text::Any),
        "warn" => eval.warn.some.push(Text::Any),
        "info" => eval.info.some.push(Text::Any),
        _ => {}
    }
    let mut problem = Ok(());
    while let Some(line) = lines.get(*at).filter(|line| !line.is_empty()) {
        *at += 1;
        if let Some((value, "")) = series::number(line) {
            eval.scalar = Some(value);
            break;
        }
        problem = problem.and(eval.line(line));
    }
    problem.map(|()| Command::Eval(eval))
}

impl Eval {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(text) = line.strip_prefix("expected_fail_message ") {
            self.fail = vec![Text::Exactly(text.trim().to_owned())];
            return Ok(());
        }
        if let Some(pattern) = line.strip_prefix("expected_fail_regexp ") {
            self.fail = vec![Text::Matching(Regex::new(pattern.trim()).map_err(|e| e.to_string())?)];
            return Ok(());
        }
        if let Some(text) = line.strip_prefix("expect string") {
            // In quotes or without.
            let text = text.strip_prefix(' ').unwrap_or(text);
            self.string = Some(match crate::parse(text) {
                Ok(crate::Expr::String(literal)) => literal.value,
                _ => text.to_owned(),
            });
            return Ok(());
        }
        match line.strip_prefix("expect ") {
            Some(expectation) => self.expectation(expectation.trim()),
            None => {
                self.results.push(series::line(line)?);
                Ok(())
            }
        }
    }

    fn expectation(&mut self, text: &str) -> Result<(), String> {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "ordered" => self.ordered = true,
            "fail" => self.fail.push(message(rest)?),
            "warn" => self.warn.some.push(message(rest)?),
            "no_warn" => self.warn.none = true,
            "info" => self.info.some.push(message(rest)?),
            "no_info" => self.info.none = true,
            "range" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let ["vector", "from", start, "to", _, "step", step] = words.as_slice() else {
                    return Err(format!("no range vector: {rest}"));
                };
                self.range_vector = Some((time(start)?, time(step)?));
            }
            _ => return Err(format!("unknown expectation {text:?}")),
        }
        Ok(())
    }
}

fn message(text: &str) -> Result<Text, String> {
    if let Some(exact) = text.strip_prefix("msg:") {
        return Ok(Text::Exactly(exact.trim().to_owned()));
    }
    match text.strip_prefix("regex:") {
        Some(pattern) => Regex::new(pattern.trim()).map(Text::Matching).map_err(|e| e.to_string()),
        None if text.is_empty() => Ok(Text::Any),
        None => Err(format!("unknown expectation {text:?}")),
    }
}

/// A time or step: a duration, or seconds.
fn time(text: &str) -> Result<i64, String> {
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    parse_duration(unsigned)
        .or_else(|| unsigned.parse::<f64>().ok().map(|seconds| (seconds * 1000.0).round() as i64))
        .map(|ms| sign * ms)
        .ok_or_else(|| format!("no time: {text}"))
}
