//! `/docs/runbooks`: what each stock alert means and what to do. Links of messages lead here; made of the rules
//! themselves, so that it is true and needs nothing from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use pitwatch_alerting::RuleFile;
use pitwatch_alerting::rules::{AlertSpec, Rule, RuleKind};
use pitwatch_alerting::time::span;

use super::page::escape;
use crate::alerts::rules::STOCK;

/// Nothing from elsewhere, and no scripts.
const POLICY: &str = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// A stock alert as a person reads of it.
struct Runbook {
    name: String,
    file: &'static str,
    severity: String,
    /// Annotations, their templates as words.
    summary: String,
    impact: String,
    action: String,
    expr: String,
    clear: Option<String>,
    for_ms: i64,
}

/// All, in the order of their files.
static RUNBOOKS: LazyLock<Vec<Runbook>> = LazyLock::new(|| {
    let files = STOCK.into_iter().filter_map(|(name, text)| {
        let parsed = RuleFile::parse(name, text, |_| Ok(()));
        Some((name, parsed.ok()?))
    });
    let mut all = Vec::new();
    for (name, file) in files {
        let rules = file.groups.iter().flat_map(|group| &group.rules);
        all.extend(rules.filter_map(|rule| match &rule.kind {
            RuleKind::Alert(spec) => Some(runbook(name, rule, spec)),
            RuleKind::Record { .. } => None,
        }));
    }
    all
});

fn runbook(file: &'static str, rule: &Rule<()>, spec: &AlertSpec) -> Runbook {
    let of = |pairs: &[(std::sync::Arc<str>, pitwatch_alerting::template::Template)], name: &str| {
        pairs.iter().find(|(known, _)| &**known == name).map(|(_, template)| template.source().to_string())
    };
    let text = |name| in_words(&of(&spec.annotations, name).unwrap_or_default());
    Runbook {
        name: rule.name.to_string(),
        file: file.trim_start_matches("stock/"),
        severity: of(&spec.labels, "severity").unwrap_or_default(),
        summary: text("summary"),
        impact: text("impact"),
        action: text("action"),
        expr: one_line(&rule.expr),
        clear: of(&spec.annotations, "pitwatch_clear").map(|text| one_line(&text)),
        for_ms: spec.for_ms,
    }
}

/// A template with its labels named: `{{ $labels.device }}` is `DEVICE`.
fn in_words(template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, behind) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&match action.trim().strip_prefix("$labels.") {
            Some(label) => label.to_uppercase(),
            None => "…".to_owned(),
        });
        rest = behind;
    }
    out + rest
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What each stock alert means and what to do.
#[utoipa::path(get, path = "/docs/runbooks", tag = "Rules and alerts",
    responses((status = 200, description = "The page", content_type = "text/html", body = String)))]
pub(super) async fn page() -> Response {
    let mut body = "<meta name=\"viewport\" content=\"width=device-width\"><title>Pitwatch: runbooks</title>\
                    <h1>Stock alerts</h1><p>What each means, and what to do.</p>"
        .to_owned();
    for book in RUNBOOKS.iter() {
        let Runbook { name, file, severity, summary, impact, action, expr, clear, for_ms } = book;
        let holds = if *for_ms > 0 { format!(" for {}", span(*for_ms)) } else { String::new() };
        // Writing to a text cannot fail.
        let _ = write!(
            body,
            "<h2 id=\"{0}\">{0}</h2><p><b>{1}</b> ({2}, {3})</p><p>{4}</p><p><b>Do:</b> {5}</p>\
             <p>Fires while this holds{6}:</p><pre>{7}</pre>",
            escape(name),
            escape(summary),
            escape(severity),
            escape(file),
            escape(impact),
            escape(action),
            holds,
            escape(expr)
        );
        if let Some(clear) = clear {
            let _ = write!(body, "<p>Over only when:</p><pre>{}</pre>", escape(clear));
        }
    }
    let page = format!("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">{body}</html>\n");
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/stock-rules.md");

    fn markdown() -> String {
        let mut text = "# Stock alerts

Made from the rules; do not edit. `PITWATCH_WRITE_DOCS=1 cargo test -p pitwatch-collector runbooks` writes it anew. The
same is served by the collector under `/docs/runbooks`, where the `runbook_url` of each message leads.
"
        .to_owned();
        let mut file = "";
        for book in RUNBOOKS.iter() {
            if book.file != file {
                file = book.file;
                let _ = write!(text, "\n## {file}\n");
            }
            let holds = if book.for_ms > 0 { format!(", for {}", span(book.for_ms)) } else { String::new() };
            let Runbook { name, severity, summary, impact, action, expr, .. } = book;
            let _ = write!(text, "\n### {name}\n\n{summary} ({severity}). {impact}\n\n");
            let _ = write!(text, "Do: {action}\n\nFires{holds}: `{expr}`\n");
            if let Some(clear) = &book.clear {
                let _ = write!(text, "\nOver when: `{clear}`\n");
            }
        }
        text
    }

    #[test]
    fn the_runbooks_of_the_docs_are_those_of_the_rules() {
        assert!(RUNBOOKS.len() > 70, "{}", RUNBOOKS.len());
        let text = markdown();
        if std::env::var_os("PITWATCH_WRITE_DOCS").is_some() {
            std::fs::write(DOCS, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(DOCS).unwrap_or_default(), text, "PITWATCH_WRITE_DOCS=1 writes it anew");
    }

    #[test]
    fn templates_are_read_as_words() {
        assert_eq!(
            in_words("Disk {{ $labels.device }} of {{ $labels.instance }} is at {{ $value }}%"),
            "Disk DEVICE of INSTANCE is at …%"
        );
    }
}
