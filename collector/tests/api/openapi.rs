//! The description of the API is of this API: what it names is there, what is there it names, and it can be read.

use reqwest::Method;
use serde_json::Value;

use crate::server::Server;

const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

fn document(server: &Server) -> Value {
    let answer = server.get("/api/v1/openapi.json");
    assert_eq!((answer.status, &*answer.kind), (200, "application/json"));
    answer.json()
}

/// Every path with its description by method, and an address that fits it.
fn paths(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.map(|(path, item)| (path.clone(), path.replace(['{', '}'], ""), item.clone())).collect()
}

#[test]
fn each_method_is_there_and_no_other() {
    let server = Server::start();
    let document = document(&server);
    for (path, address, item) in paths(&document) {
        for name in METHODS {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
            let answer = server.send(server.request(method, &address).bearer_auth(&server.admin));
            let is_there = item.get(name).is_some();
            assert_eq!(answer.status != 405, is_there, "{name} {path}: {}", answer.body);
        }
    }
    assert!(paths(&document).len() > 25);
}

#[test]
fn what_wants_a_token_says_so() {
    let server = Server::start();
    let document = document(&server);
    for (path, address, item) in paths(&document) {
        for (name, said) in item.as_object().unwrap() {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
            let answer = server.send(server.request(method, &address));
            let refused = answer.status == 401;
            let wants = said["responses"].get("401").is_some();
            // The interface's page is for everybody; a collector that is built without it has a form to sign in there.
            assert!(refused == wants || path == "/", "{name} {path}: {} {}", answer.status, answer.body);
            if said["security"].is_array() {
                assert!(refused, "{name} {path} answers without a token");
                assert!(said["description"].as_str().unwrap().contains("Needs the role "), "{name} {path}");
            }
        }
    }
}

#[test]
fn names_are_unique_and_references_lead_somewhere() {
    let server = Server::start();
    let document = document(&server);
    let items = document["paths"].as_object().unwrap().values();
    let mut names: Vec<&str> = items
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|said| {
            assert!(!said["summary"].as_str().unwrap().is_empty());
            said["operationId"].as_str().unwrap()
        })
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_reference_names_every_path() {
    let server = Server::start();
    let reference = include_str!("../../../docs/reference/http-api.md");
    for (path, _, _) in paths(&document(&server)) {
        let parts = ["name", "id", "token", "fingerprint", "what"];
        let written =
            parts.iter().fold(path.clone(), |path, part| path.replace(&format!("{{{part}}}"), &part.to_uppercase()));
        let short = written.replace("/api/v1/pitwatch/", "…/");
        let named = [&written, &short].into_iter().any(|path| reference.contains(&format!("`{path}`")));
        let listed = reference.contains(&format!(" {short}`"));
        assert!(named || listed || path == "/", "{written} is not in docs/reference/http-api.md");
    }
}

#[test]
fn people_read_it_as_a_page() {
    let server = Server::start();
    let page = server.get("/api/docs");
    assert_eq!((page.status, &*page.kind), (200, "text/html; charset=utf-8"));
    for (path, _, _) in paths(&document(&server)) {
        assert!(page.body.contains(&format!(" {path}</code>")), "{path}");
    }
    for foreign in ["http://", "https://", "<script", "onload", "<img"] {
        assert!(!page.body.contains(foreign), "{foreign}");
    }
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let sign_in = server.send(server.request(Method::GET, "/api/docs"));
    assert!(sign_in.status == 401 && sign_in.body.contains("type=\"password\""));
}
