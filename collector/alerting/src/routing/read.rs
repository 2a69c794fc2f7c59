//! The reader of `alertmanager.yml`: a YAML tree in, the routing and every mistake out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::inhibit::InhibitRule;
use super::interval::{TimeInterval, Written, WrittenTimes};
use super::{
    GROUP_INTERVAL_MS, GROUP_WAIT_MS, GroupBy, REPEAT_INTERVAL_MS, RESOLVE_TIMEOUT_MS, Route, Routing, read_receivers,
};
use crate::limits;
use crate::matchers::{MatchOp, Matcher, parse_matchers, to_text};
use crate::receivers::Secret;
use crate::rules::{RuleError, RuleErrors};
use crate::template::Template;
use crate::time::parse_duration_ms;
use crate::yaml::{self, Node, Value};

pub(super) fn file(name: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Routing, RuleErrors> {
    let mut reader = Reader { file: name, errors: Vec::new(), remarks: Vec::new(), variable };
    let routing = match yaml::parse(text) {
        Ok(root) => reader.root(&root),
        Err((line, message)) => {
            reader.error(line, message);
            None
        }
    };
    match routing {
        Some(routing) if reader.errors.is_empty() => {
            reader.remarks.sort_by_key(|remark| remark.line);
            reader.remarks.truncate(limits::RULE_ERRORS_MAX);
            Ok(Routing { remarks: reader.remarks, ..routing })
        }
        _ => {
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

pub(super) struct Reader<'a> {
    file: &'a str,
    errors: Vec<RuleError>,
    remarks: Vec<RuleError>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A map's fields, each once.
pub(super) struct Fields<'n> {
    pub(super) line: usize,
    pairs: Vec<(&'n str, usize, &'n Node)>,
}

impl<'n> Fields<'n> {
    pub(super) fn find(&self, name: &str) -> Option<(usize, &'n Node)> {
        self.pairs.iter().find(|(key, ..)| *key == name).map(|(_, line, node)| (*line, *node))
    }
}

/// What a route hands down to its children.
#[derive(Clone)]
struct Inherited {
    receiver: Arc<str>,
    group_by: GroupBy,
    group_wait_ms: i64,
    group_interval_ms: i64,
    repeat_interval_ms: i64,
    key: String,
}

impl<'a> Reader<'a> {
    pub(super) fn error(&mut self, line: usize, message: impl Into<String>) {
        self.errors.push(RuleError { file: self.file.to_owned(), line, message: message.into() });
    }

    /// Notes what is read and not done.
    pub(super) fn remark(&mut self, line: usize, message: impl Into<String>) {
        self.remarks.push(RuleError { file: self.file.to_owned(), line, message: message.into() });
    }

    /// Notes each of the keys that is there: it is known, and does nothing here.
    pub(super) fn without_effect(&mut self, fields: &Fields<'_>, keys: &[&str]) {
        for (key, line, _) in fields.pairs.iter().filter(|(key, ..)| keys.contains(key)) {
            self.remark(*line, format!("{key} has no effect here"));
        }
    }

    fn root(&mut self, root: &Node) -> Option<Routing> {
        let known = [
            "global",
            "templates",
            "route",
            "inhibit_rules",
            "receivers",
            "mute_time_intervals",
            "time_intervals",
            "tracing",
        ];
        let fields = self.fields(root, "alertmanager.yml", Some(&known))?;
        let receivers = read_receivers::all(self, &fields);
        let mut intervals = BTreeMap::new();
        for list in ["mute_time_intervals", "time_intervals"] {
            for node in self.list(&fields, list) {
                self.named_interval(node, &mut intervals);
            }
        }
        self.without_effect(&fields, &["tracing"]);
        let mut routing = Routing {
            resolve_timeout_ms: self.resolve_timeout(&fields).unwrap_or(RESOLVE_TIMEOUT_MS),
            remarks: Vec::new(),
            routes: Vec::new(),
            receivers,
            inhibit_rules: Vec::new(),
            intervals,
            template_files: self.texts(&fields, "templates"),
        };
        for node in self.list(&fields, "inhibit_rules") {
            let rule = self.inhibit_rule(node);
            routing.inhibit_rules.extend(rule);
        }
        match fields.find("route") {
            Some((_, node)) => self.route(node, None, 0, &mut routing)?,
            None => {
                self.error(
                    fields.line,
                    "there is no route: it says who hears of what, at least route: {receiver: NAME}",
                );
                return None;
            }
        };
        Some(routing)
    }

    fn resolve_timeout(&mut self, root: &Fields<'_>) -> Option<i64> {
        let (_, node) = root.find("global")?;
        let Value::Map(_) = &node.value else { return None };
        let global = self.fields(node, "global", None)?;
        self.duration(&global, "resolve_timeout", 1)
    }

    fn route(&mut self, node: &Node, parent: Option<&Inherited>, depth: usize, routing: &mut Routing) -> Option<usize> {
        let known = [
            "receiver",
            "group_by",
            "match",
            "match_re",
            "matchers",
            "group_wait",
            "group_interval",
            "repeat_interval",
            "mute_time_intervals",
            "active_time_intervals",
            "continue",
            "routes",
        ];
        let fields = self.fields(node, "a route", Some(&known))?;
        if routing.routes.len() >= limits::ROUTES_MAX {
            self.error(fields.line, format!("more than {} routes", limits::ROUTES_MAX));
            return None;
        }
        let matchers = self.matchers(&fields, "match", "match_re", "matchers");
        if depth == 0 && !matchers.is_empty() {
            self.error(fields.line, "the first route takes everything: it has no matchers");
        }
        let receiver: Option<Arc<str>> = self.text(&fields, "receiver").map(|(line, name)| {
            if routing.receiver(&name).is_none() {
                self.error(line, format!("there is no receiver {name:?}"));
            }
            name.into()
        });
        if depth == 0 && receiver.is_none() {
            self.error(fields.line, "the first route needs a receiver");
        }
        let key = match parent {
            Some(parent) => format!("{}/{}", parent.key, to_text(&matchers)),
            None => "{}".to_owned(),
        };
        let own = |ms: Option<i64>, inherited: Option<i64>, default| ms.or(inherited).unwrap_or(default);
        let group_wait = self.duration(&fields, "group_wait", 0);
        let group_interval = self.duration(&fields, "group_interval", 1);
        let repeat_interval = self.duration(&fields, "repeat_interval", 1);
        let inherited = Inherited {
            receiver: receiver.or_else(|| parent.map(|p| p.receiver.clone())).unwrap_or_else(|| "".into()),
            group_by: self
                .group_by(&fields)
                .or_else(|| parent.map(|p| p.group_by.clone()))
                .unwrap_or(GroupBy::Labels(Vec::new())),
            group_wait_ms: own(group_wait, parent.map(|p| p.group_wait_ms), GROUP_WAIT_MS),
            group_interval_ms: own(group_interval, parent.map(|p| p.group_interval_ms), GROUP_INTERVAL_MS),
            repeat_interval_ms: own(repeat_interval, parent.map(|p| p.repeat_interval_ms), REPEAT_INTERVAL_MS),
            key,
        };
        let mute = self.interval_names(&fields, "mute_time_intervals", depth, routing);
        let active = self.interval_names(&fields, "active_time_intervals", depth, routing);
        let at = routing.routes.len();
        routing.routes.push(Route {
            key: inherited.key.clone(),
            receiver: inherited.receiver.clone(),
            matchers,
            group_by: inherited.group_by.clone(),
            group_wait_ms: inherited.group_wait_ms,
            group_interval_ms: inherited.group_interval_ms,
            repeat_interval_ms: inherited.repeat_interval_ms,
            mute,
            active,
            continues: self.flag(&fields, "continue").unwrap_or(false),
            children: Vec::new(),
        });
        for child in self.list(&fields, "routes") {
            if let Some(child) = self.route(child, Some(&inherited), depth + 1, routing) {
                routing.routes[at].children.push(child);
            }
        }
        Some(at)
    }

    fn group_by(&mut self, fields: &Fields<'_>) -> Option<GroupBy> {
        let (line, _) = fields.find("group_by")?;
        let mut names = self.texts(fields, "group_by");
        let all = names.iter().any(|name| name == "...");
        let mut seen = HashSet::new();
        if names.iter().any(|name| !seen.insert(name.clone())) || (all && names.len() > 1) {
            self.error(line, "group_by: a label stands twice, or beside \"...\" that means all of them");
        }
        names.sort();
        Some(if all { GroupBy::All } else { GroupBy::Labels(names) })
    }

    fn interval_names(&mut self, fields: &Fields<'_>, key: &str, depth: usize, routing: &Routing) -> Vec<String> {
        let names = self.texts(fields, key);
        let line = fields.find(key).map_or(fields.line, |(line, _)| line);
        if depth == 0 && !names.is_empty() {
            self.error(line, format!("{key}: the first route is never mute; give it to a route below"));
        }
        for unknown in names.iter().filter(|name| !routing.intervals.contains_key(*name)) {
            self.error(line, format!("{key}: there is no time interval {unknown:?}"));
        }
        names
    }

    fn named_interval(&mut self, node: &Node, into: &mut BTreeMap<String, Vec<TimeInterval>>) {
        let Some(fields) = self.fields(node, "a time interval", Some(&["name", "time_intervals"])) else { return };
        let name = self.text(&fields, "name").map(|(_, name)| name).unwrap_or_default();
        if name.is_empty() || into.contains_key(&name) {
            self.error(fields.line, format!("time interval {name:?}: a name of its own is needed"));
        }
        let intervals = self.list(&fields, "time_intervals");
        let intervals = intervals.into_iter().filter_map(|node| self.interval(node)).collect();
        into.insert(name, intervals);
    }

    fn interval(&mut self, node: &Node) -> Option<TimeInterval> {
        let known = ["times", "weekdays", "days_of_month", "months", "years", "location"];
        let fields = self.fields(node, "a time interval", Some(&known))?;
        let mut times = Vec::new();
        for node in self.list(&fields, "times") {
            let range = self.fields(node, "times", Some(&["start_time", "end_time"]))?;
            let mut time = |key| self.text(&range, key).map(|(_, text)| text).unwrap_or_default();
            times.push(WrittenTimes { start_time: time("start_time"), end_time: time("end_time") });
        }
        let mut list = |key| self.texts(&fields, key);
        let written = Written {
            times,
            weekdays: list("weekdays"),
            days_of_month: list("days_of_month"),
            months: list("months"),
            years: list("years"),
            location: self.text(&fields, "location").map(|(_, text)| text),
        };
        TimeInterval::try_from(written).map_err(|message| self.error(fields.line, message)).ok()
    }

    fn inhibit_rule(&mut self, node: &Node) -> Option<InhibitRule> {
        let known = [
            "name",
            "source_match",
            "source_match_re",
            "source_matchers",
            "target_match",
            "target_match_re",
            "target_matchers",
            "equal",
        ];
        let fields = self.fields(node, "an inhibit rule", Some(&known))?;
        Some(InhibitRule {
            source: self.matchers(&fields, "source_match", "source_match_re", "source_matchers"),
            target: self.matchers(&fields, "target_match", "target_match_re", "target_matchers"),
            equal: self.texts(&fields, "equal"),
        })
    }

    /// Matchers in the old two maps and in the new list, sorted as Alertmanager sorts them.
    fn matchers(&mut self, fields: &Fields<'_>, equal: &str, regex: &str, list: &str) -> Vec<Matcher> {
        let mut matchers = Vec::new();
        for (key, op) in [(equal, MatchOp::Equal), (regex, MatchOp::Regex)] {
            for (name, line, value) in self.pairs(fields, key) {
                match Matcher::new(name, op, value) {
                    Ok(matcher) => matchers.push(matcher),
                    Err(message) => self.error(line, format!("{key}: {message}")),
                }
            }
        }
        if let Some((line, _)) = fields.find(list) {
            for text in self.texts(fields, list) {
                match parse_matchers(&text) {
                    Ok(read) => matchers.extend(read),
                    Err(message) => self.error(line, format!("{list}: {message}")),
                }
            }
        }
        matchers.sort_by(|a, b| (a.name(), a.value(), a.op()).cmp(&(b.name(), b.value(), b.op())));
        matchers
    }

    /// The pairs of a map. `known`: the keys that it may have.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, what: &str, known: Option<&[&str]>) -> Option<Fields<'n>> {
        let Value::Map(pairs) = &node.value else {
            self.error(node.line, format!("{what} is a map, not {}", node.value.kind()));
            return None;
        };
        let mut fields = Fields { line: node.line, pairs: Vec::new() };
        for (key, line, node) in pairs {
            if fields.find(key).is_some() {
                self.error(*line, format!("{key} stands twice"));
            } else if let Some(known) = known.filter(|known| !known.contains(&&**key)) {
                self.error(*line, format!("{what} has no {key}; it has {}", known.join(", ")));
            } else {
                fields.pairs.push((key, *line, node));
            }
        }
        Some(fields)
    }

    /// A text that is there.
    pub(super) fn text(&mut self, fields: &Fields<'_>, key: &str) -> Option<(usize, String)> {
        let (line, node) = fields.find(key)?;
        match &node.value {
            Value::Text(text) => Some((line, text.clone())),
            Value::Null => None,
            other => {
                self.error(line, format!("{key} is a text, not {}", other.kind()));
                None
            }
        }
    }

    /// A list that is there, or nothing.
    pub(super) fn list<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Vec<&'n Node> {
        match fields.find(key) {
            Some((_, Node { value: Value::List(items), .. })) => items.iter().collect(),
            None | Some((_, Node { value: Value::Null, .. })) => Vec::new(),
            Some((line, node)) => {
                self.error(line, format!("{key} is a list, not {}", node.value.kind()));
                Vec::new()
            }
        }
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        if let Some((_, Node { value: Value::Text(text), .. })) = fields.find(key) {
            return vec![text.clone()];
        }
        let mut texts = Vec::new();
        for node in self.list(fields, key) {
            match &node.value {
                Value::Text(text) => texts.push(text.clone()),
                other => self.error(node.line, format!("{key} is a list of texts, not of {}", other.kind())),
            }
        }
        texts
    }

    pub(super) fn pairs(&mut self, fields: &Fields<'_>, key: &str) -> Vec<(String, usize, String)> {
        let Some((_, node)) = fields.find(key).filter(|(_, node)| node.value != Value::Null) else { return Vec::new() };
        let Some(map) = self.fields(node, key, None) else { return Vec::new() };
        let mut pairs = Vec::new();
        for (name, line, node) in map.pairs {
            match &node.value {
                Value::Text(text) => pairs.push((name.to_owned(), line, text.clone())),
                other => self.error(line, format!("{name} is a text, not {}", other.kind())),
            }
        }
        pairs
    }

    pub(super) fn duration(&mut self, fields: &Fields<'_>, key: &str, least_ms: i64) -> Option<i64> {
        let (line, text) = self.text(fields, key)?;
        match parse_duration_ms(&text) {
            Ok(ms) if ms >= least_ms => Some(ms),
            Ok(_) => {
                self.error(line, format!("{key} must be more than nothing"));
                None
            }
            Err(message) => {
                self.error(line, format!("{key}: {message}"));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let (line, text) = self.text(fields, key)?;
        match &*text {
            "true" | "True" | "TRUE" | "yes" | "on" => Some(true),
            "false" | "False" | "FALSE" | "no" | "off" => Some(false),
            other => {
                self.error(line, format!("{key} is true or false, not {other:?}"));
                None
            }
        }
    }

    pub(super) fn number(&mut self, fields: &Fields<'_>, key: &str) -> Option<i64> {
        let (line, text) = self.text(fields, key)?;
        let number = text.parse();
        number.map_err(|_| self.error(line, format!("{key} is a whole number, not {text:?}"))).ok()
    }

    /// A template, checked.
    pub(super) fn template(&mut self, fields: &Fields<'_>, key: &str) -> Option<Template> {
        let (line, text) = self.text(fields, key)?;
        Template::parse_message(&text).map_err(|error| self.error(line, format!("{key}: {error}"))).ok()
    }

    /// A secret as `KEY`, in a file named by `KEY_file`, or in a variable named by `KEY_env`.
    pub(super) fn secret(&mut self, fields: &Fields<'_>, key: &str) -> Option<Secret> {
        let plain = self.text(fields, key).map(|(_, text)| Secret::Text(text));
        let file = self.text(fields, &format!("{key}_file")).map(|(_, path)| Secret::File(path.into()));
        let env = self.text(fields, &format!("{key}_env")).and_then(|(line, name)| {
            let value = (self.variable)(&name).map(Secret::Text);
            if value.is_none() {
                self.error(line, format!("{key}_env: the environment has no {name}"));
            }
            value
        });
        let mut given = [plain, file, env].into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            self.error(fields.line, format!("give one of {key}, {key}_file and {key}_env"));
        }
        first
    }

    /// A secret that must be an HTTP address.
    pub(super) fn url(&mut self, fields: &Fields<'_>, key: &str) -> Option<Secret> {
        let secret = self.secret(fields, key)?;
        if let Secret::Text(text) = &secret
            && !(text.starts_with("http://") || text.starts_with("https://"))
        {
            let line = fields.find(key).map_or(fields.line, |(line, _)| line);
            // The text may be a secret: it is not repeated.
            self.error(line, format!("{key} is not an address that begins with http:// or https://"));
        }
        Some(secret)
    }
}
