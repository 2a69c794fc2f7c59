//! The shapes of answers that are written piece by piece, not by `serde`: see `matrix` and `ast`.

#![expect(dead_code, reason = "only the descriptions of these types are used")]

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, ArrayItems, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A time in seconds since 1970, and a value as text: `"0.25"`, `"NaN"`, `"+Inf"`.
#[derive(Serialize)]
struct Point(f64, String);

impl PartialSchema for Point {
    fn schema() -> RefOr<Schema> {
        let part = |kind| Schema::from(ObjectBuilder::new().schema_type(kind).build());
        let parts = [part(Type::Number), part(Type::String)];
        let pair = ArrayBuilder::new().prefix_items(parts).items(ArrayItems::False);
        let said = "A time in seconds since 1970, and a value as text, such as `\"0.25\"`, `\"NaN\"`, `\"+Inf\"`";
        pair.min_items(Some(2)).max_items(Some(2)).description(Some(said)).into()
    }
}

impl ToSchema for Point {}

/// A body that is no text.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(in super::super) struct Bytes(Vec<u8>);

/// The answer to a query.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Queried {
    #[serde(flatten)]
    result: QueryResult,
    /// What it touched and how long it took, if that was asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Figures>,
}

#[derive(Serialize, ToSchema)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum QueryResult {
    Vector(Vec<Instant>),
    Matrix(Vec<Range>),
    Scalar(Point),
    String(Point),
}

/// A series at one time.
#[derive(Serialize, ToSchema)]
#[schema(as = SeriesNow)]
struct Instant {
    metric: BTreeMap<String, String>,
    value: Point,
}

/// A series at many times.
#[derive(Serialize, ToSchema)]
#[schema(as = SeriesOverTime)]
struct Range {
    metric: BTreeMap<String, String>,
    values: Vec<Point>,
}

/// Figures about a query.
#[derive(Serialize, ToSchema)]
#[schema(as = QueryFigures)]
struct Figures {
    /// Prometheus' times, in seconds
    timings: BTreeMap<String, f64>,
    /// Prometheus' counts of samples
    samples: BTreeMap<String, u64>,
    pitwatch: OwnFigures,
}

/// What the query touched, and how long it was in each stage.
#[derive(Serialize, ToSchema)]
struct OwnFigures {
    series: u64,
    samples: u64,
    /// Held at once
    peak_samples: u64,
    /// The copies of history that answered, between commas
    tiers: String,
    parse_secs: f64,
    /// For a turn
    wait_secs: f64,
    select_secs: f64,
    read_secs: f64,
    evaluate_secs: f64,
    write_secs: f64,
}

/// A node of a query's tree; what more it has depends on its type.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Tree {
    /// Such as `call`, `vectorSelector`, `binaryExpr`
    #[serde(rename = "type")]
    kind: String,
}

/// A matcher as Alertmanager writes it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SilenceMatcher {
    name: String,
    value: String,
    #[schema(required = false)]
    is_regex: bool,
    #[schema(required = false)]
    is_equal: bool,
}

/// Hours that come again, as Alertmanager writes them; a part that is left out always holds.
#[derive(Serialize, ToSchema)]
struct Recurrence {
    #[schema(required = false)]
    times: Vec<Hours>,
    /// Such as `monday` or `monday:friday`
    #[schema(required = false)]
    weekdays: Vec<String>,
    /// Such as `1`, `1:7` or `-3:-1`
    #[schema(required = false)]
    days_of_month: Vec<String>,
    /// Such as `january` or `1:3`
    #[schema(required = false)]
    months: Vec<String>,
    #[schema(required = false)]
    years: Vec<String>,
    /// A time zone by name; UTC if left out
    #[schema(required = false)]
    location: String,
}

/// Of a day.
#[derive(Serialize, ToSchema)]
struct Hours {
    /// `HH:MM`
    start_time: String,
    /// `HH:MM`, up to `24:00`
    end_time: String,
}

/// A silence as it is set.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct NewSilence {
    /// The one that is changed; a new one if left out
    id: Option<String>,
    matchers: Vec<SilenceMatcher>,
    starts_at: String,
    ends_at: String,
    #[schema(required = false)]
    created_by: String,
    #[schema(required = false)]
    comment: String,
    /// Between its start and its end it holds only then
    #[schema(required = false)]
    recurrence: Vec<Recurrence>,
}

/// An alert as it is handed in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct NewAlert {
    labels: BTreeMap<String, String>,
    #[schema(required = false)]
    annotations: BTreeMap<String, String>,
    /// RFC 3339; now if left out
    starts_at: Option<String>,
    /// RFC 3339; if left out, the routing's `resolve_timeout` from now
    ends_at: Option<String>,
}

/// A silence that is set.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct SilenceSet {
    #[serde(rename = "silenceID")]
    silence_id: String,
}

/// A silence.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Silence {
    id: String,
    status: SilenceStatus,
    updated_at: String,
    comment: String,
    created_by: String,
    ends_at: String,
    matchers: Vec<SilenceMatcher>,
    starts_at: String,
    #[schema(required = false)]
    recurrence: Vec<Recurrence>,
}

#[derive(Serialize, ToSchema)]
struct SilenceStatus {
    /// `active`, `pending` or `expired`
    state: String,
}

/// A receiver by its name.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct ReceiverName {
    name: String,
}

/// An alert that fires, as Alertmanager has it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GettableAlert)]
pub(in super::super) struct Firing {
    annotations: BTreeMap<String, String>,
    ends_at: String,
    fingerprint: String,
    receivers: Vec<ReceiverName>,
    starts_at: String,
    status: FiringStatus,
    updated_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FiringStatus {
    inhibited_by: Vec<String>,
    silenced_by: Vec<String>,
    /// `active` or `suppressed`
    state: String,
}

/// Alerts that are told together.
#[derive(Serialize, ToSchema)]
#[schema(as = AlertGroup)]
pub(in super::super) struct FiringGroup {
    alerts: Vec<Firing>,
    labels: BTreeMap<String, String>,
    receiver: ReceiverName,
}

/// Who answers, as Alertmanager says it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Alertmanager {
    #[schema(value_type = Object)]
    cluster: (),
    #[schema(value_type = Object)]
    config: (),
    uptime: String,
    version_info: BTreeMap<String, String>,
}

/// What somebody says beside what they do.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Remark {
    #[schema(required = false, max_length = 2000)]
    comment: String,
    /// Who shall have it, for `assign`
    #[schema(max_length = 2000)]
    to: Option<String>,
}

/// Who acknowledged what.
#[derive(Serialize, ToSchema)]
struct Acknowledgement {
    by: String,
    at_ms: i64,
    comment: String,
}

/// What people did about an alert.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct AlertMarks {
    #[schema(required = true)]
    acknowledged: Option<Acknowledgement>,
    #[schema(required = true)]
    assigned_to: Option<String>,
    #[schema(required = true)]
    incident: Option<u64>,
}

/// Alerts that belong together.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Incident {
    id: u64,
    cause: String,
    title: String,
    severity: String,
    /// `open` or `closed`
    state: String,
    opened_ms: i64,
    #[schema(required = true)]
    closed_ms: Option<i64>,
    #[schema(required = true)]
    acknowledged: Option<Acknowledgement>,
    #[schema(required = true)]
    assigned_to: Option<String>,
    alerts: u64,
    /// Of them, those that fire now
    firing: u64,
    /// Of its time line
    entries: u64,
}

/// Incidents.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct Incidents {
    /// Whether there are more than these
    more: bool,
    incidents: Vec<Incident>,
}

/// An incident with its time line.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct IncidentTold {
    #[serde(flatten)]
    incident: Incident,
    timeline: Vec<Entry>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = IncidentEntry)]
struct Entry {
    at_ms: i64,
    /// `fired`, `no_data`, `resolved`, `withdrawn`, `acknowledged`, `unacknowledged`, `assigned`, `commented` or `closed`
    what: String,
    #[schema(required = true)]
    fingerprint: Option<String>,
    #[schema(required = true)]
    fired_at_ms: Option<i64>,
    #[schema(required = true)]
    by: Option<String>,
    #[schema(required = true)]
    text: Option<String>,
}

/// What a silence is asked about before it is set.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct SilencePreview {
    matchers: SilencePreviewMatchers,
}

/// Matchers as objects, or as one text such as `env="prod", team=~"a|b"`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum SilencePreviewMatchers {
    Text(String),
    List(Vec<SilenceMatcher>),
}

/// What a silence would hold back.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct SilencePreviewed {
    /// All alerts that there are
    of: u64,
    alerts: Vec<super::super::rules::OwnAlert>,
}
