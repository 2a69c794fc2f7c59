//! Prometheus' endpoints: envelopes, status codes, formats, limits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{QUERIES_AT_ONCE, SECONDS, Server, encode};

fn query(server: &Server, pairs: &[(&str, &str)]) -> Value {
    server.get(&format!("/api/v1/query?{}", encode(pairs))).data()
}

#[test]
fn instant_queries_answer_in_prometheus_shape() {
    let server = Server::start();
    let end = format!("{}", server.end_ms / 1000);
    let seconds = server.end_ms / 1000;
    let load = query(&server, &[("query", "node_load1{instance=\"db-1\"}"), ("time", &end)]);
    let metric = json!({ "__name__": "node_load1", "instance": "db-1", "note": "a\"b\\c<d>" });
    assert_eq!(load, json!({ "resultType": "vector", "result": [{ "metric": metric, "value": [seconds, "0.25"] }] }));

    let rate = "sum by (instance) (rate(node_network_receive_bytes_total[1m]))";
    let by_form = server.post_form("/api/v1/query", &[("query", rate), ("time", &end)]).data();
    let row = |host: &str, value: &str| json!({ "metric": { "instance": host }, "value": [seconds, value] });
    assert_eq!(by_form["result"], json!([row("db-1", "1000000"), row("web-1", "2000000")]));

    assert_eq!(
        query(&server, &[("query", "1+1"), ("time", "4")]),
        json!({ "resultType": "scalar", "result": [4, "2"] }),
        "what Grafana's \"Save & test\" sends"
    );
    let inf = query(&server, &[("query", "vector(1/0)"), ("time", "2026-03-01T02:14:07.25Z")]);
    assert_eq!(inf["result"][0]["value"], json!([1_772_331_247.25, "+Inf"]));
    assert_eq!(query(&server, &[("query", "\"x\""), ("time", "0")])["resultType"], "string");
    let window = query(&server, &[("query", "node_load1{instance=\"db-1\"}[5s]"), ("time", &end)]);
    assert_eq!(window["resultType"], "matrix");
    assert_eq!(window["result"][0]["values"].as_array().unwrap().len(), 5);

    let now = query(&server, &[("query", "count(node_load1)")]);
    assert_eq!(now["result"][0]["value"][1], "2", "without a time it is now");
    let later = (server.end_ms / 1000 + 60).to_string();
    let sharp = [("query", "node_load1"), ("time", &*later), ("lookback_delta", "30s")];
    assert_eq!(query(&server, &sharp)["result"], json!([]));
}

#[test]
fn range_queries_answer_in_prometheus_shape() {
    let server = Server::start();
    let end = server.end_ms / 1000;
    let (start, end_text) = ((end - 20).to_string(), end.to_string());
    let form = [("query", "node_load1"), ("start", &*start), ("end", &*end_text), ("step", "10s")];
    let data = server.post_form("/api/v1/query_range", &form).data();
    assert_eq!(data["resultType"], "matrix");
    let rows = data["result"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["metric"]["instance"], "db-1");
    assert_eq!(rows[0]["values"], json!([[end - 20, "0.25"], [end - 10, "0.25"], [end, "0.25"]]));

    let limited = [form[0], form[1], form[2], form[3], ("limit", "1"), ("stats", "all")];
    let answer = server.post_form("/api/v1/query_range", &limited).json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1);
    assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
    let stats = &answer["data"]["stats"];
    assert!(stats["samples"]["totalQueryableSamples"].as_u64().unwrap() > 0);
    assert!(stats["timings"]["execTotalTime"].as_f64().unwrap() > 0.0);
    assert_eq!(stats["pitwatch"]["tiers"], "raw");
    assert_eq!(
        (&stats["pitwatch"]["series"], &stats["pitwatch"]["samples"]),
        (&json!(2), &stats["samples"]["totalQueryableSamples"])
    );
    let by_minutes = [form[0], form[1], form[2], form[3], ("tier", "1m"), ("stats", "all")];
    let answer = server.post_form("/api/v1/query_range", &by_minutes).json();
    assert_eq!(answer["data"]["stats"]["pitwatch"]["tiers"], "1m");

    let range = |start: i64, end: i64, step: &str| {
        let (start, end) = (start.to_string(), end.to_string());
        let pairs = [("query", "1"), ("start", &*start), ("end", &*end), ("step", step)];
        server.get(&format!("/api/v1/query_range?{}", encode(&pairs)))
    };
    assert_eq!(range(0, 11_000, "1").data()["result"][0]["values"].as_array().unwrap().len(), 11_001);
    let (status, kind, text) = range(0, 11_001, "1").error();
    assert_eq!((status, &*kind), (400, "bad_data"));
    assert!(text.contains("11000 points"), "{text}");
    assert_eq!(range(10, 0, "1").error().0, 400);
    assert_eq!(range(0, 10, "0").error().0, 400);
    assert_eq!(range(0, 10, "-5s").error().0, 400);
}

#[test]
fn errors_have_their_type_and_status() {
    let server = Server::start();
    let error = |path: &str, pairs: &[(&str, &str)]| server.get(&format!("{path}?{}", encode(pairs))).error();
    // Path, parameters, status, type, part of the text.
    type Case = (&'static str, &'static [(&'static str, &'static str)], u16, &'static str, &'static str);
    let cases: [Case; 13] = [
        ("/api/v1/query", &[("query", "sum(")], 400, "bad_data", "invalid parameter \"query\": 1:5: parse error"),
        ("/api/v1/query", &[], 400, "bad_data", "invalid parameter \"query\""),
        (
            "/api/v1/query",
            &[("query", "1"), ("time", "noon")],
            400,
            "bad_data",
            "cannot parse \"noon\" to a valid timestamp",
        ),
        (
            "/api/v1/query",
            &[("query", "1"), ("timeout", "soon")],
            400,
            "bad_data",
            "cannot parse \"soon\" to a valid duration",
        ),
        ("/api/v1/query", &[("query", "1"), ("limit", "-1")], 400, "bad_data", "limit must be non-negative"),
        ("/api/v1/query", &[("query", "1"), ("lookback_delta", "0")], 400, "bad_data", "lookback_delta"),
        ("/api/v1/query", &[("query", "1"), ("tier", "5m")], 400, "bad_data", "it must be raw, 1m or 1h"),
        ("/api/v1/query", &[("query", "1"), ("time", "1e300")], 400, "bad_data", "valid timestamp"),
        ("/api/v1/query_range", &[("query", "1"), ("start", "0"), ("end", "1")], 400, "bad_data", "\"step\""),
        (
            "/api/v1/query_range",
            &[("query", "\"a\""), ("start", "0"), ("end", "1"), ("step", "1")],
            400,
            "bad_data",
            "range query",
        ),
        (
            "/api/v1/query",
            &[("query", "node_cpu_seconds_total + on (instance) node_cpu_seconds_total")],
            422,
            "execution",
            "many-to-many",
        ),
        ("/api/v1/series", &[], 400, "bad_data", "no match[]"),
        ("/api/v1/series", &[("match[]", "rate(x[1m])")], 400, "bad_data", "match[]"),
    ];
    for (path, pairs, status, kind, text) in cases {
        let (got_status, got_kind, got_text) = error(path, pairs);
        assert_eq!((got_status, &*got_kind), (status, kind), "{path} {pairs:?}: {got_text}");
        assert!(got_text.contains(text), "{path} {pairs:?}: {got_text}");
    }
    let (status, kind, _) = error("/api/v1/query", &[("query", "count(node_load1)"), ("timeout", "0")]);
    assert_eq!((status, &*kind), (503, "timeout"));
    let (status, kind, text) = server.get("/api/v1/nope").error();
    assert_eq!((status, &*kind), (404, "not_found"));
    assert!(text.contains("/api/v1/nope"));
    let wrong = server.send(server.request(Method::DELETE, "/api/v1/query").bearer_auth(&server.viewer));
    assert_eq!(wrong.error().0, 405);
}

#[test]
fn requests_have_bounds() {
    let server = Server::start();
    let long = format!("1{}", " + 1".repeat(300_000));
    assert_eq!(server.post_form("/api/v1/query", &[("query", &long)]).error().0, 413);
    let less = format!("1{}", " + 1".repeat(80_000));
    let (status, _, text) = server.post_form("/api/v1/query", &[("query", &less)]).error();
    assert!(status == 400 && text.contains("bytes long"), "{text}");
    let long = "1".repeat(70_000);
    let answer = raw(&server, &format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer:?}");
    // The bound of a head is not exact, and the answer may be lost with what was not read any more.
    let long = long.repeat(10);
    let answer = raw(&server, &format!("GET /-/healthy HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let broken = server.request(Method::POST, "/api/v1/query").bearer_auth(&server.viewer);
    let broken = broken.header("content-type", "application/x-www-form-urlencoded").body("query=%ff%fe&time=0");
    assert!(server.send(broken).status < 500);
}

/// What the server answers to these bytes until it closes the connection.
fn raw(server: &Server, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // It may close before it has read all.
    let _ = stream.write_all(bytes.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_query_is_given_up_when_its_client_is_gone() {
    let server = Server::start();
    let endless = "quantile_over_time(0.5, vector(1)[100h:1s])";
    let form = encode(&[("query", endless), ("start", "0"), ("end", "11000"), ("step", "1")]);
    let head = format!(
        "GET /api/v1/query_range?{form} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        server.viewer
    );
    for _ in 0..QUERIES_AT_ONCE {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // Time enough to take its turn; without it the test is weaker, not wrong.
        std::thread::sleep(Duration::from_millis(100));
    }
    let short = server.post_form("/api/v1/query", &[("query", "1+1"), ("timeout", "60s")]);
    assert_eq!(short.data()["result"][1], "2");
}

#[test]
fn labels_series_and_metadata_are_found() {
    let server = Server::start();
    let names = server.get("/api/v1/labels").data();
    assert_eq!(names, json!(["__name__", "cpu", "device", "fstype", "instance", "mode", "mountpoint", "note"]));
    let of_cpu = server.get(&format!("/api/v1/labels?{}", encode(&[("match[]", "node_cpu_seconds_total")]))).data();
    assert_eq!(of_cpu, json!(["__name__", "cpu", "instance", "mode"]));
    assert_eq!(server.post_form("/api/v1/labels", &[("match[]", "node_load1")]).data().as_array().unwrap().len(), 3);

    let values = |path: &str| server.get(path).data();
    assert_eq!(values("/api/v1/label/instance/values"), json!(["db-1", "web-1"]));
    assert_eq!(values("/api/v1/label/U__instance/values"), json!(["db-1", "web-1"]));
    assert_eq!(values("/api/v1/label/nope/values"), json!([]));
    assert_eq!(
        values("/api/v1/label/mode/values?match[]=node_cpu_seconds_total%7Binstance%3D~%22db.%2B%22%7D"),
        json!(["idle", "user"])
    );
    assert_eq!(values("/api/v1/label/instance/values?start=0&end=1000"), json!([]));
    let answer = server.get("/api/v1/label/__name__/values?limit=2").json();
    assert_eq!(answer["data"], json!(["node_cpu_seconds_total", "node_filesystem_avail_bytes"]));
    assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));

    let pairs = [("match[]", "node_load1{instance=\"db-1\"}"), ("match[]", "{__name__=~\"node_load\\\\d\"}")];
    let series = server.get(&format!("/api/v1/series?{}", encode(&pairs))).data();
    let row = |host: &str| json!({ "__name__": "node_load1", "instance": host, "note": "a\"b\\c<d>" });
    assert_eq!(series, json!([row("db-1"), row("web-1")]), "each once, whatever dialect the pattern is of");
    let start = (server.end_ms / 1000 - SECONDS).to_string();
    let first = [("match[]", "node_load1"), ("start", &*start), ("end", &*start)];
    assert_eq!(server.get(&format!("/api/v1/series?{}", encode(&first))).data().as_array().unwrap().len(), 2);

    let metadata = server.get("/api/v1/metadata").data();
    assert_eq!(
        metadata["node_load1"],
        json!([{ "type": "gauge", "help": "Load average over 1 minute.", "unit": "threads" }])
    );
    assert_eq!(metadata["node_cpu_seconds_total"][0]["type"], "counter");
    assert_eq!(server.get("/api/v1/metadata?metric=node_load1&limit=5").data().as_object().unwrap().len(), 1);
    assert_eq!(server.get("/api/v1/metadata?limit=2&limit_per_metric=-1").data().as_object().unwrap().len(), 2);
    assert_eq!(server.get("/api/v1/metadata?limit=0").data(), json!({}));
    assert_eq!(server.get("/api/v1/metadata?limit=x").error().0, 400);
}

#[test]
fn rules_and_alerts_have_prometheus_shape() {
    let server = Server::start();
    let alert = json!({
        "labels": { "alertname": "Load", "instance": "web-1", "severity": "critical" },
        "annotations": { "summary": "too much" },
        "state": "firing",
        "activeAt": "2026-03-01T02:14:07Z",
        "value": "5e-01",
    });
    assert_eq!(server.get("/api/v1/alerts").data(), json!({ "alerts": [alert] }));
    let groups = server.get("/api/v1/rules").data();
    let group = &groups["groups"][0];
    assert_eq!((&group["interval"], &group["rules"][0]["state"]), (&json!(5.0), &json!("firing")));
    assert_eq!(group["rules"][0]["alerts"], json!([alert]));
    assert_eq!(group["rules"][1]["lastError"], "many-to-many");
    assert_eq!(group["rules"][1]["lastEvaluation"], "0001-01-01T00:00:00Z");
    let names = |filter: &str| {
        let data = server.get(&format!("/api/v1/rules?{filter}")).data();
        let groups = data["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
        rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("type=record"), ["job:load"]);
    assert_eq!(names("rule_name[]=Load"), ["Load"]);
    assert_eq!(names("rule_group[]=other"), Vec::<String>::new());
    assert_eq!(names("match[]=%7Bseverity%3D%22critical%22%7D"), ["Load"]);
    assert_eq!(server.get("/api/v1/rules?exclude_alerts=true").data()["groups"][0]["rules"][0]["alerts"], json!([]));
    assert_eq!(server.get("/api/v1/rules?type=x").error().0, 400);
    let page = server.get("/api/v1/rules?group_limit=1").data();
    assert_eq!((page["groups"].as_array().unwrap().len(), page["groupNextToken"].is_string()), (1, true));
    let token = page["groupNextToken"].as_str().unwrap();
    let page = server.get(&format!("/api/v1/rules?group_limit=5&group_next_token={token}")).data();
    assert_eq!((&page["groups"][0]["name"], page.get("groupNextToken")), (&json!("quiet"), None));
    for wrong in ["group_next_token=x", "group_limit=0", "group_limit=1&group_next_token=x"] {
        assert_eq!(server.get(&format!("/api/v1/rules?{wrong}")).error().0, 400, "{wrong}");
    }
}

#[test]
fn the_rest_is_there() {
    let server = Server::start();
    let build = server.get("/api/v1/status/buildinfo").data();
    assert!(build["version"].as_str().unwrap().starts_with("3."), "{build}");
    assert_eq!(build.get("features"), None);
    let form = [("query", "sum  by(instance)(node_load1) + 1")];
    assert_eq!(server.post_form("/api/v1/format_query", &form).data(), "sum by (instance) (node_load1) + 1");
    let long = format!("sum by (instance) ({}1)", "node_load1 + ".repeat(10));
    let lines = server.post_form("/api/v1/format_query", &[("query", &long)]).data();
    assert!(lines.as_str().unwrap().starts_with("sum by (instance) (\n          node_load1 + "), "{lines}");
    let tree = server.get("/api/v1/parse_query?query=rate(up[5m])").data();
    assert_eq!((&tree["func"]["name"], &tree["args"][0]["range"]), (&json!("rate"), &json!(300_000)));
    assert_eq!(server.get("/api/v1/parse_query?query=rate(up)").error().1, "bad_data");
    assert_eq!(server.get("/api/v1/query_exemplars?query=up&start=0&end=1").data(), json!([]));
    let flags = server.get("/api/v1/status/flags").data();
    assert_eq!((&flags["query.lookback-delta"], &flags["query.timeout"]), (&json!("5m"), &json!("2m")));
    assert!(server.get("/api/v1/status/config").data()["yaml"].is_string());
    let runtime = server.get("/api/v1/status/runtimeinfo").data();
    assert!(runtime["goroutineCount"].as_u64().unwrap() > 0 && runtime["startTime"].is_string(), "{runtime}");
    let tsdb = server.get("/api/v1/status/tsdb?limit=1").data();
    assert_eq!(tsdb["seriesCountByMetricName"], json!([{ "name": "node_cpu_seconds_total", "value": 4 }]));
    assert_eq!(tsdb["seriesCountByLabelValuePair"], json!([{ "name": "instance=db-1", "value": 9 }]));
    assert_eq!(tsdb["labelValueCountByLabelName"], json!([{ "name": "__name__", "value": 8 }]));
    assert_eq!(server.get("/api/v1/status/tsdb?limit=99999").error().0, 400);
    let metrics = server.get("/metrics");
    assert_eq!((metrics.status, &*metrics.kind), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.body.contains("pitwatch_collector_up 1"));
}
