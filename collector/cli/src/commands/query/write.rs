//! The values of a query as rows: labels that tell series apart become columns, the others stand below once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Screen, counted};
use crate::answers::{Labels, MatrixSeries, Point, QueryData, VectorSeries};
use crate::plot::spark;
use crate::table::{Cell, Column, Table, csv_line, one_line};
use crate::units::Unit;

const METRIC_NAME: &str = "__name__";
const INSTANCE: &str = "instance";
/// Characters of a sparkline in a table.
const SPARK_WIDTH: usize = 16;

/// The number that a value's text is; NaN if it is none.
pub(super) fn number(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// The answer for people.
pub(super) fn table(data: &QueryData, unit: Unit, screen: &Screen) -> Table {
    match data {
        QueryData::Scalar((_, text)) => single(&unit.text(number(text), &screen.clock)),
        QueryData::String((_, text)) => single(text),
        QueryData::Vector(series) => vector_table(series, unit, screen),
        QueryData::Matrix(series) => matrix_table(series, unit, screen),
    }
}

/// The answer for programs: a column for each label, the time in seconds, the value as the collector wrote it.
pub(super) fn csv(data: &QueryData) -> String {
    type Rows<'a> = Vec<(&'a Labels, &'a [Point])>;
    let empty = Labels::new();
    let rows: Rows<'_> = match data {
        QueryData::Scalar(point) | QueryData::String(point) => vec![(&empty, std::slice::from_ref(point))],
        QueryData::Vector(all) => all.iter().map(|one| (&one.metric, std::slice::from_ref(&one.value))).collect(),
        QueryData::Matrix(all) => all.iter().map(|one| (&one.metric, &*one.values)).collect(),
    };
    let names: BTreeSet<&str> = rows.iter().flat_map(|(labels, _)| labels.keys().map(String::as_str)).collect();
    let mut out = csv_line(names.iter().copied().chain(["timestamp", "value"]));
    for (labels, points) in rows {
        let values: Vec<&str> = names.iter().map(|name| labels.get(*name).map_or("", String::as_str)).collect();
        for (seconds, value) in points {
            let time = seconds.to_string();
            out.push_str(&csv_line(values.iter().copied().chain([&*time, value])));
        }
    }
    out
}

/// What tells each series from the others: `db-eu-3 · eth0`. The metric's name where nothing does.
pub(super) fn distinct_labels<'a>(all: impl Iterator<Item = &'a Labels> + Clone) -> Vec<String> {
    let shape = Shape::of(all.clone());
    let text = |labels: &Labels| {
        let values = shape.columns.iter().filter_map(|name| labels.get(name));
        let joined = values.map(String::as_str).collect::<Vec<_>>().join(" · ");
        if joined.is_empty() { "value".to_owned() } else { joined }
    };
    all.map(text).collect()
}

/// Which labels are columns, and which all series share.
struct Shape {
    columns: Vec<String>,
    shared: Vec<(String, String)>,
}

impl Shape {
    fn of<'a>(all: impl Iterator<Item = &'a Labels> + Clone) -> Self {
        let count = all.clone().count();
        let mut values: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
        for (name, value) in all.flatten() {
            let entry = values.entry(name).or_default();
            entry.0.insert(value);
            entry.1 += 1;
        }
        let (mut columns, mut shared) = (Vec::new(), Vec::new());
        for (name, (distinct, on)) in &values {
            // One series alone shows all it has; of several, what differs, and the host always.
            if count == 1 || distinct.len() > 1 || *on < count || *name == INSTANCE {
                columns.push((*name).to_owned());
            } else if let Some(value) = distinct.first() {
                shared.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        columns.sort_by_key(|name| (name != METRIC_NAME, name != INSTANCE));
        Self { columns, shared }
    }

    fn headings(&self) -> Vec<Column> {
        let title = |name: &String| if name == METRIC_NAME { "METRIC".to_owned() } else { name.to_uppercase() };
        self.columns.iter().map(|name| Column::left(title(name), name)).collect()
    }

    fn cells(&self, labels: &Labels) -> Vec<Cell> {
        self.columns.iter().map(|name| Cell::new(labels.get(name).map_or("", String::as_str))).collect()
    }

    fn summary(&self, count: usize) -> String {
        if count == 0 {
            return "no series: nothing matches at this time\n\
                    which metrics are there?  pitwatch query 'count by (__name__) ({__name__!=\"\"})'"
                .to_owned();
        }
        let shared = self.shared.iter().map(|(name, value)| match &**name {
            METRIC_NAME => format!(" · {}", one_line(value)),
            name => format!(" · {name}={:?}", one_line(value)),
        });
        counted(count, "series", "series") + &shared.collect::<String>()
    }
}

fn vector_table(series: &[VectorSeries], unit: Unit, screen: &Screen) -> Table {
    let shape = Shape::of(series.iter().map(|one| &one.metric));
    let mut columns = shape.headings();
    columns.push(Column::right("VALUE", "value"));
    let mut table = Table::new(columns);
    for one in series {
        let mut row = shape.cells(&one.metric);
        row.push(Cell::new(unit.text(number(&one.value.1), &screen.clock)));
        table.push(row);
    }
    table.summary(shape.summary(series.len()))
}

fn matrix_table(series: &[MatrixSeries], unit: Unit, screen: &Screen) -> Table {
    let shape = Shape::of(series.iter().map(|one| &one.metric));
    let mut columns = shape.headings();
    columns.extend(["MIN", "MEAN", "MAX", "LAST"].map(|title| Column::right(title, title.to_lowercase())));
    columns.push(Column::left("TREND", "trend"));
    let mut table = Table::new(columns);
    for one in series {
        let values: Vec<f64> = one.values.iter().map(|(_, text)| number(text)).collect();
        let numbers: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let least = numbers.iter().copied().reduce(f64::min).unwrap_or(f64::NAN);
        let most = numbers.iter().copied().reduce(f64::max).unwrap_or(f64::NAN);
        let last = values.last().copied().unwrap_or(f64::NAN);
        let mut row = shape.cells(&one.metric);
        row.extend([least, mean, most, last].map(|value| Cell::new(unit.text(value, &screen.clock))));
        row.push(Cell::new(spark(&values, SPARK_WIDTH)));
        table.push(row);
    }
    table.summary(shape.summary(series.len()))
}

fn single(text: &str) -> Table {
    Table::new(Vec::new()).summary(one_line(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::units::of_query;

    fn data(json: &str) -> QueryData {
        serde_json::from_str(json).unwrap()
    }

    fn text(json: &str, query: &str) -> String {
        let screen = Screen { clock: Clock::utc(1_772_331_247_000), color: false, width: 100, columns: None };
        table(&data(json), of_query(query), &screen).to_text(false, None)
    }

    const VECTOR: &str = r#"{"resultType":"vector","result":[
        {"metric":{"instance":"db-eu-3","device":"eth0","role":"database"},"value":[1772331247.5,"41234567.8"]},
        {"metric":{"instance":"lobby-1","device":"eth0","role":"database"},"value":[1772331247.5,"2e+06"]},
        {"metric":{"instance":"lobby-1","device":"eth1","role":"database"},"value":[1772331247.5,"NaN"]}]}"#;
    const MATRIX: &str = r#"{"resultType":"matrix","result":[
        {"metric":{"__name__":"node_load1","instance":"a"},"values":[[10,"1"],[20,"2"],[30.5,"4"]]},
        {"metric":{"__name__":"node_load1","instance":"b"},"values":[[20,"0.5"],[30.5,"NaN"]]}]}"#;

    #[test]
    fn a_vector_shows_what_differs() {
        insta::assert_snapshot!(text(VECTOR, "topk(3, rate(node_network_receive_bytes_total[1m]))"), @r#"
        INSTANCE  DEVICE      VALUE
        db-eu-3   eth0    41.2 MB/s
        lobby-1   eth0       2 MB/s
        lobby-1   eth1          NaN
        3 series · role="database"
        "#);
    }

    #[test]
    fn one_series_shows_all_its_labels() {
        let json = r#"{"resultType":"vector","result":[
            {"metric":{"__name__":"node_memory_MemFree_bytes","instance":"a","role":"game"},"value":[1,"8003133440"]}]}"#;
        insta::assert_snapshot!(text(json, "node_memory_MemFree_bytes"), @"
        METRIC                     INSTANCE  ROLE     VALUE
        node_memory_MemFree_bytes  a         game  7.45 GiB
        1 series
        ");
    }

    #[test]
    fn a_range_is_summed_up() {
        insta::assert_snapshot!(text(MATRIX, "node_load1"), @"
        INSTANCE  MIN     MEAN  MAX  LAST  TREND
        a           1  2.33333    4     4  ▃▅█
        b         0.5      0.5  0.5   NaN  █ 
        2 series · node_load1
        ");
    }

    #[test]
    fn single_values_and_nothing_are_said_plainly() {
        assert_eq!(text(r#"{"resultType":"scalar","result":[1,"2"]}"#, "1 + 1"), "2\n");
        assert_eq!(text(r#"{"resultType":"string","result":[1,"a\u001bb"]}"#, "\"a\""), "a b\n");
        insta::assert_snapshot!(text(r#"{"resultType":"vector","result":[]}"#, "nope"), @r#"
        no series: nothing matches at this time
        which metrics are there?  pitwatch query 'count by (__name__) ({__name__!=""})'
        "#);
    }

    #[test]
    fn csv_keeps_what_the_collector_wrote() {
        insta::assert_snapshot!(csv(&data(VECTOR)), @"
        device,instance,role,timestamp,value
        eth0,db-eu-3,database,1772331247.5,41234567.8
        eth0,lobby-1,database,1772331247.5,2e+06
        eth1,lobby-1,database,1772331247.5,NaN
        ");
        insta::assert_snapshot!(csv(&data(MATRIX)), @"
        __name__,instance,timestamp,value
        node_load1,a,10,1
        node_load1,a,20,2
        node_load1,a,30.5,4
        node_load1,b,20,0.5
        node_load1,b,30.5,NaN
        ");
        assert_eq!(csv(&data(r#"{"resultType":"scalar","result":[1.5,"+Inf"]}"#)), "timestamp,value\n1.5,+Inf\n");
    }

    #[test]
    fn lines_of_a_chart_are_named_by_what_differs() {
        let QueryData::Matrix(series) = data(MATRIX) else { panic!() };
        assert_eq!(distinct_labels(series.iter().map(|one| &one.metric)), ["a", "b"]);
        let empty = [Labels::new()];
        assert_eq!(distinct_labels(empty.iter()), ["value"]);
    }
}
