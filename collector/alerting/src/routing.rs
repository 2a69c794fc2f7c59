//! Routing: which receivers hear of an alert, with which others it is told, how often, and when not.
//!
//! - [`Routing`]: an `alertmanager.yml`, read and checked; or the tree that stands for a plain list of receivers.
//! - [`Route`]: a node of the tree.
//! - [`interval`]: times of the week and of the year.
//! - [`inhibit`]: alerts that keep others quiet.

pub mod inhibit;
pub mod interval;
mod keys;
mod read;
mod read_receivers;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::labels::LabelSet;
use crate::matchers::{self, Matcher};
use crate::receivers::Receiver;
use crate::rules::{RuleError, RuleErrors};
use inhibit::InhibitRule;
use interval::TimeInterval;

/// Alertmanager's defaults.
const GROUP_WAIT_MS: i64 = 30_000;
const GROUP_INTERVAL_MS: i64 = 5 * 60_000;
const REPEAT_INTERVAL_MS: i64 = 4 * 3_600_000;
const RESOLVE_TIMEOUT_MS: i64 = 5 * 60_000;

/// A checked configuration.
#[derive(Debug)]
pub struct Routing {
    /// Every node of the tree, a parent before its children; the first is the root.
    routes: Vec<Route>,
    /// Everybody that can be told, in the order of the file.
    pub receivers: Vec<Receiver>,
    /// Who keeps whom quiet.
    pub inhibit_rules: Vec<InhibitRule>,
    /// Named times.
    pub intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// Files of templates, as patterns of paths.
    pub template_files: Vec<String>,
    /// How long an alert holds that somebody hands in without an end.
    pub resolve_timeout_ms: i64,
    /// What the file says and what is not done here, each with its line.
    pub remarks: Vec<RuleError>,
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub struct Route {
    /// Alertmanager's name of the route: the matchers on the way from the root.
    pub key: String,
    /// Who is told.
    pub receiver: Arc<str>,
    /// Which alerts it is about.
    pub matchers: Vec<Matcher>,
    /// What alerts of a group have in common.
    pub group_by: GroupBy,
    /// How long the first message waits for more alerts.
    pub group_wait_ms: i64,
    /// The least time between two messages about a group.
    pub group_interval_ms: i64,
    /// When what has not changed is said again.
    pub repeat_interval_ms: i64,
    /// Names of times in which it is mute.
    pub mute: Vec<String>,
    /// Names of times outside of which it is mute.
    pub active: Vec<String>,
    /// Whether its later siblings are asked, too.
    pub continues: bool,
    /// Its children, by their places in the list of all routes.
    children: Vec<usize>,
}

/// What alerts of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Every label: each alert for itself.
    All,
    /// These.
    Labels(Vec<String>),
}

impl GroupBy {
    /// The labels that name the group of an alert.
    #[must_use]
    pub fn labels(&self, alert: &LabelSet) -> LabelSet {
        match self {
            Self::All => alert.clone(),
            Self::Labels(names) => LabelSet::new(names.iter().filter_map(|name| Some((&**name, alert.value(name)?)))),
        }
    }
}

impl Routing {
    /// Reads an `alertmanager.yml`. `variable` is the environment.
    ///
    /// # Errors
    /// Every mistake, each with its line.
    pub fn parse(name: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, RuleErrors> {
        read::file(name, text, variable)
    }

    /// The tree of a plain list: everybody hears everything at once, a message an alert and host.
    #[must_use]
    pub fn plain(receivers: Vec<Receiver>, repeat_interval_ms: i64) -> Self {
        let route = |receiver: Arc<str>, continues| Route {
            key: "{}".to_owned(),
            receiver,
            matchers: Vec::new(),
            group_by: GroupBy::Labels(vec!["alertname".to_owned(), "instance".to_owned()]),
            group_wait_ms: 0,
            group_interval_ms: 1_000,
            repeat_interval_ms,
            mute: Vec::new(),
            active: Vec::new(),
            continues,
            children: Vec::new(),
        };
        let mut routes = vec![route("".into(), false)];
        for receiver in &receivers {
            let at = routes.len();
            routes[0].children.push(at);
            routes.push(Route { key: "{}/{}".to_owned(), ..route(receiver.name.clone(), true) });
        }
        Self {
            routes,
            receivers,
            inhibit_rules: Vec::new(),
            intervals: BTreeMap::new(),
            template_files: Vec::new(),
            resolve_timeout_ms: RESOLVE_TIMEOUT_MS,
            remarks: Vec::new(),
        }
    }

    /// The routes that take an alert, by their places: the deepest that match, siblings behind a match only where it
    /// continues.
    #[must_use]
    pub fn matching(&self, labels: &LabelSet) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    fn descend(&self, at: usize, labels: &LabelSet, found: &mut Vec<usize>) -> bool {
        let route = &self.routes[at];
        if !matchers::all_match(&route.matchers, labels) {
            return false;
        }
        let before = found.len();
        for child in &route.children {
            if self.descend(*child, labels, found) && !self.routes[*child].continues {
                break;
            }
        }
        if found.len() == before {
            found.push(at);
        }
        true
    }

    /// The route at a place.
    ///
    /// # Panics
    /// If the place is not of this tree.
    #[must_use]
    pub fn route(&self, at: usize) -> &Route {
        &self.routes[at]
    }

    /// Every route, a parent before its children.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The receivers that hear of an alert, in the order of the routes; one that two routes name stands twice.
    #[must_use]
    pub fn receivers_of(&self, labels: &LabelSet) -> Vec<Arc<str>> {
        self.matching(labels).into_iter().map(|at| self.routes[at].receiver.clone()).collect()
    }

    /// The receiver of that name.
    #[must_use]
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| &*receiver.name == name)
    }

    /// Why a route is mute at an instant: the name of the time.
    #[must_use]
    pub fn muted_by(&self, route: &Route, now_ms: i64) -> Option<&str> {
        let holds = |name: &String| {
            self.intervals.get(name).is_some_and(|list| list.iter().any(|interval| interval.contains(now_ms)))
        };
        if let Some(name) = route.mute.iter().find(|name| holds(name)) {
            return self.intervals.get_key_value(name).map(|(name, _)| &**name);
        }
        let outside = !route.active.is_empty() && !route.active.iter().any(holds);
        outside.then_some("outside of its active times")
    }

    /// The tree for people: a line a route, children deeper.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write_route(0, 0, &mut out);
        out
    }

    /// The tree in the notation of the file, with the receivers' names and nothing of their settings.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = "route:\n".to_owned();
        self.write_yaml(0, 1, &mut out);
        out.push_str("receivers:\n");
        for receiver in &self.receivers {
            out.push_str(&format!("- name: {:?}\n", &*receiver.name));
        }
        if self.routes[0].receiver.is_empty() {
            // The plain list's root tells nobody; the notation wants a name.
            out.push_str("- name: \"\"\n");
        }
        out
    }

    fn write_yaml(&self, at: usize, depth: usize, out: &mut String) {
        let (route, indent) = (&self.routes[at], "  ".repeat(depth));
        out.push_str(&format!("{indent}receiver: {:?}\n", &*route.receiver));
        if !route.matchers.is_empty() {
            out.push_str(&format!("{indent}matchers:\n"));
            for matcher in &route.matchers {
                out.push_str(&format!("{indent}- {:?}\n", matcher.to_string()));
            }
        }
        if route.continues {
            out.push_str(&format!("{indent}continue: true\n"));
        }
        if !route.children.is_empty() {
            out.push_str(&format!("{indent}routes:\n"));
        }
        for child in &route.children {
            // The first key of an item stands behind its dash.
            let mut item = String::new();
            self.write_yaml(*child, depth + 1, &mut item);
            out.push_str(&format!("{indent}- {}", item.trim_start()));
        }
    }

    fn write_route(&self, at: usize, depth: usize, out: &mut String) {
        let route = &self.routes[at];
        let what = if depth == 0 { "everything".to_owned() } else { matchers::to_text(&route.matchers) };
        let to = if route.receiver.is_empty() { "nobody" } else { &route.receiver };
        let on = if route.continues { ", and on" } else { "" };
        out.push_str(&format!("{}{what} → {to}{on}\n", "  ".repeat(depth)));
        for child in &route.children {
            self.write_route(*child, depth + 1, out);
        }
    }
}

#[cfg(test)]
mod tests;
