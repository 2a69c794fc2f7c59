//! The notation of series in scripts: `metric{label="value"} 1 2 _ 3+1x5 stale`.

use crate::ast::{Expr, VectorSelector};
use crate::labels::Labels;
use crate::matcher::MatchOp;

/// One sample of a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item {
    /// None at this time.
    Gap,
    /// The series ends.
    Stale,
    /// A number.
    Value(f64),
    /// A native histogram, of which only its being there is kept.
    Native,
}

/// More items than this make no sensible script.
const MAX_ITEMS: usize = 100_000;

/// Whether a line gives the times at which counters of a series started: a matter of a feature flag.
pub(super) fn is_start_times(text: &str) -> bool {
    let name = text.split(char::is_whitespace).next().unwrap_or_default();
    text[labels_end(text)..].starts_with("@st") || name.ends_with("@st")
}

/// Reads a series and its samples.
///
/// # Errors
/// What cannot be read.
pub fn line(text: &str) -> Result<(Labels, Vec<Item>), String> {
    let end = labels_end(text);
    Ok((labels(text[..end].trim())?, items(text[end..].trim())?))
}

/// Where the labels end: at the closing brace, or without braces at the first blank.
fn labels_end(text: &str) -> usize {
    let (mut quote, mut escaped, mut open) = (None, false, false);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if open => quote = Some(c),
            (None, '{') => open = true,
            (None, '}') => return i + 1,
            (None, c) if c.is_whitespace() && !open => {
                // A blank may stand between name and brace, but not before a histogram.
                let rest = text[i..].trim_start();
                if !rest.starts_with('{') || rest.starts_with("{{") {
                    return i;
                }
            }
            _ => {}
        }
    }
    text.len()
}

fn labels(text: &str) -> Result<Labels, String> {
    if text.starts_with('{') && text[1..].trim_start() == "}" {
        return Ok(Labels::default());
    }
    match crate::parse(text) {
        Ok(Expr::Vector(VectorSelector { matchers, offset: None, at: None, .. }))
            if matchers.iter().all(|m| m.op == MatchOp::Eq) =>
        {
            Ok(matchers.into_iter().map(|m| (m.name, m.value)).collect())
        }
        Ok(_) => Err(format!("no series: {text}")),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

fn items(text: &str) -> Result<Vec<Item>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = token_end(rest);
        item(&rest[..end], &mut out)?;
        rest = rest[end..].trim_start();
        if out.len() > MAX_ITEMS {
            return Err("too many samples".to_owned());
        }
    }
    Ok(out)
}

/// Where a token ends: at a blank that is not within a histogram.
fn token_end(text: &str) -> usize {
    let mut open = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            c if c.is_whitespace() && open <= 0 => return i,
            _ => {}
        }
    }
    text.len()
}

fn item(token: &str, out: &mut Vec<Item>) -> Result<(), String> {
    let wrong = || format!("no sample: {token}");
    if token.starts_with("{{") {
        let after = token.rsplit("}}").next().unwrap_or_default();
        let repeats = after.strip_prefix('x').map_or(Ok(0), str::parse::<usize>).map_err(|_| wrong())?;
        out.extend(std::iter::repeat_n(Item::Native, repeats.min(MAX_ITEMS) + 1));
        return Ok(());
    }
    if token == "stale" {
        out.push(Item::Stale);
        return Ok(());
    }
    if let Some(rest) = token.strip_prefix('_') {
        let repeats = match rest.strip_prefix('x') {
            Some(count) => count.parse().map_err(|_| wrong())?,
            None => 1usize,
        };
        out.extend(std::iter::repeat_n(Item::Gap, repeats.min(MAX_ITEMS)));
        return Ok(());
    }
    let (first, rest) = number(token).ok_or_else(wrong)?;
    let (change, rest) = match rest.as_bytes().first() {
        Some(b'+' | b'-') => number(rest).ok_or_else(wrong)?,
        _ => (0.0, rest),
    };
    let repeats = match rest.strip_prefix('x') {
        Some(count) => count.parse::<usize>().map_err(|_| wrong())?,
        None if rest.is_empty() => 0,
        None => return Err(wrong()),
    };
    // Added up rather than multiplied, as Prometheus does.
    let mut value = first;
    for i in 0..=repeats.min(MAX_ITEMS) {
        if i > 0 {
            value += change;
        }
        out.push(Item::Value(value));
    }
    Ok(())
}

/// Reads a number with its sign from the start of a text; returns the rest.
pub(super) fn number(text: &str) -> Option<(f64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    for (word, value) in [("inf", f64::INFINITY), ("nan", f64::NAN)] {
        if unsigned.get(..3).is_some_and(|w| w.eq_ignore_ascii_case(word)) {
            return Some((sign * value, &unsigned[3..]));
        }
    }
    let bytes = unsigned.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let from = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if from < bytes.len() && digits(from) > from {
            end = digits(from);
        }
    }
    Some((sign * unsigned[..end].parse::<f64>().ok()?, &unsigned[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_read() {
        let (labels, samples) = line(r#"m{a="x y}", b="2"} 1+2x2 _x2 stale -Inf 3x1 1e-2"#).unwrap();
        assert_eq!(labels.to_string(), r#"{__name__="m", a="x y}", b="2"}"#);
        use Item::*;
        let expected = [
            Value(1.0),
            Value(3.0),
            Value(5.0),
            Gap,
            Gap,
            Stale,
            Value(f64::NEG_INFINITY),
            Value(3.0),
            Value(3.0),
            Value(0.01),
        ];
        assert_eq!(samples, expected);
        assert_eq!(line("m {{schema:0 sum:1}}x2 4").unwrap().1, [Native, Native, Native, Value(4.0)]);
        assert_eq!(line("{} 4").unwrap().0, Labels::default());
        assert!(line("m 1y2").is_err());
    }
}
