//! The HTTP port against clients that are slow, large or many: each costs its own connection, and the API answers on.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pitwatch_collector::api::{CONNECTIONS_MAX, HEAD_TIMEOUT, LIVE_MAX_A_CLIENT};
use pitwatch_tests::http::Row;
use pitwatch_tests::programs::{Agent, Collector};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{FAST, listed, ticks, unix_ms, wait_for, wait_for_tick};

/// How long a slow client may live before the test has failed: a good deal more than the longest limit.
const PATIENCE: Duration = Duration::from_secs(90);

fn connect(collector: &Collector) -> TcpStream {
    let stream = TcpStream::connect(collector.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes until the other side closes.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it is not closed: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn slow_clients_are_cut() {
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(temp.path(), "", "").unwrap();
    let token = collector.token().unwrap();
    let begin = |text: &str| {
        let mut stream = connect(&collector);
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n";
    let slow_head = begin("GET /-/healthy HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    let silent = begin("");
    let slow_form =
        begin(&format!("POST /api/v1/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{form}\r\nquery="));
    let slow_sign_in = begin(&format!("POST /api/v1/pitwatch/session HTTP/1.1\r\nHost: x\r\n{form}\r\ntoken="));
    let idle = begin("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
    // An answer of some megabytes to somebody who does not read it.
    let wide = "GET /api/v1/query_range?query=label_replace(vector(1),%22a%22,%22x%22,%22%22,%22%22)%20or%20time()%20*%20vector(3.3333)&start=0&end=10999&step=1 HTTP/1.1\r\n";
    let deaf = begin(&format!("{wide}Host: x\r\nAuthorization: Bearer {token}\r\n\r\n").repeat(40));

    let answers = [slow_form, slow_sign_in].map(rest);
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("took longer than"), "{answer}");
    }
    assert!(rest(idle).starts_with("HTTP/1.1 200 "));
    for stream in [slow_head, silent] {
        let answer = rest(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    drop(deaf);
    assert!(HEAD_TIMEOUT < PATIENCE);
    assert_eq!(collector.api().unwrap().get("/api/v1/query", &[("query", "1")]).unwrap().0, 200);
}

#[test]
fn a_live_stream_that_nobody_reads_is_cut() {
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(temp.path(), "", "").unwrap();
    let (api, token) = (collector.api().unwrap(), collector.token().unwrap());
    let streams = |count: f64| {
        let wanted = |rows: &[Row]| rows.len() == 1 && rows[0].1 == count;
        api.wait_for("pitwatch_collector_live_streams", PATIENCE, wanted).unwrap();
    };
    // Some megabytes an event: soon nobody on the way has room for more.
    let wide =
        format!("label_replace(%7B__name__=~%22pitwatch_.%2B%22%7D,%22x%22,%22{}%22,%22%22,%22%22)", "y".repeat(1500));
    let queries = vec![format!("query={wide}"); 32].join("&");
    let mut deaf = connect(&collector);
    let head = format!(
        "GET /api/v1/pitwatch/live?{queries}&step=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    deaf.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    deaf.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    streams(1.0);
    streams(0.0);
    // It was the collector that ended it.
    assert!(rest(deaf).len() > 100_000);
}

#[test]
fn large_requests_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(temp.path(), "", "").unwrap();
    let token = collector.token().unwrap();
    let ask = |request: String| {
        let mut stream = connect(&collector);
        // It may be refused before it is written.
        let _ = stream.write_all(request.as_bytes());
        rest(stream)
    };
    let long = "x".repeat(200_000);
    let header = ask(format!("GET /-/healthy HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"));
    assert!(header.starts_with("HTTP/1.1 431 "), "{header}");
    let many: String = (0..1000).map(|at| format!("X-{at}: y\r\n")).collect();
    let many = ask(format!("GET /-/healthy HTTP/1.1\r\nHost: x\r\n{many}\r\n"));
    assert!(many.starts_with("HTTP/1.1 431 "), "{many}");
    let address = ask(format!("GET /-/healthy?{long} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(address.starts_with("HTTP/1.1 414 ") || address.starts_with("HTTP/1.1 431 "), "{address}");
    let body = |path: &str, kind: &str, length: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
        ask(format!("{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{}", "y".repeat(length)))
    };
    for (path, kind) in [
        ("/api/v1/query", "application/x-www-form-urlencoded"),
        ("/api/v1/pitwatch/tokens", "application/json"),
        ("/api/v1/pitwatch/session", "application/json"),
    ] {
        let answer = body(path, kind, 2_000_000);
        assert!(answer.starts_with("HTTP/1.1 413 ") || answer.is_empty(), "{path}: {answer}");
    }
    for garbage in ["\x16\x03\x01\x02\x00", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let answer = ask(garbage.to_owned());
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 "),
            "{answer}"
        );
    }
    assert_eq!(collector.api().unwrap().get("/api/v1/query", &[("query", "1")]).unwrap().0, 200);
}

#[test]
fn a_crowd_waits_and_goes() {
    // Both this process and the collector, which inherits it, have them open.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(temp.path(), "", "").unwrap();
    let crowd: Vec<TcpStream> = (0..CONNECTIONS_MAX + 50).map(|_| connect(&collector)).collect();
    // Whoever comes now waits for a place; an agent's port is another.
    let mut late = connect(&collector);
    late.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    drop(crowd);
    assert!(rest(late).starts_with("HTTP/1.1 200 "));
    let api = collector.api().unwrap();
    wait_for("an answer", PATIENCE, || api.get("/-/ready", &[]).ok().filter(|(status, _)| *status == 200)).unwrap();
}

#[test]
fn a_thousand_live_streams_do_not_hurt_ingest() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(&temp.path().join("collector"), "", "").unwrap();
    let _agent = Agent::start(&temp.path().join("agent"), "watched", &collector, FAST).unwrap();
    let api = collector.api().unwrap();
    wait_for_tick(&api, "watched", 0, PATIENCE).unwrap();
    let token = collector.token().unwrap();
    let watch = || {
        let mut stream = connect(&collector);
        let head = format!(
            "GET /api/v1/pitwatch/live?query=node_load1&step=1 HTTP/1.1\r\nHost: x\r\n\
            Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8_lossy(&status).into_owned(), stream)
    };
    // From here on nobody reads but one.
    let streams: Vec<TcpStream> = (0..LIVE_MAX_A_CLIENT)
        .map(|nth| {
            let (status, stream) = watch();
            assert_eq!(status, "HTTP/1.1 200", "stream {nth}");
            stream
        })
        .collect();
    let (one_more, refused) = watch();
    assert!(one_more == "HTTP/1.1 503" || one_more == "HTTP/1.1 429", "{one_more}");
    drop(refused);

    let since_ms = unix_ms();
    wait_for_tick(&api, "watched", since_ms + 10_000, PATIENCE).unwrap();
    assert_eq!(listed(&api, "watched").unwrap()["lost_frames"], 0);
    let stored = ticks(&api, "watched").unwrap().into_iter().filter(|tick_ms| *tick_ms >= since_ms).count();
    assert!(stored >= 20, "{stored} samples in ten seconds of ten a second");
    let mut text = String::new();
    let mut reader = &streams[LIVE_MAX_A_CLIENT - 1];
    let mut bytes = [0; 4096];
    while !text.contains("\"instance\":\"watched\"") {
        let count = reader.read(&mut bytes).unwrap();
        assert!(count > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    drop(streams);
    wait_for("a place for the next", PATIENCE, || Some(watch()).filter(|(status, _)| status == "HTTP/1.1 200"))
        .unwrap();
}

#[test]
fn answers_have_the_headers_that_browsers_obey() {
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(temp.path(), "", "").unwrap();
    let token = collector.token().unwrap();
    for (path, with) in [
        ("/", ""),
        ("/api/docs", &*token),
        ("/api/v1/query?query=1", &*token),
        ("/api/v1/query?query=1", ""),
        ("/api/v1/pitwatch/tokens", &*token),
        ("/api/v1/pitwatch/session", &*token),
        ("/metrics", &*token),
        ("/-/healthy", ""),
        ("/nowhere", ""),
    ] {
        let mut stream = connect(&collector);
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {with}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let answer = rest(stream).to_lowercase();
        for header in [
            "x-content-type-options: nosniff",
            // The interface's page holds no secrets; it is asked for again, and mostly is as it was.
            if path == "/" { "cache-control: no-" } else { "cache-control: no-store" },
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.contains(header), "{path}: {header} in {answer}");
        }
    }
}
