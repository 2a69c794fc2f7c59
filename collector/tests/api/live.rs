//! Queries' values as they change, as server-sent events.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, encode};

/// The first events of a stream, parsed.
fn events(server: &Server, pairs: &[(&str, &str)], count: usize) -> Vec<Value> {
    let path = format!("/api/v1/pitwatch/live?{}", encode(pairs));
    let request = server.request(Method::GET, &path).bearer_auth(&server.viewer);
    let text = server.begin(request, |text| text.matches("\n\n").count() >= count);
    text.split("\n\n").filter_map(|event| Some(serde_json::from_str(event.strip_prefix("data: ")?).unwrap())).collect()
}

#[test]
fn values_come_at_once_and_then_each_tick() {
    let server = Server::start();
    let pairs = [("query", "count(node_load1)"), ("query", "node_load1{instance=\"db-1\"}"), ("query", "1 + 1")];
    let events = events(&server, &pairs, 2);
    let results = &events[0]["results"];
    assert_eq!(results[0], json!([{ "labels": {}, "value": "2" }]));
    assert_eq!(results[1][0]["labels"]["instance"], "db-1");
    assert_eq!(results[2][0]["value"], "2");
    assert!(events[0].get("errors").is_none());
    assert!(events[1]["time_ms"].as_i64() > events[0]["time_ms"].as_i64(), "{events:?}");
}

#[test]
fn what_cannot_be_evaluated_says_so_and_the_others_go_on() {
    let server = Server::start();
    let many = "node_load1 * on() node_load1";
    let events = events(&server, &[("query", many), ("query", "count(node_load1)")], 1);
    assert_eq!(events[0]["results"][0], json!([]));
    assert!(events[0]["errors"]["0"].as_str().unwrap().contains("many"), "{events:?}");
    assert_eq!(events[0]["results"][1][0]["value"], "2");
}

#[test]
fn a_stream_that_makes_no_sense_is_refused() {
    let server = Server::start();
    let refusal = |pairs: &[(&str, &str)]| {
        let (status, _, text) = server.get(&format!("/api/v1/pitwatch/live?{}", encode(pairs))).error();
        assert_eq!(status, 400, "{text}");
        text
    };
    assert!(refusal(&[]).contains("1 to 32"));
    assert!(refusal(&[("query", "up"); 33]).contains("33 queries"));
    assert!(refusal(&[("query", "rate(")]).contains("query"));
    for step in ["0", "0.5", "61", "-1", "x"] {
        refusal(&[("query", "up"), ("step", step)]);
    }
}

#[test]
fn a_stream_ends_with_its_token() {
    let server = Server::start();
    let made = json!({ "kind": "api", "name": "short", "role": "viewer", "ttl_secs": 3 });
    let made = server.send_json(Method::POST, "/api/v1/pitwatch/tokens", &server.admin, &made).data();
    let request =
        server.request(Method::GET, "/api/v1/pitwatch/live?query=up").bearer_auth(made["token"].as_str().unwrap());
    let text = server.begin(request, |_| false);
    assert!(text.ends_with("event: end\ndata: the token is no longer valid\n\n"), "{text}");
}
