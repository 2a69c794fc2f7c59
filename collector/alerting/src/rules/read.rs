//! The reader of rule files: a YAML tree in, groups and every mistake out.

use std::collections::HashSet;
use std::sync::Arc;

use super::{AlertSpec, EXTENSION, Group, NoData, Rule, RuleError, RuleErrors, RuleFile, RuleKind};
use crate::labels::{ALERT_NAME, METRIC_NAME};
use crate::limits;
use crate::template::Template;
use crate::time::parse_duration_ms;
use crate::yaml::{self, Node, Value};

type Prepare<'a, P> = &'a mut dyn FnMut(&str) -> Result<P, String>;
/// Label pairs, each with its line.
type Pairs = Vec<(String, usize, String)>;

pub(super) fn file<P>(name: &str, text: &str, prepare: Prepare<'_, P>) -> Result<RuleFile<P>, RuleErrors> {
    let mut reader = Reader { file: name, errors: Vec::new(), prepare };
    let groups = match yaml::parse(text) {
        Ok(root) => reader.root(&root),
        Err((line, message)) => {
            reader.error(line, message);
            Vec::new()
        }
    };
    match reader.errors.is_empty() {
        true => Ok(RuleFile { name: name.into(), groups }),
        false => {
            reader.errors.sort_by_key(|error| error.line);
            let more = reader.errors.len().saturating_sub(limits::RULE_ERRORS_MAX);
            if more > 0 {
                reader.errors.truncate(limits::RULE_ERRORS_MAX);
                reader.error(1, format!("and {more} more mistakes"));
            }
            Err(RuleErrors(reader.errors))
        }
    }
}

struct Reader<'a, P> {
    file: &'a str,
    errors: Vec<RuleError>,
    prepare: Prepare<'a, P>,
}

/// A map's fields, each once.
struct Fields<'a> {
    line: usize,
    pairs: Vec<(&'a str, usize, &'a Node)>,
}

impl<'a> Fields<'a> {
    fn find(&self, name: &str) -> Option<(usize, &'a Node)> {
        self.pairs.iter().find(|(key, ..)| *key == name).map(|(_, line, node)| (*line, *node))
    }
}

impl<P> Reader<'_, P> {
    fn error(&mut self, line: usize, message: impl Into<String>) {
        self.errors.push(RuleError { file: self.file.to_owned(), line, message: message.into() });
    }

    fn root(&mut self, root: &Node) -> Vec<Group<P>> {
        if root.value == Value::Null {
            return Vec::new();
        }
        let Some(fields) = self.fields(root, "a rule file", &["groups"]) else { return Vec::new() };
        let mut names = HashSet::new();
        let mut groups = Vec::new();
        for node in self.list(&fields, "groups") {
            let Some(group) = self.group(node) else { continue };
            if names.insert(group.name.clone()) {
                groups.push(group);
            } else {
                self.error(node.line, format!("group {:?} stands twice in this file", group.name));
            }
        }
        groups
    }

    fn group(&mut self, node: &Node) -> Option<Group<P>> {
        let known = ["name", "interval", "limit", "query_offset", "labels", "rules"];
        let fields = self.fields(node, "a group", &known)?;
        let name = self.text(&fields, "name").map(|(_, name)| name).unwrap_or_default();
        if name.is_empty() {
            self.error(fields.line, "a group needs a name");
        }
        let interval_ms = self.duration(&fields, "interval").filter(|ms| *ms > 0);
        let query_offset_ms = self.duration(&fields, "query_offset").unwrap_or(0);
        let limit = match self.text(&fields, "limit") {
            Some((line, text)) => text.parse().unwrap_or_else(|_| {
                self.error(line, format!("limit: {text:?} is not a whole number from 0"));
                0
            }),
            None => 0,
        };
        let labels = self.pairs(&fields, "labels");
        self.check_labels(&labels);
        let rules = self.list(&fields, "rules").into_iter().filter_map(|node| self.rule(node, &labels)).collect();
        Some(Group { name: name.into(), interval_ms, limit, query_offset_ms, rules })
    }

    fn rule(&mut self, node: &Node, group_labels: &Pairs) -> Option<Rule<P>> {
        let known = ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
        let fields = self.fields(node, "a rule", &known)?;
        let record = self.text(&fields, "record").filter(|(_, name)| !name.is_empty());
        let alert = self.text(&fields, "alert").filter(|(_, name)| !name.is_empty());
        let expr = self.text(&fields, "expr").filter(|(_, text)| !text.trim().is_empty());
        let own = self.pairs(&fields, "labels");
        self.check_labels(&own);
        let overridden = |name: &str| own.iter().any(|(key, ..)| key == name);
        let mut labels: Pairs = group_labels.iter().filter(|(key, ..)| !overridden(key)).cloned().collect();
        labels.extend(own.iter().cloned());
        let mut clear = None;
        let parts = match (record, alert) {
            (Some(_), Some((line, _))) => {
                self.error(line, "a rule has one of record and alert, not both");
                None
            }
            (None, None) => {
                self.error(fields.line, "a rule needs alert (a name) or record (a metric's name)");
                None
            }
            (Some((line, name)), None) => {
                let kind = self.record(&fields, line, &name, labels);
                Some((name, kind))
            }
            (None, Some((_, name))) => {
                let (spec, good_again) = self.alert(&fields, &labels);
                clear = good_again;
                Some((name, RuleKind::Alert(spec)))
            }
        };
        let prepared = match &expr {
            Some((line, text)) => {
                (self.prepare)(text).map_err(|message| self.error(*line, format!("expr: {message}"))).ok()
            }
            None => {
                self.error(fields.line, "a rule needs expr, the expression to evaluate");
                None
            }
        };
        let ((name, kind), (_, expr), prepared) = (parts?, expr?, prepared?);
        Some(Rule { name: name.into(), expr: expr.into(), prepared, clear, line: fields.line, kind })
    }

    fn record(&mut self, fields: &Fields<'_>, line: usize, name: &str, labels: Pairs) -> RuleKind {
        for illegal in ["for", "keep_firing_for", "annotations"] {
            if let Some((line, _)) = fields.find(illegal) {
                self.error(line, format!("{illegal} is for alerts: a record rule has none"));
            }
        }
        if !is_metric_name(name) {
            self.error(line, format!("record: {name:?} is not a metric name (letters, digits, _ and :)"));
        }
        RuleKind::Record { labels: labels.into_iter().map(|(name, _, value)| (name.into(), value.into())).collect() }
    }

    fn alert(&mut self, fields: &Fields<'_>, labels: &Pairs) -> (AlertSpec, Option<P>) {
        let for_ms = self.duration(fields, "for").unwrap_or(0);
        let keep_firing_for_ms = self.duration(fields, "keep_firing_for").unwrap_or(0);
        let annotations = self.pairs(fields, "annotations");
        for (name, line, _) in &annotations {
            if !is_label_name(name) {
                self.error(*line, format!("annotation {name:?} is not a name (letters, digits and _)"));
            }
        }
        let (mut no_data, mut depends_on, mut clear) = (None, None, None);
        // An annotation stands over a label, which may be the whole group's.
        for (name, line, text) in labels.iter().chain(&annotations) {
            match name.strip_prefix(EXTENSION) {
                None => {}
                Some("no_data") => {
                    no_data = NoData::from_name(text);
                    if no_data.is_none() {
                        self.error(*line, format!("{name}: {text:?} is not one of keep, alert, resolve"));
                    }
                }
                Some("clear") => {
                    let prepared = (self.prepare)(text);
                    clear = prepared.map_err(|message| self.error(*line, format!("{name}: {message}"))).ok();
                }
                // A mistake in it is told with those of the other texts.
                Some("depends_on") => depends_on = Template::parse(text).ok(),
                Some(_) => {
                    let known = "pitwatch_clear, pitwatch_no_data, pitwatch_depends_on";
                    self.error(*line, format!("unknown extension {name:?}; known are {known}"));
                }
            }
        }
        let labels = self.templates("label", labels);
        let annotations = self.templates("annotation", &annotations);
        (AlertSpec { for_ms, keep_firing_for_ms, labels, annotations, no_data, depends_on }, clear)
    }

    fn templates(&mut self, what: &str, pairs: &Pairs) -> Vec<(Arc<str>, Template)> {
        let mut templates = Vec::with_capacity(pairs.len());
        for (name, line, text) in pairs {
            match Template::parse(text) {
                Ok(template) => templates.push((name.as_str().into(), template)),
                Err(error) => self.error(*line, format!("{what} {name}: {error}")),
            }
        }
        templates
    }

    fn check_labels(&mut self, labels: &Pairs) {
        for (name, line, _) in labels {
            if !is_label_name(name) || name == METRIC_NAME {
                self.error(*line, format!("label {name:?} is not a label name that a rule may set"));
            } else if name == ALERT_NAME {
                self.error(*line, "label alertname is the rule's name: it cannot be set");
            }
        }
    }

    /// The fields of a map; unknown ones and repetitions are mistakes.
    fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Map(pairs) = &node.value else {
            self.error(node.line, format!("{what} is a map with {}, not {}", known.join(", "), node.value.kind()));
            return None;
        };
        let mut fields = Fields { line: node.line, pairs: Vec::with_capacity(pairs.len()) };
        for (key, line, value) in pairs {
            if !known.contains(&&**key) {
                self.error(*line, format!("unknown field {key:?} in {what}; known are {}", known.join(", ")));
            } else if fields.find(key).is_some() {
                self.error(*line, format!("{key} stands twice in {what}"));
            } else {
                fields.pairs.push((key, *line, value));
            }
        }
        Some(fields)
    }

    fn list<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Vec<&'n Node> {
        match fields.find(name) {
            Some((_, Node { value: Value::List(items), .. })) => items.iter().collect(),
            None | Some((_, Node { value: Value::Null, .. })) => Vec::new(),
            Some((line, other)) => {
                self.error(line, format!("{name} is a list, not {}", other.value.kind()));
                Vec::new()
            }
        }
    }

    fn text(&mut self, fields: &Fields<'_>, name: &str) -> Option<(usize, String)> {
        match fields.find(name)? {
            (_, Node { line, value: Value::Text(text) }) => Some((*line, text.clone())),
            (_, Node { value: Value::Null, .. }) => None,
            (line, other) => {
                self.error(line, format!("{name} is a text, not {}", other.value.kind()));
                None
            }
        }
    }

    fn duration(&mut self, fields: &Fields<'_>, name: &str) -> Option<i64> {
        let (line, text) = self.text(fields, name)?;
        parse_duration_ms(&text).map_err(|message| self.error(line, format!("{name}: {message}"))).ok()
    }

    /// A map of texts.
    fn pairs(&mut self, fields: &Fields<'_>, name: &str) -> Pairs {
        let pairs = match fields.find(name) {
            Some((_, Node { value: Value::Map(pairs), .. })) => pairs,
            None | Some((_, Node { value: Value::Null, .. })) => return Vec::new(),
            Some((line, other)) => {
                self.error(line, format!("{name} is a map of names and texts, not {}", other.value.kind()));
                return Vec::new();
            }
        };
        let mut out: Pairs = Vec::with_capacity(pairs.len());
        for (key, line, value) in pairs {
            let text = match &value.value {
                Value::Text(text) => text.clone(),
                Value::Null => String::new(),
                other => {
                    self.error(*line, format!("{name}: {key} is a text, not {}", other.kind()));
                    continue;
                }
            };
            if out.iter().any(|(known, ..)| known == key) {
                self.error(*line, format!("{name}: {key} stands twice"));
            } else {
                out.push((key.clone(), *line, text));
            }
        }
        out
    }
}

fn is_label_name(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

fn is_metric_name(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c == ':' || c.is_ascii_alphabetic())
        && name.bytes().all(|b| b == b'_' || b == b':' || b.is_ascii_alphanumeric())
}
