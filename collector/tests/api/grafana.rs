//! The requests that Grafana's Prometheus data source sends, in its own words: forms, headers, parameters and what it
//! reads of the answers.

use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};

use crate::server::{Answer, Server, encode};

/// Posts a form as Grafana's server does: with the user and password of the data source, asking for gzip.
fn post(server: &Server, path: &str, form: &[(&str, &str)]) -> Answer {
    let request = server.request(Method::POST, path).basic_auth("grafana", Some(&server.viewer));
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    server.send(request.header("X-Grafana-Org-Id", "1").body(encode(form)))
}

fn get(server: &Server, path: &str, query: &[(&str, &str)]) -> Answer {
    let path = format!("{path}?{}", encode(query));
    server.send(server.request(Method::GET, &path).basic_auth("grafana", Some(&server.viewer)))
}

/// Start and end of a panel's time, in seconds, as a step of 15 s aligns them.
fn times(server: &Server) -> (String, String) {
    let end = server.end_ms / 1000 / 15 * 15;
    ((end - 30).to_string(), end.to_string())
}

fn rfc3339(seconds: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[test]
fn save_and_test_finds_a_prometheus() {
    let server = Server::start();
    let answer = post(&server, "/api/v1/query", &[("query", "1+1"), ("time", "4")]).json();
    assert_eq!(answer, json!({ "status": "success", "data": { "resultType": "scalar", "result": [4, "2"] } }));
    let build = get(&server, "/api/v1/status/buildinfo", &[]).data();
    for field in ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"] {
        assert!(build[field].is_string(), "{field}");
    }
    assert_eq!(build.get("features"), None, "what has features is taken for Mimir");
    assert!(get(&server, "/api/v1/rules", &[]).data()["groups"].is_array(), "whether there are rules to show");
}

#[test]
fn a_health_check_as_alerting_and_the_plugin_send_it() {
    let server = Server::start();
    // `/api/datasources/uid/X/health` of Grafana: `1+1` at time 4 with the headers of its backend, then what kind it is.
    let form = encode(&[("query", "1+1"), ("time", "4")]);
    let request = server.request(Method::POST, "/api/v1/query").basic_auth("grafana", Some(&server.viewer));
    let request = request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(USER_AGENT, "Grafana/12.0.0")
        .header(ACCEPT_ENCODING, "gzip")
        .header("X-Datasource-Uid", "pitwatch")
        .header("X-Grafana-Org-Id", "1")
        .header("X-Plugin-Id", "prometheus")
        .header("Idempotency-Key", "");
    assert_eq!(server.send(request.body(form)).data()["result"], json!([4, "2"]));
    // Without a token, and with a wrong one: the words that it shows.
    let bare = server.request(Method::POST, "/api/v1/query").basic_auth("grafana", Some("wrong"));
    assert_eq!(server.send(bare).error().0, 401);
    // GET, as a data source that is set to it sends it; and at no time, which is now.
    assert_eq!(get(&server, "/api/v1/query", &[("query", "1+1"), ("time", "4")]).data()["result"], json!([4, "2"]));
    assert_eq!(post(&server, "/api/v1/query", &[("query", "vector(1)"), ("timeout", "60s")]).status, 200);
}

#[test]
fn times_come_as_each_caller_writes_them() {
    let server = Server::start();
    let end = server.end_ms / 1000 / 15 * 15;
    let (start_text, end_text) = (rfc3339(end - 30), rfc3339(end));
    let float = format!("{end}.000");
    // Explore and panels: seconds; the Go client of alerting: seconds with a fraction; promlens and others: RFC 3339.
    for (start, end_as) in
        [((end - 30).to_string(), end.to_string()), (format!("{}.000", end - 30), float), (start_text, end_text)]
    {
        let form = [("query", "node_load1"), ("start", &*start), ("end", &*end_as), ("step", "15"), ("timeout", "60s")];
        let data = post(&server, "/api/v1/query_range", &form).data();
        let values = data["result"][0]["values"].as_array().unwrap();
        assert_eq!((values.len(), &values[2][0]), (3, &json!(end)), "{start}");
    }
    for step in ["15", "15.000", "15s", "0.25m"] {
        let form =
            [("query", "node_load1"), ("start", &*(end - 30).to_string()), ("end", &*end.to_string()), ("step", step)];
        let answer = post(&server, "/api/v1/query_range", &form);
        assert_eq!(answer.status == 200, step != "0.25m", "{step}: {}", answer.body);
    }
    // What is too fine is refused with a reason, not cut.
    let form = [("query", "node_load1"), ("start", "0"), ("end", "11001"), ("step", "1")];
    let (status, kind, text) = post(&server, "/api/v1/query_range", &form).error();
    assert_eq!((status, &*kind), (400, "bad_data"), "{text}");
}

#[test]
fn annotations_ask_for_alerts_over_time() {
    let server = Server::start();
    let (start, end) = times(&server);
    // An annotation of Prometheus' kind asks a range with its own step; the answer's labels become its text.
    let form = [
        ("query", "ALERTS{alertstate=\"firing\",instance=~\"db-1|web-1\"}"),
        ("start", &*start),
        ("end", &*end),
        ("step", "30"),
    ];
    assert_eq!(post(&server, "/api/v1/query_range", &form).data(), json!({ "resultType": "matrix", "result": [] }));
    let changes = [("query", "changes(node_load1[1m]) >= 0"), ("start", &*start), ("end", &*end), ("step", "15")];
    let data = post(&server, "/api/v1/query_range", &changes).data();
    assert_eq!(data["result"][0]["metric"]["instance"], "db-1");
}

#[test]
fn the_alert_list_shows_our_rules() {
    let server = Server::start();
    // Alerting's list of a data source's rules, by pages since Grafana 12.
    let groups = get(&server, "/api/v1/rules", &[]).data();
    let group = &groups["groups"][0];
    for field in ["name", "file", "interval", "rules", "evaluationTime", "lastEvaluation"] {
        assert!(!group[field].is_null(), "{field}");
    }
    let rule = &group["rules"][0];
    for field in ["state", "name", "query", "duration", "labels", "annotations", "alerts", "health", "type"] {
        assert!(!rule[field].is_null(), "{field}");
    }
    let alert = &rule["alerts"][0];
    assert_eq!((&alert["state"], &alert["value"]), (&json!("firing"), &json!("5e-01")));
    assert!(alert["activeAt"].as_str().unwrap().ends_with('Z'));
    let page = get(&server, "/api/v1/rules", &[("group_limit", "1")]).data();
    assert_eq!(page["groups"].as_array().unwrap().len(), 1);
    let token = page["groupNextToken"].as_str().unwrap().to_owned();
    let rest = get(&server, "/api/v1/rules", &[("group_limit", "1"), ("group_next_token", &token)]).data();
    assert_eq!((&rest["groups"][0]["name"], rest.get("groupNextToken")), (&json!("quiet"), None));
    let one = [
        ("type", "alert"),
        ("rule_name[]", "Load"),
        ("rule_group[]", "node"),
        ("file[]", "/etc/pitwatch/rules/node.yml"),
    ];
    assert_eq!(get(&server, "/api/v1/rules", &one).data()["groups"][0]["rules"].as_array().unwrap().len(), 1);
    let labels = [("match[]", "{severity=\"critical\"}"), ("exclude_alerts", "true")];
    assert_eq!(get(&server, "/api/v1/rules", &labels).data()["groups"][0]["rules"][0]["alerts"], json!([]));
}

#[test]
fn the_metrics_explorer_and_completion_ask_for_more() {
    let server = Server::start();
    let (start, end) = times(&server);
    let span = [("start", &*start), ("end", &*end)];
    // Metrics drilldown: names by a pattern, with a limit that says when it cut.
    let pattern = [span[0], span[1], ("match[]", "{__name__=~\"(?i).*network.*\"}"), ("limit", "1")];
    let answer = get(&server, "/api/v1/label/__name__/values", &pattern);
    assert_eq!(answer.data(), json!(["node_network_receive_bytes_total"]));
    assert_eq!(answer.json()["warnings"], json!(["results truncated due to limit"]));
    // Several selectors, as ad-hoc filters over several panels make them.
    let several =
        [span[0], span[1], ("match[]", "node_load1"), ("match[]", "node_memory_MemTotal_bytes{instance=\"db-1\"}")];
    assert_eq!(post(&server, "/api/v1/series", &several).data().as_array().unwrap().len(), 3);
    assert_eq!(post(&server, "/api/v1/labels", &several).data(), json!(["__name__", "instance", "note"]));
    // A name of UTF-8, escaped as the language provider does it.
    assert_eq!(get(&server, "/api/v1/label/U__a_2e_b/values", &span).data(), json!([]));
    // Metadata of one metric, for its hint; and of one that is not there.
    let one = get(&server, "/api/v1/metadata", &[("metric", "node_load1"), ("limit_per_metric", "1")]).data();
    assert_eq!((&one["node_load1"][0]["type"], one.as_object().unwrap().len()), (&json!("gauge"), 1));
    assert!(one["node_load1"][0]["help"].is_string() && one["node_load1"][0]["unit"].is_string());
    assert_eq!(get(&server, "/api/v1/metadata", &[("metric", "nope")]).data(), json!({}));
    // The query editor formats and explains.
    let format = get(&server, "/api/v1/format_query", &[("query", "sum(rate(a[5m]))by(b)")]).data();
    assert_eq!(format, "sum by (b) (rate(a[5m]))");
    assert_eq!(get(&server, "/api/v1/parse_query", &[("query", "a")]).data()["type"], "vectorSelector");
    // What only Mimir has is not there, and says so by 404.
    assert_eq!(get(&server, "/api/v1/status/buildinfo", &[]).status, 200);
    assert_eq!(get(&server, "/api/v1/cardinality/label_names", &[]).error().0, 404);
    assert_eq!(get(&server, "/config/v1/rules", &[]).error().0, 404);
}

#[test]
fn a_panel_asks_for_a_range() {
    let server = Server::start();
    let (start, end) = times(&server);
    let query = "sum by (instance) (rate(node_network_receive_bytes_total{instance=~\"db-1|web-1\"}[1m0s]))";
    let form = [("query", query), ("start", &*start), ("end", &*end), ("step", "15")];
    let data = post(&server, "/api/v1/query_range", &form).data();
    assert_eq!(data["resultType"], "matrix");
    let rows = data["result"].as_array().unwrap();
    assert_eq!(rows[0]["metric"], json!({ "instance": "db-1" }));
    assert_eq!(rows[0]["values"].as_array().unwrap().len(), 3);
    assert_eq!(rows[1]["values"][2], json!([end.parse::<i64>().unwrap(), "2000000"]));

    // A step of less than a second, as a narrow panel of a short time has it.
    let fine = [("query", "node_load1"), ("start", &*end), ("end", &*end), ("step", "0.2")];
    assert_eq!(post(&server, "/api/v1/query_range", &fine).status, 200);
    let table = [("query", "topk(1, node_load1)"), ("time", &*end)];
    assert_eq!(post(&server, "/api/v1/query", &table).data()["result"][0]["value"][1], "0.5");
    let exemplars = [("query", query), ("start", &*start), ("end", &*end)];
    assert_eq!(post(&server, "/api/v1/query_exemplars", &exemplars).data(), json!([]));
    let (status, kind, text) = post(&server, "/api/v1/query", &[("query", "sum("), ("time", &end)]).error();
    assert_eq!((status, &*kind), (400, "bad_data"));
    assert!(text.contains("1:5: parse error"), "{text}");
}

#[test]
fn the_query_builder_and_variables_ask_for_names() {
    let server = Server::start();
    let (start, end) = times(&server);
    let span = [("start", &*start), ("end", &*end)];
    let metrics = get(&server, "/api/v1/label/__name__/values", &span).data();
    assert!(metrics.as_array().unwrap().contains(&json!("node_load1")));
    let of_metric = [span[0], span[1], ("match[]", "{__name__=\"node_load1\"}"), ("limit", "40000")];
    assert_eq!(post(&server, "/api/v1/labels", &of_metric).data(), json!(["__name__", "instance", "note"]));
    assert_eq!(get(&server, "/api/v1/labels", &of_metric).data(), json!(["__name__", "instance", "note"]));
    assert_eq!(get(&server, "/api/v1/label/instance/values", &of_metric).data(), json!(["db-1", "web-1"]));
    // The variable `label_values(node_load1{instance="db-1"}, instance)`.
    let chosen = [span[0], span[1], ("match[]", "node_load1{instance=\"db-1\"}")];
    assert_eq!(get(&server, "/api/v1/label/instance/values", &chosen).data(), json!(["db-1"]));
    let series = post(&server, "/api/v1/series", &chosen).data();
    assert_eq!(series[0]["instance"], "db-1");
    // The variable `query_result(…)` and the builder's hints.
    let result = post(&server, "/api/v1/query", &[("query", "count(node_load1)"), ("time", &*end)]).data();
    assert_eq!(result["result"][0]["value"][1], "2");
    let metadata = get(&server, "/api/v1/metadata", &[("limit", "40000")]).data();
    assert_eq!(metadata["node_cpu_seconds_total"][0]["type"], "counter");
    let alerts = get(&server, "/api/v1/alerts", &[]).data();
    assert!(alerts["alerts"].is_array());
}

#[test]
fn a_long_answer_comes_in_pieces_and_compressed() {
    let server = Server::start();
    let form = encode(&[("query", "time() * vector(1)"), ("start", "0"), ("end", "11000"), ("step", "1")]);
    let path = format!("/api/v1/query_range?{form}");
    let plain = server.get(&path);
    assert!(plain.body.len() > 150_000, "{}", plain.body.len());
    assert_eq!(plain.headers.get("content-length"), None, "it is sent while it is written");
    assert_eq!(plain.data()["result"][0]["values"].as_array().unwrap().len(), 11_001);
    let short = server.get("/api/v1/query?query=1");
    assert!(short.headers.contains_key("content-length") && !short.headers.contains_key("content-encoding"));

    let packed = |encoding: &str| {
        let request = server.request(Method::GET, &path).bearer_auth(&server.viewer).header(ACCEPT_ENCODING, encoding);
        let (head, body) = server.bytes(request);
        assert_eq!(head["vary"], "accept-encoding");
        (head["content-encoding"].to_str().unwrap().to_owned(), body)
    };
    let (encoding, body) = packed("gzip");
    assert_eq!(encoding, "gzip");
    assert!(body.len() < plain.body.len() / 2);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*body), &mut text).unwrap();
    assert_eq!(text, plain.body);
    let (encoding, body) = packed("gzip;q=0.5, zstd");
    assert_eq!(encoding, "zstd");
    assert_eq!(String::from_utf8(zstd::decode_all(&*body).unwrap()).unwrap(), plain.body);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["status"], "success");
}
