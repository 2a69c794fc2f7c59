//! Signals of applications over a real agent: Debian's node_exporter and Prometheus scraped, the textfile directory beside
//! node_exporter's own reading of it, StatsD; and endpoints and senders that mean harm.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Process, free_port};

use crate::support::{pair, unix_ms, wait_for, wait_for_tick};

const PATIENCE: Duration = Duration::from_secs(40);
/// An agent that is flooded may take this much, bytes.
const MEMORY_MAX_BYTES: f64 = 40e6;

/// Debian's node_exporter with only its textfile collector.
fn node_exporter(dir: &Path, textfiles: &Path) -> anyhow::Result<(Process, u16)> {
    node_exporter_with(dir, textfiles, &[])
}

fn node_exporter_with(dir: &Path, textfiles: &Path, arguments: &[String]) -> anyhow::Result<(Process, u16)> {
    let port = free_port()?;
    let mut command = Command::new("prometheus-node-exporter");
    command
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--collector.disable-defaults", "--collector.textfile"])
        .arg(format!("--collector.textfile.directory={}", textfiles.display()))
        .args(arguments);
    let process = Process::start(&mut command, &dir.join("node_exporter.log"))?;
    wait_for("node_exporter", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok())?;
    Ok((process, port))
}

/// Series by name and labels, without those that say who scraped them, and their values.
fn series(api: &Api, selector: &str) -> anyhow::Result<BTreeSet<String>> {
    let rows = api.query(selector)?;
    Ok(rows
        .into_iter()
        .map(|(mut labels, value)| {
            labels.retain(|name, _| name != "job" && name != "instance");
            format!("{labels:?} {value}")
        })
        .collect())
}

#[test]
fn text_files_are_what_node_exporter_makes_of_them() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let files = dir.path().join("textfile");
    fs::create_dir(&files)?;
    fs::write(
        files.join("backup.prom"),
        "# HELP backup_bytes Size.\n# TYPE backup_bytes gauge\nbackup_bytes{disk=\"a\\\"b\\\\\"} 1.5e9\nbackup_bytes 0\n",
    )?;
    fs::write(files.join("smart.prom"), "# TYPE smart_ok counter\nsmart_ok{device=\"sda\"} 1\n")?;
    fs::write(files.join("stamped.prom"), "stamped 1 1395066363000\n")?;
    let (_exporter, port) = node_exporter(dir.path(), &files)?;
    let config = format!(
        "[textfile]\ndirectories = [{files:?}]\ncadence = \"1s\"\n\
         [scrape.exporter]\nurl = \"http://127.0.0.1:{port}/metrics\"\ncadence = \"1s\"\ntimeout = \"1s\"\n"
    );
    let (collector, _agent) = pair(dir.path(), "real-1", &config)?;
    let api = collector.api()?;
    api.wait_for("up{job=\"exporter\"} == 1", PATIENCE, |rows| rows.len() == 1)?;
    let names = "backup_bytes|smart_ok|stamped|node_textfile_.*";
    let of = |job: &str| series(&api, &format!("{{__name__=~\"{names}\",job=\"{job}\"}}"));
    // The files are read by both; a value may be asked for between the two.
    let same = wait_for("the same series", PATIENCE, || {
        let (ours, theirs) = (of("node").ok()?, of("exporter").ok()?);
        (ours == theirs && ours.len() >= 6).then_some(ours)
    });
    let Ok(ours) = same else {
        assert_eq!(of("node")?, of("exporter")?);
        return Ok(());
    };
    assert!(ours.iter().any(|series| series.contains("node_textfile_scrape_error") && series.ends_with(" 1")));
    Ok(())
}

#[test]
fn endpoints_are_scraped_by_their_rules() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (_exporter, port) = node_exporter(dir.path(), dir.path())?;
    let config = format!(
        "[labels]\nrole = \"game\"\n\
         [scrape.go]\nurl = \"http://127.0.0.1:{port}/metrics\"\ncadence = \"1s\"\ntimeout = \"1s\"\n\
         keep = [\"go_*\", \"process_*\"]\ndrop = [\"*_bytes\"]\nseries_max = 10\n\
         rename = {{ \"go_*\" = \"golang_*\" }}\nlabels = {{ team = \"core\" }}\n\
         [scrape.nobody]\nurl = \"http://127.0.0.1:{}/metrics\"\ncadence = \"1s\"\ntimeout = \"1s\"\n",
        free_port()?
    );
    let (collector, mut agent) = pair(dir.path(), "real-1", &config)?;
    let api = collector.api()?;
    api.wait_for("up{job=\"go\",instance=\"real-1\",team=\"core\",role=\"game\"} == 1", PATIENCE, |rows| {
        rows.len() == 1
    })?;
    api.wait_for("golang_goroutines{job=\"go\"} > 0", PATIENCE, |rows| rows.len() == 1)?;
    api.wait_for("up{job=\"nobody\"} == 0", PATIENCE, |rows| rows.len() == 1)?;
    for (expr, count) in
        [("count({__name__=~\"go_.*|.*_bytes\",job=\"go\"})", None), ("count(scrape_duration_seconds)", Some(2.0))]
    {
        assert_eq!(api.value(expr)?, count, "{expr}");
    }
    let value = |name: &str| api.value(&format!("{name}{{job=\"go\"}}"));
    assert!(value("scrape_samples_scraped")? > value("scrape_samples_post_metric_relabeling")?);
    assert_eq!(value("scrape_samples_post_metric_relabeling")?, Some(10.0), "as many as the limit allows");
    assert!(value("pitwatch_agent_scrape_series_refused")? > Some(0.0));

    // Series of an endpoint that is gone end.
    drop(_exporter);
    api.wait_for("up{job=\"go\"} == 0", PATIENCE, |rows| rows.len() == 1)?;
    api.wait_for("count(golang_goroutines) or vector(0)", PATIENCE, |rows| rows[0].1 == 0.0)?;
    assert!(agent.process().log().contains("the scrape fails"));
    Ok(())
}

/// A key and a certificate for 127.0.0.1, and node_exporter's configuration that shows it and asks for a name and a
/// password ("open sesame", by bcrypt).
fn guarded(dir: &Path) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::generate()?;
    let own = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    fs::write(dir.join("cert.pem"), own.pem())?;
    let other = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&rcgen::KeyPair::generate()?)?;
    fs::write(dir.join("other.pem"), other.pem())?;
    fs::write(dir.join("password"), "open sesame\n")?;
    let web = dir.join("web.yml");
    fs::write(
        &web,
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n\
         basic_auth_users:\n  me: $2b$04$F7M4Q4HLHnpV0/OCTj/N5.fEpToY1Nm8Rp5iyn.y7n5BMfumreK8e\n",
    )?;
    Ok(format!("--web.config.file={}", web.display()))
}

#[test]
fn endpoints_with_tls_and_credentials_are_scraped_and_strangers_are_not_trusted() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (_exporter, port) = node_exporter_with(dir.path(), dir.path(), &[guarded(dir.path())?])?;
    let path = |name: &str| dir.path().join(name);
    let endpoint = |job: &str, keys: &str| {
        format!(
            "[scrape.{job}]\nurl = \"https://127.0.0.1:{port}/metrics\"\ncadence = \"1s\"\ntimeout = \"1s\"\n{keys}\n"
        )
    };
    let (ca, other) = (format!("ca_file = {:?}", path("cert.pem")), format!("ca_file = {:?}", path("other.pem")));
    let password = format!("username = \"me\"\npassword_file = {:?}", path("password"));
    let config = [
        endpoint("known", &format!("{ca}\n{password}")),
        endpoint("anyone", &format!("insecure = true\n{password}")),
        endpoint("stranger", &format!("{other}\n{password}")),
        endpoint("nameless", &ca),
    ]
    .concat();
    let (collector, mut agent) = pair(dir.path(), "real-1", &config)?;
    let api = collector.api()?;
    for (job, up) in [("known", 1), ("anyone", 1), ("stranger", 0), ("nameless", 0)] {
        api.wait_for(&format!("up{{job=\"{job}\"}} == {up}"), PATIENCE, |rows| rows.len() == 1)?;
    }
    let log = agent.process().log();
    for (job, why) in [("stranger", "cannot agree on TLS"), ("nameless", "it answered with status 401")] {
        let line = log.lines().find(|line| line.contains("the scrape fails") && line.contains(job));
        assert!(line.is_some_and(|line| line.contains(why)), "{job}: {line:?}");
    }
    // The password changes, and is taken with the next scrape.
    fs::write(path("password"), "shut\n")?;
    api.wait_for("up{job=\"known\"} == 0", PATIENCE, |rows| rows.len() == 1)?;
    fs::write(path("password"), "open sesame")?;
    api.wait_for("up{job=\"known\"} == 1", PATIENCE, |rows| rows.len() == 1)?;
    Ok(())
}

/// Answers every connection with `answer`, a piece at a time with a pause, until the peer has had enough.
fn hostile(head: &'static str, piece: Vec<u8>, pause: Duration) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let piece = piece.clone();
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 1024]);
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() && !piece.is_empty() {
                    sent = stream.write_all(&piece);
                    std::thread::sleep(pause);
                }
            });
        }
    });
    Ok(port)
}

#[test]
fn endpoints_that_mean_harm_cost_their_own_series_only() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    let (none, slow) = (Duration::ZERO, Duration::from_millis(50));
    let flood: Vec<u8> = (0..60_000).flat_map(|nth| format!("m{nth} 1\n").into_bytes()).collect();
    let endpoints = [
        ("endless", hostile(ok, b"endless 1\n".repeat(5_000), none)?),
        ("slow", hostile(ok, b"s".to_vec(), slow)?),
        ("chunks", hostile("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n".repeat(999), none)?),
        ("headers", hostile("HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n".repeat(999), none)?),
        ("malformed", hostile("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na{b=} 1\n", Vec::new(), none)?),
        ("nothing", hostile("", Vec::new(), none)?),
        ("many", hostile("HTTP/1.1 200 OK\r\nContent-Length: 528890\r\n\r\n", flood, none)?),
    ];
    let sections: Vec<String> = endpoints
        .iter()
        .map(|(job, port)| {
            format!("[scrape.{job}]\nurl = \"http://127.0.0.1:{port}/m\"\ncadence = \"1s\"\ntimeout = \"1s\"\nbody_max = \"1MiB\"\n")
        })
        .collect();
    let (collector, _agent) = pair(dir.path(), "real-1", &sections.concat())?;
    let api = collector.api()?;
    api.wait_for("up", PATIENCE, |rows| rows.len() == endpoints.len())?;
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(api.value("sum(max_over_time(up{job!=\"many\"}[1m]))")?, Some(0.0));
    assert_eq!(api.value("max_over_time(up{job=\"many\"}[1m])")?, Some(1.0));
    assert_eq!(api.value("scrape_samples_post_metric_relabeling{job=\"many\"}")?, Some(2000.0));
    // The host's own signals go on, and memory is bounded.
    wait_for_tick(&api, "real-1", unix_ms() - 2_500, Duration::from_secs(5))?;
    let resident = api.value("max_over_time(pitwatch_agent_resident_memory_bytes[1m])")?;
    assert!(resident.is_some_and(|bytes| bytes < MEMORY_MAX_BYTES), "{resident:?}");
    Ok(())
}

#[test]
fn statsd_is_summed_up_and_a_flood_of_it_is_bounded() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (port, path) = (free_port()?, dir.path().join("statsd.sock"));
    let config = format!("[statsd]\nudp = \"127.0.0.1:{port}\"\nunix = {path:?}\ncadence = \"1s\"\nseries_max = 100\n");
    let (collector, _agent) = pair(dir.path(), "real-1", &config)?;
    let api = collector.api()?;
    let (udp, unix) = (UdpSocket::bind("127.0.0.1:0")?, UnixDatagram::unbound()?);
    wait_for("the unix socket", PATIENCE, || path.exists().then_some(()))?;
    for nth in 0..10 {
        udp.send_to(b"game.logins:2|c|#route:eu\nqueue.depth:7|g", ("127.0.0.1", port))?;
        unix.send_to(format!("pay.took:{}|ms|#gateway:acme", 100 + nth).as_bytes(), &path)?;
    }
    api.wait_for("game_logins{route=\"eu\",instance=\"real-1\"} == 20", PATIENCE, |rows| rows.len() == 1)?;
    api.wait_for("queue_depth == 7", PATIENCE, |rows| rows.len() == 1)?;
    api.wait_for("pay_took_count{gateway=\"acme\"} == 10", PATIENCE, |rows| rows.len() == 1)?;
    let median = api.value("max_over_time(pay_took{quantile=\"0.5\"}[1m])")?.unwrap_or_default();
    assert!((0.098..0.112).contains(&median), "{median}");

    let end = std::time::Instant::now() + Duration::from_secs(5);
    let mut nth = 0_u64;
    while std::time::Instant::now() < end {
        for _ in 0..500 {
            nth += 1;
            let _ = udp.send_to(format!("flood.{nth}:1|c\n\u{1}nonsense").as_bytes(), ("127.0.0.1", port));
        }
    }
    wait_for_tick(&api, "real-1", unix_ms() - 2_500, Duration::from_secs(5))?;
    api.wait_for("pitwatch_agent_statsd_refused_total > 1000", PATIENCE, |rows| rows.len() == 1)?;
    api.wait_for("pitwatch_agent_statsd_malformed_total > 1000", PATIENCE, |rows| rows.len() == 1)?;
    assert!(api.value("count({__name__=~\"flood_.*\"})")?.is_some_and(|count| count <= 100.0));
    let resident = api.value("max_over_time(pitwatch_agent_resident_memory_bytes[1m])")?;
    assert!(resident.is_some_and(|bytes| bytes < MEMORY_MAX_BYTES), "{resident:?}");
    Ok(())
}

#[test]
fn a_configuration_that_changes_is_taken_and_one_with_a_mistake_is_not() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (collector, mut agent) = pair(dir.path(), "real-1", "")?;
    let api = collector.api()?;
    let file = agent.dir.join("agent.toml");
    let first = fs::read_to_string(&file)?;
    fs::write(&file, format!("{first}[labels]\nrole = \"game\"\n"))?;
    api.wait_for("node_load1{role=\"game\"}", PATIENCE, |rows| rows.len() == 1)?;
    let count = |kind: &str| -> Option<usize> {
        let (_, body) = api.get("/api/v1/pitwatch/events", &[("kind", kind)]).ok()?;
        Some(body["data"]["events"].as_array()?.len())
    };
    wait_for("the event of the change", PATIENCE, || (count("config_reloaded")? == 1).then_some(()))?;

    fs::write(&file, format!("{first}[labels]\nrole = 7\n"))?;
    agent.process().signal("HUP")?;
    wait_for("the event of the mistake", PATIENCE, || (count("config_refused")? == 1).then_some(()))?;
    api.wait_for("pitwatch_agent_config_last_reload_successful == 0", PATIENCE, |rows| rows.len() == 1)?;
    let later = format!("timestamp(node_load1{{role=\"game\"}}) > {}", unix_ms() / 1000);
    api.wait_for(&later, PATIENCE, |rows| rows.len() == 1)?;
    assert_eq!(api.value("count(node_load1{role=\"game\"})")?, Some(1.0), "the one before goes on");
    assert_eq!(crate::support::figure(&api, "pitwatch_collector_agent_lost_frames_total")?, 0.0);
    assert!(agent.process().runs());
    Ok(())
}
