//! Who may ask: tokens in their three places, roles, sessions, and that nothing answers without.

use base64::Engine as _;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use serde_json::json;

use crate::server::Server;

#[test]
fn nothing_but_health_answers_without_a_token() {
    let server = Server::start();
    let bare = |method: &Method, path: &str| server.send(server.request(method.clone(), path));
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(bare(&Method::GET, path).status, 200, "{path}");
    }
    let paths = [
        (Method::GET, "/plain"),
        (Method::GET, "/metrics"),
        (Method::GET, "/nope"),
        (Method::GET, "/api/v1/query?query=1"),
        (Method::POST, "/api/v1/query"),
        (Method::DELETE, "/api/v1/query"),
        (Method::GET, "/api/v1/query_range"),
        (Method::GET, "/api/v1/labels"),
        (Method::GET, "/api/v1/label/a/values"),
        (Method::GET, "/api/v1/series"),
        (Method::GET, "/api/v1/metadata"),
        (Method::GET, "/api/v1/rules"),
        (Method::GET, "/api/v1/alerts"),
        (Method::GET, "/api/v1/status/buildinfo"),
        (Method::GET, "/api/v1/format_query"),
        (Method::GET, "/api/v1/query_exemplars"),
        (Method::GET, "/api/v1/pitwatch/hosts"),
        (Method::GET, "/api/v1/pitwatch/agents"),
        (Method::POST, "/api/v1/pitwatch/agents/db-1/revoke"),
        (Method::GET, "/api/v1/pitwatch/alerts"),
        (Method::GET, "/api/v1/pitwatch/status"),
        (Method::GET, "/api/v1/pitwatch/live?query=up"),
        (Method::POST, "/api/v1/pitwatch/snapshot"),
        (Method::GET, "/api/v1/pitwatch/tokens"),
        (Method::POST, "/api/v1/pitwatch/tokens"),
        (Method::DELETE, "/api/v1/pitwatch/tokens/x"),
        (Method::GET, "/api/v1/pitwatch/session"),
        (Method::DELETE, "/api/v1/pitwatch/session"),
        (Method::POST, "/api/v1/pitwatch/session"),
    ];
    for (method, path) in paths {
        let answer = bare(&method, path);
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.body);
        if path != "/plain" {
            let (_, kind, text) = answer.error();
            assert_eq!(kind, "unauthorized");
            assert!(text.contains("pitwatch token create"), "{text}");
        }
    }
}

#[test]
fn tokens_are_taken_from_three_places() {
    let server = Server::start();
    let with = |name, value: String| {
        let request = server.request(Method::GET, "/api/v1/labels").header(name, value);
        server.send(request).status
    };
    let basic = |pair: String| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    assert_eq!(with(AUTHORIZATION, format!("Bearer {}", server.viewer)), 200);
    assert_eq!(with(AUTHORIZATION, basic(format!("grafana:{}", server.viewer))), 200);
    assert_eq!(with(AUTHORIZATION, basic(format!("{}:", server.viewer))), 401);
    assert_eq!(with(AUTHORIZATION, "Bearer pwa1_00000000000000000000000000000000".to_owned()), 401);
    assert_eq!(with(AUTHORIZATION, "Bearer".to_owned()), 401);
    assert_eq!(with(COOKIE, format!("pitwatch_session={}", server.viewer)), 200);
    assert_eq!(with(COOKIE, "pitwatch_session=x".to_owned()), 401);
}

#[test]
fn roles_are_enforced_and_named() {
    let server = Server::start();
    let asks = |token: &str| server.send(server.request(Method::GET, "/api/v1/pitwatch/tokens").bearer_auth(token));
    for token in [&server.viewer, &server.operator] {
        let (status, kind, text) = asks(token).error();
        assert_eq!((status, &*kind), (403, "forbidden"));
        assert!(text.contains("role admin is needed"), "{text}");
        let revoke = server.request(Method::POST, "/api/v1/pitwatch/agents/db-1/revoke").bearer_auth(token);
        assert_eq!(server.send(revoke).status, 403);
    }
    assert_eq!(asks(&server.admin).status, 200);
    assert!(server.world.revoked.lock().unwrap().is_empty());
}

#[test]
fn a_browser_signs_in_and_out() {
    let server = Server::start();
    let sign_in =
        |token: &str| server.send_json(Method::POST, "/api/v1/pitwatch/session", "", &json!({ "token": token }));
    assert_eq!(sign_in("pwa1_00000000000000000000000000000000").error().0, 401);
    let answer = sign_in(&server.admin);
    assert_eq!(answer.data(), json!({ "name": "ann", "role": "admin" }));
    let set = answer.cookie.unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains(&server.admin), "the cookie holds no API token");
    let cookie = set.split(';').next().unwrap().to_owned();

    let ask = |method: Method, path: &str| server.request(method, path).header(COOKIE, &cookie);
    let who = server.send(ask(Method::GET, "/api/v1/pitwatch/session")).data();
    assert_eq!(who, json!({ "name": "ann", "role": "admin" }));
    let revoke = "/api/v1/pitwatch/agents/db-1/revoke";
    let foreign = ask(Method::POST, revoke).header(ORIGIN, "http://127.0.0.1:3000");
    let (status, _, text) = server.send(foreign).error();
    assert!(status == 403 && text.contains("another site"), "{text}");
    let own = ask(Method::POST, revoke).header(ORIGIN, server.url("")).header(HOST, &server.address);
    assert_eq!(server.send(own).status, 200);

    let out = server.send(ask(Method::DELETE, "/api/v1/pitwatch/session"));
    assert!(out.cookie.unwrap().contains("Max-Age=0"));
    assert_eq!(server.send(ask(Method::GET, "/api/v1/labels")).status, 401);
}

#[test]
fn a_link_with_a_token_signs_in() {
    let server = Server::start();
    let answer = server.send(server.request(Method::GET, &format!("/?token={}", server.viewer)));
    assert_eq!((answer.status, answer.location.as_deref()), (303, Some("/")));
    let cookie = answer.cookie.unwrap();
    let page = server.send(server.request(Method::GET, "/").header(COOKIE, cookie.split(';').next().unwrap()));
    assert_eq!(page.status, 200);
    let elsewhere = server.request(Method::GET, &format!("/?token={}", server.viewer));
    let (status, _, text) = server.send(elsewhere.header("sec-fetch-site", "cross-site")).error();
    assert!(status == 403 && text.contains("address bar"), "{text}");
    assert_eq!(server.send(server.request(Method::GET, "/?token=pwa1_x")).status, 401);
    let form = server.request(Method::POST, "/api/v1/pitwatch/session");
    let form =
        form.header("content-type", "application/x-www-form-urlencoded").body(format!("token={}", server.viewer));
    assert_eq!(server.send(form).status, 303);
}

#[test]
fn the_local_token_is_an_admins() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let token = server.access.write_local_file(dir.path(), &server.url(""), None).unwrap();
    let tokens = server.send(server.request(Method::GET, "/api/v1/pitwatch/tokens").bearer_auth(token));
    assert_eq!(tokens.status, 200);
}

/// A program's sign-in with a good token.
fn attempt(server: &Server) -> reqwest::RequestBuilder {
    let request = server.request(Method::POST, "/api/v1/pitwatch/session").header(CONTENT_TYPE, "application/json");
    request.body(json!({ "token": server.viewer }).to_string())
}

#[test]
fn a_session_is_always_new_and_takes_the_place_of_the_one_before() {
    let server = Server::start();
    let sign_in = |cookie: &str| {
        let answer = server.send(attempt(&server).header(COOKIE, cookie));
        answer.cookie.unwrap().split(';').next().unwrap().to_owned()
    };
    let status = |cookie: &str| {
        server.send(server.request(Method::GET, "/api/v1/pitwatch/session").header(COOKIE, cookie)).status
    };
    // A session that somebody else put into the browser is not taken over.
    let planted = format!("pitwatch_session=pws1_{}", "a".repeat(32));
    let first = sign_in(&planted);
    assert_ne!(first, planted);
    assert_eq!((status(&planted), status(&first)), (401, 200));
    let second = sign_in(&first);
    assert_eq!((status(&first), status(&second)), (401, 200));
}

#[test]
fn another_site_signs_nobody_in_and_nobody_tries_without_end() {
    let server = Server::start();
    let foreign = server.send(attempt(&server).header(ORIGIN, "https://elsewhere.example"));
    assert_eq!((foreign.status, foreign.cookie), (403, None));
    let statuses: Vec<u16> = (0..30).map(|_| server.send(attempt(&server)).status).collect();
    assert_eq!((statuses[0], *statuses.last().unwrap()), (200, 429), "{statuses:?}");
    // Whoever is in stays in.
    assert_eq!(server.get("/api/v1/labels").status, 200);
}
