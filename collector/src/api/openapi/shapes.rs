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
