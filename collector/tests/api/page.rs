//! What a browser sees.

use reqwest::Method;

use crate::server::Server;

#[test]
fn the_page_is_self_contained_and_strict() {
    let server = Server::start();
    let page = server.get("/");
    assert_eq!((page.status, &*page.kind), (200, "text/html; charset=utf-8"));
    for expected in ["web-1", "✖ alerting", "… silent", "75%", "2.50 MB/s", "pitwatch query"] {
        assert!(page.body.contains(expected), "{expected} in {}", page.body);
    }
    for foreign in ["http://", "https://", "<script", "onload"] {
        assert!(!page.body.contains(foreign), "{foreign} in {}", page.body);
    }
    let header = |name: &str| page.headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert!(header("content-security-policy").starts_with("default-src 'none'; style-src 'sha256-"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");

    let sign_in = server.send(server.request(Method::GET, "/"));
    assert_eq!(sign_in.status, 401);
    assert!(sign_in.body.contains("type=\"password\"") && !sign_in.body.contains("web-1"));
}
