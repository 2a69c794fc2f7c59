//! Silences by Alertmanager's API, acknowledgements, incidents, previews, and links in messages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;

fn silence(matchers: &Value) -> Value {
    json!({
        "matchers": matchers, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "ann", "comment": "disk swap",
    })
}

#[test]
fn silences_have_alertmanagers_forms() {
    let server = Server::start();
    let load = json!([{ "name": "instance", "value": "web-.*", "isRegex": true, "isEqual": true }]);
    let post = |body: &Value, token: &str| server.send_json(Method::POST, "/api/v2/silences", token, body);
    assert_eq!(post(&silence(&load), &server.viewer).status, 403);
    let id = post(&silence(&load), &server.operator).json()["silenceID"].as_str().unwrap().to_owned();
    let listed = server.get("/api/v2/silences?filter=instance=web-.*").json();
    assert_eq!((&listed[0]["id"], &listed[0]["status"]["state"]), (&json!(id), &json!("active")));
    assert_eq!(listed[0]["matchers"], load);
    assert_eq!(server.get("/api/v2/silences?filter=instance=db").json(), json!([]));
    assert_eq!(server.get(&format!("/api/v2/silence/{id}")).json()["comment"], "disk swap");
    let delete = |token: &str| server.send_json(Method::DELETE, &format!("/api/v2/silence/{id}"), token, &json!({}));
    assert_eq!(delete(&server.viewer).status, 403);
    assert_eq!(delete(&server.operator).status, 200);
    assert_eq!(server.get(&format!("/api/v2/silence/{id}")).json()["status"]["state"], "expired");
    let again = json!([{ "name": "a", "value": "b" }]);
    let mut weekly = silence(&again);
    weekly["recurrence"] = json!([{ "weekdays": ["saturday"], "location": "Europe/Berlin" }]);
    assert_eq!(post(&weekly, &server.operator).status, 200);
    for (wrong, said) in [
        (silence(&json!([])), "at least one matcher"),
        (silence(&json!([{ "name": "a", "value": ".*", "isRegex": true }])), "match everything"),
        (silence(&json!([{ "name": "a", "value": "(", "isRegex": true }])), "cannot read the silence"),
        (json!({ "matchers": again }), "cannot read the silence"),
    ] {
        let answer = post(&wrong, &server.operator);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.json().as_str().unwrap().contains(said), "{}", answer.body);
    }
    assert_eq!(server.get("/api/v2/silence/none").status, 404);
}

#[test]
fn alerts_groups_receivers_and_status_have_alertmanagers_forms() {
    let server = Server::start();
    let alerts = server.get("/api/v2/alerts").json();
    assert_eq!((&alerts[0]["labels"]["alertname"], &alerts[0]["status"]["state"]), (&json!("Load"), &json!("active")));
    assert_eq!(alerts[0]["receivers"], json!([{ "name": "chat" }]));
    assert_eq!(server.get("/api/v2/alerts?filter=instance=db-1").json(), json!([]));
    assert_eq!(server.get("/api/v2/alerts?active=false").json(), json!([]));
    assert_eq!(server.get("/api/v2/alerts?filter={").status, 400);
    let groups = server.get("/api/v2/alerts/groups").json();
    assert_eq!(
        (&groups[0]["labels"], &groups[0]["alerts"][0]["fingerprint"]),
        (&json!({ "alertname": "Load" }), &alerts[0]["fingerprint"])
    );
    assert_eq!(server.get("/api/v2/receivers").json(), json!([{ "name": "chat" }]));
    let status = server.get("/api/v2/status").json();
    assert_eq!(
        (&status["cluster"]["status"], &status["config"]["original"]),
        (&json!("disabled"), &json!("route:\n  receiver: chat\n"))
    );
}

#[test]
fn people_take_alerts() {
    let server = Server::start();
    let alert = server.get("/api/v1/pitwatch/alerts").data()["alerts"][0].clone();
    let print = alert["fingerprint"].as_str().unwrap();
    assert_eq!(
        (&alert["state"], &alert["acknowledged"], &alert["silenced_by"]),
        (&json!("firing"), &json!(null), &json!([]))
    );
    let act = |what: &str, token: &str, body: &Value| {
        server.send_json(Method::POST, &format!("/api/v1/pitwatch/alerts/{print}/{what}"), token, body)
    };
    assert_eq!(act("ack", &server.viewer, &json!({})).status, 403);
    let acked = act("ack", &server.operator, &json!({ "comment": "on it" })).data();
    assert_eq!(acked["acknowledged"]["comment"], "on it");
    assert_eq!(act("assign", &server.operator, &json!({ "to": "bob" })).data()["assigned_to"], "bob");
    assert_eq!(act("unack", &server.operator, &json!({})).data()["acknowledged"], json!(null));
    for (what, body) in [("assign", json!({})), ("comment", json!({})), ("ack", json!({ "x": 1 }))] {
        assert_eq!(act(what, &server.operator, &body).error().0, 400, "{what}");
    }
    assert_eq!(act("praise", &server.operator, &json!({})).error().0, 404);
    let gone = server.send_json(Method::POST, "/api/v1/pitwatch/alerts/00/ack", &server.operator, &json!({}));
    assert!(gone.error().2.contains("pitwatch alerts"));
    assert_eq!(server.get("/api/v1/pitwatch/incidents").data(), json!({ "incidents": [], "more": false }));
    assert_eq!(server.get("/api/v1/pitwatch/incidents?state=odd").error().0, 400);
    assert_eq!(server.get("/api/v1/pitwatch/incidents/9").error().0, 404);
}

#[test]
fn a_preview_says_what_would_be_held_back() {
    let server = Server::start();
    let ask = |matchers: Value| {
        let body = json!({ "matchers": matchers });
        server.send_json(Method::POST, "/api/v1/pitwatch/silences/preview", &server.viewer, &body)
    };
    let held = ask(json!("instance=~web-.*")).data();
    assert_eq!((&held["of"], &held["alerts"][0]["name"]), (&json!(1), &json!("Load")));
    assert_eq!(ask(json!([{ "name": "instance", "value": "db-1" }])).data()["alerts"], json!([]));
    for wrong in [json!("instance"), json!("a=~.*"), json!([]), json!(7)] {
        assert_eq!(ask(wrong.clone()).error().0, 400, "{wrong}");
    }
}

#[test]
fn a_link_in_a_message_asks_before_it_acts() {
    let server = Server::start();
    let ask = server.send(server.request(Method::GET, "/act/good.link"));
    assert_eq!((ask.status, ask.kind.as_str()), (200, "text/html; charset=utf-8"));
    assert!(ask.body.contains("too much") && ask.body.contains("Silence for 2 h"), "{}", ask.body);
    assert_eq!(server.get("/api/v2/silences").json(), json!([]), "looking changes nothing");
    let done = server.send(server.request(Method::POST, "/act/good.link"));
    assert!(done.body.contains("Silenced for 2 h"), "{}", done.body);
    assert_eq!(server.get("/api/v2/silences").json()[0]["createdBy"], "a link in a message");
    assert_eq!(server.send(server.request(Method::GET, "/act/other.link")).status, 404);
}
