//! What a browser sees: the plain page, and the web interface where it is built in.

use reqwest::Method;

use crate::server::Server;

#[test]
fn the_page_is_self_contained_and_strict() {
    let server = Server::start();
    let page = server.get("/plain");
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

    let sign_in = server.send(server.request(Method::GET, "/plain"));
    assert_eq!(sign_in.status, 401);
    assert!(sign_in.body.contains("type=\"password\"") && !sign_in.body.contains("web-1"));
}

/// The interface is in the program if `make ui` came before the build; both kinds of program are right.
#[test]
fn the_interface_is_fenced_in_and_kept_by_browsers() {
    let server = Server::start();
    let open = |path: &str| server.send(server.request(Method::GET, path));
    let shell = open("/hosts/db-1");
    if shell.status == 404 {
        assert!(shell.error().2.contains("make ui"));
        let page = server.get("/");
        assert!(page.body.contains("make ui"), "{}", page.body);
        return;
    }
    let header = |answer: &crate::server::Answer, name: &str| answer.headers[name].to_str().unwrap().to_owned();
    assert_eq!((shell.status, &*shell.kind), (200, "text/html; charset=utf-8"));
    let policy = header(&shell, "content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(header(&shell, name), value);
    }
    let known = server.request(Method::GET, "/").header("if-none-match", header(&shell, "etag"));
    assert_eq!(server.send(known).status, 304);

    let script = shell.body.split('"').find(|text| text.ends_with(".js")).unwrap();
    let file = |encoding: &str| server.bytes(server.request(Method::GET, script).header("accept-encoding", encoding));
    let (head, plain) = file("identity");
    assert!(head.get("content-encoding").is_none() && head["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(head["content-type"], "text/javascript; charset=utf-8");
    let (head, packed) = file("gzip");
    assert_eq!(head["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed), &mut unpacked).unwrap();
    assert!(unpacked == plain && packed.len() < plain.len());
    let (head, smallest) = file("gzip, br");
    assert!(head["content-encoding"] == "br" && smallest.len() < packed.len());
    for wrong in ["/assets/nope.js", "/assets/..%2findex.html", "/assets/%00"] {
        assert_eq!(open(wrong).status, 404, "{wrong}");
    }
}
