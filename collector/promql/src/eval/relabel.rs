//! Functions that change labels, and what follows when two series come to have the same.

use rustc_hash::FxHashMap;

use super::*;
use crate::ast::{Call, StringLiteral};
use crate::labels::METRIC_NAME;
use crate::matcher::anchored;
use crate::text::quote_bytes;

/// Joins series of the same labels into one; refuses those that have a value at the same step.
pub(crate) fn merge_same_labels(rows: Vec<Row>) -> Result<Vec<Row>> {
    let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
    index.reserve(rows.len());
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match index.get(&row.labels) {
            None => {
                index.insert(row.labels.clone(), out.len());
                out.push(row);
            }
            Some(at) => {
                let first = &mut out[*at];
                first.drop_name |= row.drop_name;
                for (point, value) in first.points.iter_mut().zip(row.points.iter()).filter(|(_, v)| is_present(**v)) {
                    if is_present(*point) {
                        return Err(Error::execution("vector cannot contain metrics with the same labelset"));
                    }
                    *point = *value;
                }
            }
        }
    }
    Ok(out)
}

impl<'a, S: Source> Evaluator<'a, S> {
    pub(super) fn label_replace(&mut self, call: &Call, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let [_, target, replacement, source, pattern] = call.args.as_slice() else { return Ok(()) };
        let target = label_name(target, "destination", "label_replace")?;
        let replacement = &call::text_of(replacement)?.value;
        let source = &call::text_of(source)?.value;
        let pattern = &call::text_of(pattern)?.value;
        let regex = anchored(pattern).map_err(|_| {
            Error::execution(format!(
                "invalid regular expression in label_replace(): {}",
                quote_bytes(pattern.as_bytes())
            ))
        })?;
        let template = braced(replacement);
        let mut text = String::new();
        self.relabel(call, target, grid, sink, |labels| {
            let captures = regex.captures(labels.get(source).unwrap_or(""))?;
            text.clear();
            captures.expand(&template, &mut text);
            Some(labels.with(target, &text))
        })
    }

    pub(super) fn label_join(&mut self, call: &Call, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let [_, target, separator, sources @ ..] = call.args.as_slice() else { return Ok(()) };
        let target = label_name(target, "destination", "label_join")?;
        let separator = &call::text_of(separator)?.value;
        let sources = sources.iter().map(|s| label_name(s, "source", "label_join")).collect::<Result<Vec<_>>>()?;
        self.relabel(call, target, grid, sink, |labels| {
            let values: Vec<&str> = sources.iter().map(|s| labels.get(s).unwrap_or("")).collect();
            Some(labels.with(target, &values.join(separator)))
        })
    }

    /// Gives each series of the first argument the labels that `f` returns, if it does.
    fn relabel(
        &mut self,
        call: &Call,
        target: &str,
        grid: Grid,
        sink: Sink<'_, 'a, S>,
        mut f: impl FnMut(&Labels) -> Option<Labels>,
    ) -> Result<()> {
        let mut rows = self.rows(&call.args[0], grid)?;
        for row in &mut rows {
            if let Some(labels) = f(&row.labels) {
                row.labels = labels;
                // A name that was just set stays.
                row.drop_name &= target != METRIC_NAME;
            }
        }
        merge_same_labels(rows)?.into_iter().try_for_each(|row| sink(self, row))
    }
}

/// A label name given as text: any UTF-8 but nothing.
fn label_name<'e>(expr: &'e Expr, which: &str, function: &str) -> Result<&'e str> {
    let StringLiteral { value, bytes, .. } = call::text_of(expr)?;
    let raw = bytes.as_deref().unwrap_or(value.as_bytes());
    if bytes.is_some() || value.is_empty() {
        let raw = quote_bytes(raw);
        return Err(Error::execution(format!("invalid {which} label name in {function}(): {raw}")));
    }
    Ok(value)
}

/// A replacement in Go's form in that of the `regex` crate: a reference always in braces, so that both end its name at
/// the same character, and a `$` that begins none doubled.
fn braced(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len() + 8);
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push_str("$$");
            rest = after;
            continue;
        }
        let word = |s: &str| s.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let (name, used) = match rest.strip_prefix('{') {
            Some(inner) => {
                let len = word(inner);
                if inner[len..].starts_with('}') { (&inner[..len], len + 2) } else { ("", 0) }
            }
            None => (&rest[..word(rest)], word(rest)),
        };
        if name.is_empty() {
            out.push_str("$$");
        } else {
            out.push_str("${");
            out.push_str(name);
            out.push('}');
        }
        rest = &rest[used..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::braced;

    #[test]
    fn references_end_where_go_ends_them() {
        assert_eq!(braced("a-$1_x"), "a-${1_x}");
        assert_eq!(braced("${1}x$$"), "${1}x$$");
        assert_eq!(braced("$"), "$$");
        assert_eq!(braced("${a-b}"), "$${a-b}");
    }
}
