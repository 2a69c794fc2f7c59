//! Remote write: status codes, headers, who may, and that what is acknowledged is there.

use pitwatch_shared::model::STALE_NAN_BITS;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};

use crate::server::{Answer, Server, encode};

const VERSION_1: &str = "application/x-protobuf";
const VERSION_2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_sample(series: &mut Vec<u8>, ts_ms: i64, value: f64) {
    let mut sample = vec![9];
    sample.extend_from_slice(&value.to_bits().to_le_bytes());
    sample.push(16);
    varint(&mut sample, ts_ms.cast_unsigned());
    field(series, 2, &sample);
}

type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

fn message_1(all: &[Series<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (labels, samples) in all {
        let mut series = Vec::new();
        for (name, value) in *labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        samples.iter().for_each(|(ts_ms, value)| put_sample(&mut series, *ts_ms, *value));
        field(&mut out, 1, &series);
    }
    out
}

fn message_2(all: &[Series<'_>]) -> Vec<u8> {
    let mut symbols = vec![""];
    let mut out = Vec::new();
    for (labels, samples) in all {
        let (mut series, mut refs) = (Vec::new(), Vec::new());
        for text in labels.iter().flat_map(|(name, value)| [*name, *value]) {
            varint(&mut refs, symbols.len() as u64);
            symbols.push(text);
        }
        field(&mut series, 1, &refs);
        samples.iter().for_each(|(ts_ms, value)| put_sample(&mut series, *ts_ms, *value));
        field(&mut out, 5, &series);
    }
    symbols.iter().for_each(|text| field(&mut out, 4, text.as_bytes()));
    out
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

fn post(server: &Server, token: &str, kind: &str, body: Vec<u8>) -> RequestBuilder {
    let request = server.request(Method::POST, "/api/v1/write").bearer_auth(token);
    request.header(CONTENT_TYPE, kind).header(CONTENT_ENCODING, "snappy").body(body)
}

fn write(server: &Server, kind: &str, message: &[u8]) -> Answer {
    server.send(post(server, &server.writer, kind, snappy(message)))
}

fn written(answer: &Answer) -> Option<&str> {
    answer.headers.get("x-prometheus-remote-write-samples-written")?.to_str().ok()
}

/// The samples of a series as (milliseconds, text), oldest first.
fn samples(server: &Server, selector: &str) -> Vec<(i64, String)> {
    let time = ((server.end_ms / 1000) + 10).to_string();
    let path = format!("/api/v1/query?{}", encode(&[("query", &format!("{selector}[100000s]")), ("time", &time)]));
    let data = server.get(&path).data();
    let values = data["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let pair = |value: &serde_json::Value| {
        ((value[0].as_f64().unwrap() * 1000.0).round() as i64, value[1].as_str().unwrap().to_owned())
    };
    values.iter().map(pair).collect()
}

#[test]
fn both_versions_are_stored_and_read_back() {
    let server = Server::start();
    let (end_ms, stale) = (server.end_ms, f64::from_bits(STALE_NAN_BITS));
    for (kind, name) in [(VERSION_1, "one"), (VERSION_2, "two")] {
        let labels = [("__name__", name), ("instance", "db-1:9100"), ("job", "node")];
        let sent = [(end_ms - 3000, 1.0), (end_ms - 2000, 2.5), (end_ms - 1000, stale)];
        let all: [Series<'_>; 1] = [(&labels, &sent)];
        let message = if kind == VERSION_1 { message_1(&all) } else { message_2(&all) };
        // A sender that heard nothing sends again.
        for _ in 0..2 {
            let answer = write(&server, kind, &message);
            assert_eq!((answer.status, &*answer.body), (200, ""));
            assert_eq!(written(&answer), (kind == VERSION_2).then_some("3"));
        }
        let found = samples(&server, &format!("{name}{{job=\"node\"}}"));
        assert_eq!(found, [(end_ms - 3000, "1".to_owned()), (end_ms - 2000, "2.5".to_owned())]);
        let now = format!("/api/v1/query?{}", encode(&[("query", name), ("time", &(end_ms / 1000).to_string())]));
        assert_eq!(server.get(&now).data()["result"], serde_json::json!([]), "the stale marker ends it");
    }
}

#[test]
fn late_samples_are_taken_and_a_second_value_is_not() {
    let server = Server::start();
    let end_ms = server.end_ms;
    let labels = [("__name__", "x")];
    let send = |sent: &[(i64, f64)]| write(&server, VERSION_2, &message_2(&[(&labels, sent)]));
    assert_eq!(send(&[(end_ms, 1.0)]).status, 200);
    assert_eq!(send(&[(end_ms - 5000, 0.5), (end_ms - 9000, 0.25)]).status, 200);
    let second = send(&[(end_ms, 2.0), (end_ms + 1000, 3.0)]);
    assert_eq!((second.status, written(&second)), (400, Some("1")));
    assert!(second.error().2.contains("1 of 2 samples"), "{}", second.body);
    let values: Vec<_> = samples(&server, "x").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["0.25", "0.5", "1", "3"]);
}

#[test]
fn bad_series_are_400_and_the_others_are_stored() {
    let server = Server::start();
    let good: Series<'_> = (&[("__name__", "good"), ("b", "1"), ("a", "1")], &[(server.end_ms, 1.0)]);
    let bad: [&[(&str, &str)]; 5] = [
        &[("job", "x")],
        &[("__name__", "up"), ("job", "a"), ("job", "b")],
        &[("__name__", "up"), ("", "a")],
        &[("__name__", "up"), ("job", "")],
        &[("__name__", "up"), ("instance", "db-1")],
    ];
    for (nth, labels) in bad.iter().enumerate() {
        let samples = [(server.end_ms + nth as i64, 1.0)];
        let answer = write(&server, VERSION_2, &message_2(&[(labels, &samples), good]));
        assert_eq!((answer.status, written(&answer)), (400, Some("1")), "{labels:?}: {}", answer.body);
        assert!(answer.error().2.contains("1 of 2 samples"), "{}", answer.body);
    }
    assert_eq!(samples(&server, "good{a=\"1\",b=\"1\"}").len(), 1, "labels in any order");
}

#[test]
fn what_cannot_be_read_has_its_status() {
    let server = Server::start();
    let message = message_1(&[(&[("__name__", "up")], &[(server.end_ms, 1.0)])]);
    let status = |request: RequestBuilder| server.send(request).status;
    let send = |kind: &str, body: Vec<u8>| status(post(&server, &server.writer, kind, body));
    for kind in ["", "text/plain", "application/x-protobuf;proto=other.Message", "application/json"] {
        assert_eq!(send(kind, snappy(&message)), 415, "{kind:?}");
    }
    let plain = server.request(Method::POST, "/api/v1/write").bearer_auth(&server.writer);
    assert_eq!(status(plain.header(CONTENT_TYPE, VERSION_1).body(message.clone())), 415);
    assert_eq!(send(VERSION_1, message.clone()), 400, "not snappy");
    assert_eq!(send(VERSION_1, snappy(b"\x0a\xff")), 400, "not protobuf");
    assert_eq!(send(VERSION_1, snappy(&vec![0; 20 << 20])), 413, "a bomb");
    assert_eq!(send("application/x-protobuf;proto=prometheus.WriteRequest", snappy(&message)), 200);
    assert_eq!(status(server.request(Method::GET, "/api/v1/write").bearer_auth(&server.writer)), 405);
}

#[test]
fn writers_write_and_nothing_else() {
    let server = Server::start();
    let message = message_1(&[(&[("__name__", "up")], &[(server.end_ms, 1.0)])]);
    for (token, status) in [(&server.writer, 200), (&server.admin, 200), (&server.viewer, 403), (&server.operator, 403)]
    {
        assert_eq!(server.send(post(&server, token, VERSION_1, snappy(&message))).status, status);
    }
    for path in ["/api/v1/query?query=1", "/api/v1/labels", "/metrics", "/api/v1/pitwatch/tokens"] {
        let answer = server.send(server.request(Method::GET, path).bearer_auth(&server.writer));
        assert_eq!(answer.status, 403, "{path}");
    }
}
