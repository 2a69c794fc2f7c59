//! What the API asks of the rest of the collector: agents, alerts, its own health.
//!
//! The methods are called from async handlers: they answer from memory. Those that return a `Result` may block on the
//! disk; the API calls them where blocking is allowed.

use std::collections::BTreeMap;

use pitwatch_alerting::incidents::{Acknowledgement, Act, Entry, Incident, Marks};
use pitwatch_alerting::outside::{Given, Refused};
use pitwatch_alerting::{LabelSet, Silence};

use crate::alerts::desk::DeskError;
use crate::alerts::links::Token;

/// The agents and their enrolment.
pub trait Fleet: Send + Sync {
    /// Every agent, revoked ones among them.
    fn agents(&self) -> Vec<AgentInfo>;

    /// Whether there is an agent of that name, revoked or not.
    fn is_agent(&self, name: &str) -> bool;

    /// Takes an agent's certificates away and cuts its connection. `by` is who wants it.
    ///
    /// # Errors
    /// [`FleetError`]
    fn revoke(&self, name: &str, by: &str) -> Result<(), FleetError>;

    /// Makes a one-time enrolment token, for the agent of that name or for any.
    ///
    /// # Errors
    /// [`FleetError`]
    fn create_enroll_token(&self, name: Option<&str>, ttl_secs: u64, by: &str) -> Result<NewToken, FleetError>;

    /// The enrolment tokens that are remembered.
    fn enroll_tokens(&self) -> Vec<EnrollTokenInfo>;
}

/// Rules, alerts and their delivery.
pub trait Alarms: Send + Sync {
    /// Pending and firing alerts.
    fn alerts(&self) -> Vec<AlertInfo>;

    /// The groups of rules, in the order of their files.
    fn rules(&self) -> Vec<RuleGroupInfo>;

    /// Takes the rule files as they are now, all or none; gives the number of rules.
    ///
    /// # Errors
    /// Every mistake in them; the rules are then as they were.
    fn reload(&self) -> Result<usize, String>;

    /// How each receiver fares.
    fn deliveries(&self) -> Vec<ReceiverStatus>;
}

/// Silences, incidents, and what people do about alerts.
pub trait Desk: Send + Sync {
    /// Every silence, ended ones of late among them.
    fn silences(&self) -> Vec<Silence>;

    /// Takes alerts that others evaluate; gives why each of those that are not taken is not.
    fn give_alerts(&self, given: Vec<Given>) -> Vec<Refused>;

    /// Makes or changes a silence; gives its id.
    ///
    /// # Errors
    /// [`DeskError`]
    fn set_silence(&self, silence: Silence) -> Result<String, DeskError>;

    /// Ends a silence.
    ///
    /// # Errors
    /// [`DeskError`]
    fn expire_silence(&self, id: &str) -> Result<(), DeskError>;

    /// Somebody does something about the alert with that fingerprint.
    ///
    /// # Errors
    /// [`DeskError`]
    fn act_on_alert(&self, fingerprint: &str, act: &Act, by: &str, comment: &str) -> Result<Marks, DeskError>;

    /// Every incident that is kept, the latest first.
    fn incidents(&self) -> Vec<Incident>;

    /// An incident with its timeline.
    ///
    /// # Errors
    /// [`DeskError`]
    fn incident(&self, id: u64) -> Result<(Incident, Vec<Entry>), DeskError>;

    /// Somebody does something about an incident and its alerts.
    ///
    /// # Errors
    /// [`DeskError`]
    fn act_on_incident(&self, id: u64, act: &Act, by: &str, comment: &str) -> Result<Incident, DeskError>;

    /// The names of the receivers.
    fn receivers(&self) -> Vec<String>;

    /// The receivers that hear of an alert with these labels.
    fn receivers_of(&self, labels: &LabelSet) -> Vec<String>;

    /// Groups of alerts that fire: receiver, the group's labels, fingerprints of its alerts.
    fn groups(&self) -> Vec<(String, LabelSet, Vec<String>)>;

    /// The tree of routes in the notation of Alertmanager's file, without receivers' settings.
    fn routes(&self) -> String;

    /// What a link in a message does, if it was made here and still works.
    fn link(&self, token: &str) -> Option<Token>;
}

/// The collector's own health.
pub trait Vitals: Send + Sync {
    /// The collector's own metrics in Prometheus' text format.
    fn metrics_text(&self) -> String;

    /// Figures by section: an object of objects. Names end in their unit.
    fn status(&self) -> serde_json::Value;

    /// What history lost, holds and refuses.
    fn storage(&self) -> StorageInfo;

    /// Whether it takes frames and answers queries.
    ///
    /// # Errors
    /// Why not, in a sentence.
    fn ready(&self) -> Result<(), String>;
}

/// What history lost, holds and refuses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StorageInfo {
    /// What the start found damaged or missing, a sentence each.
    pub losses: Vec<String>,
    /// By agent, the largest first.
    pub agents: Vec<RoomInfo>,
    /// By metric, the largest first.
    pub metrics: Vec<RoomInfo>,
    /// Bytes of blocks that are no column's.
    pub index_bytes: u64,
    /// Agents of which a limit refused series.
    pub refused: Vec<RefusedInfo>,
}

/// The room that somebody or something takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomInfo {
    /// The agent's or the metric's name; what the collector itself writes has the name of its table in brackets.
    pub name: String,
    /// Bytes in blocks.
    pub block_bytes: u64,
    /// Samples in blocks.
    pub block_samples: u64,
    /// Samples in memory and the log; none for metrics.
    pub head_samples: u64,
}

/// Series of an agent that a limit refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedInfo {
    /// The agent's name.
    pub agent: String,
    /// Declarations refused since the start.
    pub refused_total: u64,
    /// Which limit, in words.
    pub limit: &'static str,
    /// The label with the most values, how many they are, and among how many series.
    pub explosion: Option<(String, usize, usize)>,
    /// The series refused last.
    pub last: String,
}

/// Snapshots for backups.
pub trait Snapshots: Send + Sync {
    /// Makes the snapshot beside the collector's data, in the place of an earlier one; answers the bytes that it names.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    fn take(&self) -> Result<u64, String>;
}

/// Why something about agents could not be done.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No such agent.
    #[error("no agent is named {0:?}: `pitwatch agents list` shows them")]
    NotFound(String),
    /// It is so already.
    #[error("{0}")]
    Already(String),
    /// The request is wrong or over a limit.
    #[error("{0}")]
    Refused(String),
    /// The state store failed.
    #[error("{0}")]
    Storage(String),
}

/// An agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentInfo {
    /// Its name, the `instance` of its series.
    pub name: String,
    /// The labels of its configuration.
    pub labels: BTreeMap<String, String>,
    /// Whether it is connected.
    pub state: AgentState,
    /// Since when it is in that state.
    pub since_ms: Option<i64>,
    /// When anything came from it.
    pub last_seen_ms: Option<i64>,
    /// The time of its latest sample.
    pub last_sample_ms: Option<i64>,
    /// Its version, as it said.
    pub software: String,
    /// Its address while it is connected.
    pub remote_address: Option<String>,
    /// When it was enrolled.
    pub enrolled_ms: i64,
    /// The end of its certificate.
    pub certificate_not_after_ms: Option<i64>,
    /// Its certificate's fingerprint in hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Its clock less ours.
    pub clock_skew_ms: Option<i64>,
    /// Frames taken from it since the start.
    pub frames: u64,
    /// Frames that it had to drop.
    pub lost_frames: u64,
}

/// Whether an agent is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// It is.
    Connected,
    /// It is not.
    Away,
    /// It may not.
    Revoked,
}

impl AgentState {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AgentState::Connected => "connected",
            AgentState::Away => "away",
            AgentState::Revoked => "revoked",
        }
    }
}

/// A new enrolment token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its text.
    pub token: String,
    /// Until when it may be used.
    pub expires_ms: i64,
}

/// An enrolment token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollTokenInfo {
    /// The first digits of its hash.
    pub id: String,
    /// The name of the agent that it is for, if for one.
    pub name: Option<String>,
    /// Until when it may be used.
    pub expires_ms: i64,
    /// Whether it was used.
    pub used: bool,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertInfo {
    /// The rule's name.
    pub name: String,
    /// Whether it fires.
    pub state: AlertState,
    /// Its labels, `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, written out.
    pub annotations: BTreeMap<String, String>,
    /// Since when its condition holds.
    pub active_at_ms: i64,
    /// Since when it fires.
    pub fired_at_ms: Option<i64>,
    /// The value of its expression at the last evaluation.
    pub value: Option<f64>,
    /// Whether it stands only because nothing says that it ended.
    pub no_data: bool,
    /// What is done about it.
    pub care: AlertCare,
}

/// What is done about an alert.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertCare {
    /// Ids of the silences that hold it back.
    pub silenced_by: Vec<String>,
    /// Fingerprints of the alerts that hold it back.
    pub inhibited_by: Vec<String>,
    /// Who took notice.
    pub acknowledged: Option<Acknowledgement>,
    /// Whose it is.
    pub assigned_to: Option<String>,
    /// The incident that it belongs to.
    pub incident: Option<u64>,
    /// Its rule's expression; empty if others evaluate it.
    pub expression: String,
    /// Until when it holds unless it is handed in again: only if others evaluate it.
    pub ends_at_ms: Option<i64>,
    /// Labels of alerts that would explain it.
    pub depends_on: Vec<LabelSet>,
}

/// Whether an alert fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// No alert.
    Inactive,
    /// Its condition holds, but not for long enough.
    Pending,
    /// It fires.
    Firing,
}

impl AlertState {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// A group of rules.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleGroupInfo {
    /// Its name.
    pub name: String,
    /// The file that it is in.
    pub file: String,
    /// How often it is evaluated.
    pub interval_secs: f64,
    /// Most alerts or series of a rule; 0 for no limit.
    pub limit: u64,
    /// How long the last evaluation took.
    pub evaluation_secs: f64,
    /// When that was.
    pub last_evaluation_ms: Option<i64>,
    /// Its rules, in order.
    pub rules: Vec<RuleInfo>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleInfo {
    /// The alert's or the new series' name.
    pub name: String,
    /// Its expression.
    pub query: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How the last evaluation went.
    pub health: RuleHealth,
    /// Why it went wrong.
    pub last_error: Option<String>,
    /// How long it took.
    pub evaluation_secs: f64,
    /// When that was.
    pub last_evaluation_ms: Option<i64>,
    /// What it is for.
    pub kind: RuleKind,
}

/// What a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleKind {
    /// It alerts.
    Alerting {
        /// The worst state of its alerts.
        state: AlertState,
        /// How long its condition must hold.
        duration_secs: f64,
        /// How long it fires on when the condition ends.
        keep_firing_for_secs: f64,
        /// Its annotations, as templates.
        annotations: BTreeMap<String, String>,
        /// Its alerts.
        alerts: Vec<AlertInfo>,
    },
    /// It writes series.
    Recording,
}

/// How an evaluation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleHealth {
    /// Not evaluated yet.
    Unknown,
    /// Well.
    Ok,
    /// Not.
    Err,
}

impl RuleHealth {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RuleHealth::Unknown => "unknown",
            RuleHealth::Ok => "ok",
            RuleHealth::Err => "err",
        }
    }
}

/// How a receiver of notifications fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverStatus {
    /// Its name.
    pub name: String,
    /// The platform.
    pub kind: &'static str,
    /// Groups of alerts of which it has not heard yet.
    pub pending: u64,
    /// Notifications that it took since the start.
    pub delivered: u64,
    /// Tries that failed since the start.
    pub failed: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// When it last took one.
    pub last_success_ms: Option<i64>,
    /// Since when the oldest waits.
    pub oldest_ms: Option<i64>,
}
