//! The shapes of the collector's answers, as far as the commands read them. Fields that are not named here may come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// A time in seconds and a value as text.
pub(crate) type Point = (f64, String);

/// The answer to a query.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(crate) enum QueryData {
    Scalar(Point),
    String(Point),
    Vector(Vec<VectorSeries>),
    Matrix(Vec<MatrixSeries>),
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct VectorSeries {
    pub(crate) metric: Labels,
    pub(crate) value: Point,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MatrixSeries {
    pub(crate) metric: Labels,
    pub(crate) values: Vec<Point>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Reloaded {
    pub(crate) rules: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PreviewData {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) fired: u64,
    pub(crate) rules: Vec<RulePreview>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RulePreview {
    pub(crate) group: String,
    pub(crate) rule: String,
    pub(crate) fired: u64,
    pub(crate) alerts: Vec<AlertPreview>,
    pub(crate) more_alerts: usize,
    pub(crate) failures: u64,
    pub(crate) error: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AlertPreview {
    pub(crate) labels: Labels,
    pub(crate) fired: u64,
    pub(crate) firing_seconds: f64,
    pub(crate) last_fired_ms: i64,
    pub(crate) is_firing: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HostsData {
    pub(crate) hosts: Vec<Host>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) state: String,
    pub(crate) alerts: Vec<HostAlert>,
    pub(crate) since_ms: Option<i64>,
    pub(crate) cpu_ratio: Option<f64>,
    pub(crate) memory_ratio: Option<f64>,
    pub(crate) disk_ratio: Option<f64>,
    pub(crate) disk_mountpoint: Option<String>,
    pub(crate) network_bytes_per_second: Option<f64>,
    pub(crate) software: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HostAlert {
    pub(crate) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AlertsData {
    pub(crate) alerts: Vec<Alert>,
    #[serde(default)]
    pub(crate) receivers: Vec<Receiver>,
}

/// A silence as Alertmanager's API has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Silence {
    pub(crate) id: String,
    pub(crate) status: SilenceStatus,
    pub(crate) matchers: Vec<pitwatch_alerting::Matcher>,
    pub(crate) starts_at: String,
    pub(crate) ends_at: String,
    pub(crate) created_by: String,
    pub(crate) comment: String,
    #[serde(default)]
    pub(crate) recurrence: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SilenceStatus {
    pub(crate) state: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SilenceMade {
    #[serde(rename = "silenceID")]
    pub(crate) id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct IncidentsData {
    pub(crate) incidents: Vec<Incident>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Incident {
    pub(crate) id: u64,
    pub(crate) cause: String,
    pub(crate) title: String,
    pub(crate) state: String,
    pub(crate) opened_ms: i64,
    pub(crate) closed_ms: Option<i64>,
    pub(crate) acknowledged: Option<Acknowledged>,
    pub(crate) assigned_to: Option<String>,
    pub(crate) alerts: u32,
    #[serde(default)]
    pub(crate) timeline: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) by: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at_ms: i64,
    pub(crate) what: String,
    pub(crate) by: Option<String>,
    pub(crate) text: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) active_at_ms: i64,
    pub(crate) value: Option<f64>,
    pub(crate) no_data: bool,
    #[serde(default)]
    pub(crate) fingerprint: String,
    #[serde(default)]
    pub(crate) silenced_by: Vec<String>,
    #[serde(default)]
    pub(crate) inhibited_by: Vec<String>,
    #[serde(default)]
    pub(crate) acknowledged: Option<Acknowledged>,
    #[serde(default)]
    pub(crate) assigned_to: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) pending: u64,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) last_error: Option<String>,
    pub(crate) last_success_ms: Option<i64>,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct EventsData {
    pub(crate) events: Vec<Event>,
    pub(crate) more: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Event {
    pub(crate) time_ms: i64,
    pub(crate) host: String,
    pub(crate) kind: String,
    pub(crate) severity: String,
    pub(crate) summary: String,
    pub(crate) labels: Labels,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RulesData {
    pub(crate) groups: Vec<RuleGroup>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleGroup {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) interval: f64,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rule {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) state: Option<String>,
    pub(crate) health: String,
    pub(crate) last_error: Option<String>,
    pub(crate) evaluation_time: f64,
    pub(crate) query: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AgentsData {
    pub(crate) agents: Vec<Agent>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) since_ms: Option<i64>,
    pub(crate) last_sample_ms: Option<i64>,
    pub(crate) software: String,
    pub(crate) remote_address: Option<String>,
    pub(crate) certificate_not_after_ms: Option<i64>,
    pub(crate) clock_skew_ms: Option<i64>,
    pub(crate) lost_frames: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TokensData {
    pub(crate) enroll: Vec<EnrollToken>,
    pub(crate) api: Vec<ApiToken>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EnrollToken {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) expires_ms: i64,
    pub(crate) used: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ApiToken {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) last_used_ms: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct NewToken {
    pub(crate) token: String,
    pub(crate) expires_ms: Option<i64>,
    /// Where agents find the collector, if it knows.
    pub(crate) collector: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StatusData {
    pub(crate) version: String,
    pub(crate) started_ms: i64,
    pub(crate) now_ms: i64,
    pub(crate) ready: bool,
    pub(crate) not_ready_reason: Option<String>,
    pub(crate) agents: BTreeMap<String, u64>,
    pub(crate) alerts: BTreeMap<String, u64>,
    pub(crate) receivers: Vec<Receiver>,
    #[serde(default)]
    pub(crate) storage: Storage,
    /// Sections of figures by name.
    pub(crate) sections: BTreeMap<String, serde_json::Value>,
}

/// What history lost, holds and refuses.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Storage {
    pub(crate) losses: Vec<String>,
    pub(crate) agents: Vec<Room>,
    pub(crate) agents_total: usize,
    pub(crate) metrics: Vec<Room>,
    pub(crate) metrics_total: usize,
    pub(crate) refused: Vec<Refused>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) block_bytes: u64,
    pub(crate) block_samples: u64,
    pub(crate) head_samples: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refused {
    pub(crate) agent: String,
    pub(crate) refused_total: u64,
    pub(crate) limit: String,
    /// The label with the most values, how many, and in how many series.
    pub(crate) label: Option<String>,
    pub(crate) label_values: Option<u64>,
    pub(crate) series: Option<u64>,
}
