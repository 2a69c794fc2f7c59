//! What `pitwatch top` shows and what a key does to it.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::Answered;
use super::terminal::Key;
use crate::answers::Host;

/// The last minutes of each host's vitals.
#[derive(Clone, Debug, Default)]
pub(super) struct Trends {
    pub(super) cpu: HashMap<String, Vec<f64>>,
    pub(super) memory: HashMap<String, Vec<f64>>,
    pub(super) network: HashMap<String, Vec<f64>>,
}

/// By what the hosts are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the collector gives them.
    Worst,
    Name,
    Cpu,
    Memory,
    Disk,
    Network,
}

impl Sort {
    pub(super) fn word(self) -> &'static str {
        match self {
            Sort::Worst => "worst",
            Sort::Name => "name",
            Sort::Cpu => "CPU",
            Sort::Memory => "memory",
            Sort::Disk => "disk",
            Sort::Network => "network",
        }
    }

    fn next(self) -> Self {
        match self {
            Sort::Worst => Sort::Name,
            Sort::Name => Sort::Cpu,
            Sort::Cpu => Sort::Memory,
            Sort::Memory => Sort::Disk,
            Sort::Disk => Sort::Network,
            Sort::Network => Sort::Worst,
        }
    }
}

/// What is on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    List,
    /// The filter is written.
    Filter,
    Help,
    /// The page of a host, and its first line on the screen.
    Host {
        lines: Vec<String>,
        from: usize,
    },
}

/// What the loop is to do for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Open(String),
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub(super) struct Model {
    hosts: Vec<Host>,
    pub(super) trends: Trends,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The chosen host, which stays chosen when the order changes.
    pub(super) chosen: Option<String>,
    /// When the hosts were as they are shown.
    pub(super) at_ms: i64,
    /// Why the last question has no answer.
    pub(super) trouble: Option<String>,
}

/// Lines of a jump of a page.
const PAGE: usize = 20;

impl Model {
    pub(super) fn new(filter: String) -> Self {
        Self {
            hosts: Vec::new(),
            trends: Trends::default(),
            sort: Sort::Worst,
            filter,
            mode: Mode::List,
            chosen: None,
            at_ms: 0,
            trouble: None,
        }
    }

    pub(super) fn update(&mut self, hosts: Vec<Host>, now_ms: i64) {
        self.hosts = hosts;
        self.at_ms = now_ms;
        self.trouble = None;
    }

    pub(super) fn answer(&mut self, answered: Answered, now_ms: i64) {
        match answered {
            Answered::Fleet(hosts, trends) => {
                self.update(hosts, now_ms);
                if let Some(trends) = trends {
                    self.trends = trends;
                }
            }
            // Who went back meanwhile does not want it any more.
            Answered::Page(page) if matches!(self.mode, Mode::Host { .. }) => self.open(&page),
            Answered::Page(_) => {}
        }
    }

    pub(super) fn open(&mut self, page: &str) {
        self.mode = Mode::Host { lines: page.lines().map(str::to_owned).collect(), from: 0 };
    }

    /// How many hosts are in a state, the filter aside.
    pub(super) fn count(&self, state: &str) -> usize {
        self.hosts.iter().filter(|host| host.state == state).count()
    }

    pub(super) fn total(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn is_bad_news(&self) -> bool {
        self.hosts.iter().any(|host| host.state != "well")
    }

    /// The hosts that the filter lets through, in order.
    pub(super) fn shown(&self) -> Vec<&Host> {
        let wanted = self.filter.to_lowercase();
        let fits = |host: &&Host| {
            let values = host.labels.values().map(String::as_str).chain([host.name.as_str(), host.state.as_str()]);
            wanted.is_empty() || values.into_iter().any(|text| text.to_lowercase().contains(&wanted))
        };
        let mut shown: Vec<&Host> = self.hosts.iter().filter(fits).collect();
        let most = |of: fn(&Host) -> Option<f64>| {
            move |a: &&Host, b: &&Host| {
                of(b).partial_cmp(&of(a)).unwrap_or(Ordering::Equal).then_with(|| a.name.cmp(&b.name))
            }
        };
        match self.sort {
            Sort::Worst => {}
            Sort::Name => shown.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::Cpu => shown.sort_by(most(|host| host.cpu_ratio)),
            Sort::Memory => shown.sort_by(most(|host| host.memory_ratio)),
            Sort::Disk => shown.sort_by(most(|host| host.disk_ratio)),
            Sort::Network => shown.sort_by(most(|host| host.network_bytes_per_second)),
        }
        shown
    }

    /// Where the chosen host is among those shown.
    pub(super) fn chosen_at(&self, shown: &[&Host]) -> usize {
        shown.iter().position(|host| Some(&host.name) == self.chosen.as_ref()).unwrap_or(0)
    }

    pub(super) fn key(&mut self, key: Key) -> Option<Wish> {
        if key == Key::Interrupt {
            return Some(Wish::Quit);
        }
        match &mut self.mode {
            Mode::List => return self.list_key(key),
            Mode::Filter => match key {
                Key::Enter => self.mode = Mode::List,
                Key::Escape => {
                    self.filter.clear();
                    self.mode = Mode::List;
                }
                Key::Backspace => {
                    self.filter.pop();
                }
                Key::Char(character) => self.filter.push(character),
                _ => {}
            },
            Mode::Help => self.mode = Mode::List,
            Mode::Host { lines, from } => match key {
                Key::Escape | Key::Char('q') | Key::Backspace | Key::Left => self.mode = Mode::List,
                Key::Down | Key::Char('j') => *from = (*from + 1).min(lines.len().saturating_sub(1)),
                Key::Up | Key::Char('k') => *from = from.saturating_sub(1),
                Key::PageDown | Key::Char(' ') => *from = (*from + PAGE).min(lines.len().saturating_sub(1)),
                Key::PageUp => *from = from.saturating_sub(PAGE),
                Key::Home => *from = 0,
                _ => {}
            },
        }
        None
    }

    fn list_key(&mut self, key: Key) -> Option<Wish> {
        let shown = self.shown();
        let (at, last) = (self.chosen_at(&shown), shown.len().saturating_sub(1));
        let to = match key {
            Key::Down | Key::Char('j') => (at + 1).min(last),
            Key::Up | Key::Char('k') => at.saturating_sub(1),
            Key::PageDown | Key::Char(' ') => (at + PAGE).min(last),
            Key::PageUp => at.saturating_sub(PAGE),
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => last,
            Key::Enter | Key::Right => return shown.get(at).map(|host| Wish::Open(host.name.clone())),
            Key::Char('q') => return Some(Wish::Quit),
            Key::Escape => {
                self.filter.clear();
                return None;
            }
            Key::Char('/') => {
                self.mode = Mode::Filter;
                return None;
            }
            Key::Char('s') => {
                self.sort = self.sort.next();
                return None;
            }
            Key::Char('?' | 'h') => {
                self.mode = Mode::Help;
                return None;
            }
            _ => return None,
        };
        self.chosen = shown.get(to).map(|host| host.name.clone());
        None
    }
}
