//! HTTP over TLS: certificates of the own authority and of files, who is trusted, handshakes that do not come to an end.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use pitwatch_tests::programs::{self, Collector};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::support::wait_for;

/// How long the collector may take to notice something before the test has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority of the test's own, with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Puts a certificate for `name` that lives until `year`, and its key, where the collector reads them.
    fn issue(&self, dir: &Path, name: &str, year: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(dir.join("http.key"), key.serialize_pem()).unwrap();
        fs::write(dir.join("http.crt"), made.pem()).unwrap();
    }
}

/// The command line of somebody elsewhere, who has a token and perhaps an authority.
fn elsewhere(collector: &Collector, host: &str, ca: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::path("pitwatch").unwrap());
    command.env("PITWATCH_COLLECTOR_DIR", "/nonexistent").env("NO_COLOR", "1");
    command.env("PITWATCH_COLLECTOR", format!("https://{host}:{}", collector.http.port()));
    command.env("PITWATCH_TOKEN", collector.token().unwrap());
    if let Some(ca) = ca {
        command.arg("--ca").arg(ca);
    }
    command.args(arguments).output().unwrap()
}

fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    text
}

/// What comes until the other side closes.
fn rest(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it is not closed: {error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_own_authority_serves_whoever_trusts_it() {
    let temp = tempfile::tempdir().unwrap();
    let config = "[http]\ntls = true\nexternal_url = \"https://localhost\"\n";
    let collector = Collector::start(temp.path(), config, "").unwrap();

    // The command line of this host needs nothing, nor does a backup of a collector that runs.
    let here = collector.cli(&["status"]).unwrap();
    assert!(here.status.success(), "{here:?}");
    let backup = temp.path().join("backup");
    let backed_up = collector.command(&["backup", backup.to_str().unwrap()]).unwrap();
    assert!(backed_up.status.success(), "{backed_up:?}");

    let ends = "pitwatch_collector_http_certificate_not_after_seconds > time() + 300 * 86400";
    wait_for("the certificate's end as a metric", PATIENCE, || {
        let answer = collector.cli(&["query", ends, "--output", "json"]).ok()?;
        String::from_utf8_lossy(&answer.stdout).contains("pitwatch_collector_http_certificate").then_some(())
    })
    .unwrap();

    let ca = temp.path().join("ca.pem");
    let printed = collector.command(&["authority"]).unwrap();
    assert!(printed.status.success() && !printed.stdout.windows(7).any(|part| part == b"PRIVATE"), "{printed:?}");
    fs::write(&ca, &printed.stdout).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let good = elsewhere(&collector, host, Some(&ca), &["agents", "list"]);
        assert!(good.status.success(), "{good:?}");
    }

    let unknown = refusal(&elsewhere(&collector, "localhost", None, &["hosts"]));
    assert!(unknown.contains("its own authority?") && unknown.contains("pitwatch-collector authority"), "{unknown}");
    let other = Authority::new(temp.path(), "other");
    let wrong = refusal(&elsewhere(&collector, "localhost", Some(&other.file), &["hosts"]));
    assert!(wrong.contains("its own authority?"), "{wrong}");
    let no_file = elsewhere(&collector, "localhost", Some(&temp.path().join("none.pem")), &["hosts"]);
    assert_eq!(no_file.status.code(), Some(2), "{no_file:?}");
    assert!(String::from_utf8_lossy(&no_file.stderr).contains("no authority can be read from"), "{no_file:?}");

    // Who does not speak TLS is told so.
    let mut plain = TcpStream::connect(collector.http).unwrap();
    plain.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let told = rest(plain);
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("begins with https://"), "{told}");

    // A browser's cookie is for TLS alone, and so is the host, which is this collector's own.
    let api = collector.api().unwrap();
    let body = serde_json::json!({ "token": collector.token().unwrap() });
    let headers = api.post_headers("/api/v1/pitwatch/session", &body).unwrap();
    let of = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.clone());
    assert!(of("set-cookie").unwrap().ends_with("; Secure"), "{headers:?}");
    assert_eq!(of("strict-transport-security").as_deref(), Some("max-age=31536000"));
}

#[test]
fn given_certificates_are_taken_anew_and_bad_ones_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let authority = Authority::new(dir, "company");
    authority.issue(dir, "localhost", 2090);
    let config = format!("[http]\ncertificate = {:?}\nkey = {:?}\n", dir.join("http.crt"), dir.join("http.key"));
    let mut collector = Collector::start(dir, &config, "").unwrap();
    let ask =
        |collector: &Collector, host: &str| elsewhere(collector, host, Some(&authority.file), &["agents", "list"]);
    assert!(ask(&collector, "localhost").status.success());
    // Its certificate is not for this name; programs of this host find theirs all the same.
    let mismatched = refusal(&ask(&collector, "127.0.0.1"));
    assert!(mismatched.contains("by another name?"), "{mismatched}");
    assert!(collector.cli(&["status"]).unwrap().status.success());

    // Nonsense in the files: the one from before is served on.
    fs::write(dir.join("http.key"), "nonsense").unwrap();
    let log = |collector: &mut Collector| collector.process().log();
    let kept = "goes on with the certificate from before";
    wait_for("the bad key is told", PATIENCE, || log(&mut collector).contains(kept).then_some(())).unwrap();
    assert!(ask(&collector, "localhost").status.success());

    authority.issue(dir, "127.0.0.1", 2090);
    wait_for("the new certificate", PATIENCE, || ask(&collector, "127.0.0.1").status.success().then_some(())).unwrap();
    authority.issue(dir, "127.0.0.1", 2021);
    let refused = || Some(ask(&collector, "127.0.0.1")).filter(|output| !output.status.success());
    let last = refusal(&wait_for("the expired one", PATIENCE, refused).unwrap());
    assert!(last.contains("expired") && last.contains("is past its end"), "{last}");
    assert!(log(&mut collector).contains("has ended: clients refuse it"));

    // At the start a certificate that cannot be is a mistake of the configuration.
    let other = Authority::new(dir, "other");
    let key = fs::read(dir.join("http.key")).unwrap();
    other.issue(dir, "localhost", 2090);
    fs::write(dir.join("http.key"), key).unwrap();
    let told = collector.command(&["check-config"]).unwrap();
    let text = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && text.contains("http.key is not the key of"), "{told:?}");
}

#[test]
fn a_handshake_that_does_not_end_is_cut_and_keeps_nobody_away() {
    let temp = tempfile::tempdir().unwrap();
    let collector = Collector::start(temp.path(), "[http]\ntls = true\n", "").unwrap();
    let slow: Vec<TcpStream> = (0..40)
        .map(|nth: usize| {
            let mut stream = TcpStream::connect(collector.http).unwrap();
            // Nothing at all, or the head of a record whose body does not come.
            stream.write_all(&[22, 3, 1, 2, 0, 1][..if nth.is_multiple_of(2) { 0 } else { 6 }]).unwrap();
            stream
        })
        .collect();
    // Bytes that are no handshake, though they begin like one.
    let mut nonsense = TcpStream::connect(collector.http).unwrap();
    nonsense.write_all(&[22; 600]).unwrap();
    rest(nonsense);
    assert!(collector.cli(&["status"]).unwrap().status.success());
    for stream in slow {
        assert_eq!(rest(stream), "");
    }
    assert!(collector.cli(&["status"]).unwrap().status.success());
}
