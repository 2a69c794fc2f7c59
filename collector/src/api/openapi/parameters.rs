//! The parameters that the description names. Handlers read them with [`Params`](super::super::params::Params), from the
//! address and, where one is posted, from the form.

#![expect(dead_code, reason = "only the descriptions of these types are used")]

use utoipa::IntoParams;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};

/// A time: seconds since 1970, or RFC 3339.
fn time() -> RefOr<Schema> {
    let seconds = ObjectBuilder::new().schema_type(Type::Number);
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    let text = ObjectBuilder::new().schema_type(Type::String).format(Some(format));
    OneOfBuilder::new().item(seconds).item(text).into()
}

/// A length of time: seconds, or such as `1h30m`.
fn duration() -> RefOr<Schema> {
    let seconds = ObjectBuilder::new().schema_type(Type::Number).exclusive_minimum(Some(0));
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^([0-9]+(ms|[smhdwy]))+$"));
    OneOfBuilder::new().item(seconds).item(text).into()
}

/// A query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Expression {
    /// An expression of PromQL
    #[param(min_length = 1)]
    query: String,
}

/// When it is evaluated.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct At {
    /// When it is evaluated; now if left out
    #[param(schema_with = time, required = false)]
    time: String,
}

/// When it is evaluated, many times.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Steps {
    /// The first time
    #[param(schema_with = time)]
    start: String,
    /// The last time
    #[param(schema_with = time)]
    end: String,
    /// From one time to the next
    #[param(schema_with = duration)]
    step: String,
}

/// How it is evaluated.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct How {
    /// How long it may take; the collector's limit if that is less
    #[param(schema_with = duration, required = false)]
    timeout: String,
    /// How old a sample may be
    #[param(schema_with = duration, required = false)]
    lookback_delta: String,
    /// `all`: what it touched and how long it took goes with the answer
    stats: Option<String>,
    /// Which copy of history answers, whatever that does to the answer: `raw`, `1m` or `1h`
    #[param(pattern = "^(raw|1m|1h)$")]
    tier: Option<String>,
}

/// Most results.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Limit {
    /// Most results; 0 for all
    limit: Option<u32>,
}

/// Which series.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Matches {
    /// Selectors: series that one of them selects
    #[param(rename = "match[]")]
    matches: Option<Vec<String>>,
}

/// Which series, and it must be said.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct NeededMatches {
    /// Selectors: series that one of them selects
    #[param(rename = "match[]", min_items = 1)]
    matches: Vec<String>,
}

/// Which part of history.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Span {
    /// Only what has samples from then on
    #[param(schema_with = time, required = false)]
    start: String,
    /// Only what has samples until then
    #[param(schema_with = time, required = false)]
    end: String,
}

/// Which metrics.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Metrics {
    /// The one metric that is asked about
    metric: Option<String>,
    /// Most metrics
    limit: Option<i64>,
    /// Most entries of a metric; there is never more than one
    limit_per_metric: Option<i64>,
}

/// Which rules.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Rules {
    /// `alert` or `record`
    #[param(rename = "type", pattern = "^(alert|record)$")]
    kind: Option<String>,
    #[param(rename = "rule_name[]")]
    rule_names: Option<Vec<String>>,
    #[param(rename = "rule_group[]")]
    rule_groups: Option<Vec<String>>,
    #[param(rename = "file[]")]
    files: Option<Vec<String>>,
    /// `true`: rules without their alerts
    exclude_alerts: Option<bool>,
    /// Most groups of a page
    #[param(minimum = 1)]
    group_limit: Option<u32>,
    /// The next page, as the page before named it
    group_next_token: Option<String>,
}

/// How long the lists are.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Rows {
    /// Rows of each list
    #[param(maximum = 10000)]
    limit: Option<u32>,
}

/// Which events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct OfEvents {
    /// From then on
    #[param(schema_with = time, required = false)]
    start: String,
    /// Until then
    #[param(schema_with = time, required = false)]
    end: String,
    /// Of these hosts
    #[param(max_items = 50)]
    host: Option<Vec<String>>,
    /// Of these kinds
    #[param(max_items = 50)]
    kind: Option<Vec<String>>,
    /// `info`, `warning`, `critical`
    #[param(max_items = 50)]
    severity: Option<Vec<String>>,
    /// Most events, the newest first
    limit: Option<u32>,
}

/// Which of the alerts that fire, as Alertmanager's clients ask.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct Wanted {
    /// Matchers: alerts that fit all of them
    filter: Option<Vec<String>>,
    /// `false`: without those that nothing holds back
    active: Option<bool>,
    /// `false`: without silenced ones
    silenced: Option<bool>,
    /// `false`: without inhibited ones
    inhibited: Option<bool>,
    /// A pattern: alerts that go to such receivers
    receiver: Option<String>,
}
