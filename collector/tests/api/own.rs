//! The collector's own endpoints: hosts, agents, tokens, alerts, status.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;

#[test]
fn hosts_come_worst_first_with_their_numbers() {
    let server = Server::start();
    let data = server.get("/api/v1/pitwatch/hosts").data();
    assert_eq!(data["counts"], json!({ "alerting": 1, "silent": 1, "well": 1 }));
    let hosts = data["hosts"].as_array().unwrap();
    let order: Vec<(&Value, &Value)> = hosts.iter().map(|host| (&host["name"], &host["state"])).collect();
    let (web, old, db) = (json!("web-1"), json!("old-1"), json!("db-1"));
    assert_eq!(order, [(&web, &json!("alerting")), (&old, &json!("silent")), (&db, &json!("well"))]);
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6 * expected;
    let web = &hosts[0];
    assert!(near(&web["cpu_ratio"], 0.5) && near(&web["memory_ratio"], 0.75), "{web}");
    assert!(near(&web["disk_ratio"], 0.75) && near(&web["network_bytes_per_second"], 2.5e6), "{web}");
    assert_eq!(web["disk_mountpoint"], "/");
    assert_eq!(web["alerts"][0]["name"], "Load");
    assert_eq!(web["since_ms"], 1_772_331_250_000_i64);
    assert_eq!(hosts[1]["cpu_ratio"], Value::Null);
    assert_eq!(hosts[1]["since_ms"], server.end_ms - 600_000);
    assert_eq!(hosts[2]["since_ms"], Value::Null);
    assert_eq!(hosts[2]["labels"], json!({ "role": "game" }));
}

#[test]
fn agents_are_listed_and_revoked() {
    let server = Server::start();
    let agents = server.get("/api/v1/pitwatch/agents").data();
    assert_eq!(agents["agents"].as_array().unwrap().len(), 4);
    assert_eq!(agents["agents"][0]["state"], "connected");
    assert_eq!(agents["agents"][0]["remote_address"], "10.0.0.7:51000");
    let revoke = |name: &str| {
        let path = format!("/api/v1/pitwatch/agents/{name}/revoke");
        server.send(server.request(Method::POST, &path).bearer_auth(&server.admin))
    };
    assert_eq!(revoke("db-1").data(), json!({ "name": "db-1" }));
    assert_eq!(revoke("web%201").status, 200);
    let revoked = server.world.revoked.lock().unwrap().clone();
    assert_eq!(revoked, [("db-1".to_owned(), "ann".to_owned()), ("web 1".to_owned(), "ann".to_owned())]);
    assert_eq!(revoke("nobody").error().0, 404);
    assert_eq!(revoke("gone-1").error().0, 409);
    assert_eq!(revoke("sick-1").error().0, 503);
}

#[test]
fn tokens_are_made_listed_and_deleted() {
    let server = Server::start();
    let create = |body: Value| server.send_json(Method::POST, "/api/v1/pitwatch/tokens", &server.admin, &body);
    let enroll = create(json!({ "kind": "enroll", "name": "db-2", "ttl_secs": 60 })).data();
    assert_eq!(enroll["token"], "pwe1_for_db-2_by_ann_60");
    assert_eq!(enroll["collector"], "watch.example:4717");
    assert_eq!(create(json!({ "kind": "enroll" })).data()["token"], "pwe1_for_any_by_ann_3600");
    assert_eq!(create(json!({ "kind": "enroll", "ttl_secs": 9_000_000 })).error().0, 400);

    let api = create(json!({ "kind": "api", "name": "grafana", "role": "viewer", "ttl_secs": 3600 })).data();
    let (token, id) = (api["token"].as_str().unwrap(), api["id"].as_str().unwrap());
    let labels = || server.send(server.request(Method::GET, "/api/v1/labels").bearer_auth(token)).status;
    assert_eq!(labels(), 200);
    let listed = server.send(server.request(Method::GET, "/api/v1/pitwatch/tokens").bearer_auth(&server.admin)).data();
    assert_eq!(listed["enroll"][0]["used"], true);
    let ours = listed["api"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone();
    assert_eq!(
        (&ours["name"], &ours["role"], &ours["created_by"]),
        (&json!("grafana"), &json!("viewer"), &json!("ann"))
    );
    assert!(ours["last_used_ms"].as_i64().is_some());
    assert!(!listed.to_string().contains("pwa1_"), "no list shows a secret");

    let delete = || {
        let path = format!("/api/v1/pitwatch/tokens/{id}");
        server.send(server.request(Method::DELETE, &path).bearer_auth(&server.admin))
    };
    assert_eq!(delete().data()["name"], "grafana");
    assert_eq!(labels(), 401);
    assert_eq!(delete().error().0, 404);
    for wrong in [
        json!({ "kind": "api", "name": "x", "role": "root" }),
        json!({ "kind": "api", "name": "", "role": "viewer" }),
        json!({ "kind": "api", "name": "x", "role": "viewer", "ttl_secs": 0 }),
        json!({ "kind": "api", "name": "x", "role": "viewer", "typo": 1 }),
        json!({ "kind": "other" }),
        json!([]),
    ] {
        assert_eq!(create(wrong.clone()).error().0, 400, "{wrong}");
    }
}

#[test]
fn alerts_and_status_say_what_prometheus_does_not() {
    let server = Server::start();
    let alerts = server.get("/api/v1/pitwatch/alerts").data();
    assert_eq!(alerts["alerts"][0]["fired_at_ms"], 1_772_331_250_000_i64);
    assert_eq!(alerts["receivers"][0]["last_error"], "HTTP 500");

    let status = server.get("/api/v1/pitwatch/status").data();
    assert_eq!(status["agents"], json!({ "connected": 2, "away": 1, "revoked": 1 }));
    assert_eq!(status["alerts"], json!({ "firing": 1, "pending": 0 }));
    assert_eq!((&status["ready"], &status["sections"]["wal"]["wal_bytes"]), (&json!(true), &json!(1024)));

    *server.world.not_ready.lock().unwrap() = Some("the disk is full".to_owned());
    let ready = server.send(server.request(Method::GET, "/-/ready"));
    assert_eq!(ready.status, 503);
    assert!(!ready.body.contains("disk"), "why is for those with a token: {}", ready.body);
    assert_eq!(server.get("/api/v1/pitwatch/status").data()["not_ready_reason"], "the disk is full");
    assert_eq!(server.send(server.request(Method::GET, "/-/healthy")).status, 200);
}
