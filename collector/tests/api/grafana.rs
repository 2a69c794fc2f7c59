//! The requests that Grafana's Prometheus data source sends, in its own words: forms, headers, parameters and what it
//! reads of the answers.

use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE};
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
