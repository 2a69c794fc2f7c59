//! Good files, and one bad file for each rule of the config.

use super::*;
use crate::apps::access::{Credentials, Trust};
use crate::signals::WatchBy;

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, "web-1", &[])
}

fn parse_with(text: &str, host: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    Config::parse(text, Path::new("agent.toml"), host, variable)
}

/// A whole file with one table or key put in, and the message it must give.
fn refused(put: &str, message: &str) {
    let text = format!("collector = \"c:4717\"\n{put}\n");
    assert_eq!(parse(&text).unwrap_err().to_string(), message);
}

#[test]
fn the_least_file_has_the_defaults() {
    let config = parse("collector = \"c.example:4717\"").unwrap();
    assert_eq!(config.name.as_str(), "web-1");
    assert_eq!(config.collector, Address { host: "c.example".into(), port: 4717 });
    assert_eq!(config.data_dir, Path::new("/var/lib/pitwatch/agent"));
    assert_eq!(config.labels, [("job".to_owned(), "node".to_owned())]);
    assert_eq!(config.signals, SignalsConfig::default());
    assert_eq!(config.queue, QueueConfig::default());
    assert_eq!(config.log_level, tracing::Level::INFO);
}

#[test]
fn the_packaged_file_is_the_defaults_but_for_what_it_sets() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/agent.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let packaged = parse(&text).unwrap();
    assert_eq!(packaged.collector.port, 4717);
    // With every example key uncommented it is still right, and says the defaults.
    let example = |line: &str| line.strip_prefix("#").filter(|line| !line.starts_with([' ', '\t'])).map(str::to_owned);
    let whole: Vec<_> = text.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned())).collect();
    let all = parse(&whole.join("\n")).unwrap();
    assert_eq!(all.signals, SignalsConfig::default());
    assert_eq!(all.queue, QueueConfig::default());
    assert_eq!(all.data_dir, packaged.data_dir);
}

#[test]
fn every_key_is_taken() {
    let config = parse(
        "name = \"db-7\"\ncollector = \"[2001:db8::1]:9\"\ndata_dir = \"/d\"\n\
         [labels]\nrole = \"game\"\njob = \"\"\n\
         [signals]\ncadence = \"500ms\"\nprocess_cadence = \"2s\"\nprocess_top = 0\nfilesystem_cadence = \"1m\"\n\
         interface_cadence = \"20s\"\nfacts_cadence = \"4m\"\ncommand_lines = false\n\
         [watch.web]\nunit = \"nginx.service\"\n[watch.lobby]\ncommand = \"lobby[.]jar\"\n\
         [watch.db]\nname = \"postgres\"\n[watch.old]\npid_file = \"/run/old.pid\"\n\
         [queue]\nmemory_max = \"16MiB\"\nspool_max = \"1GiB\"\nspool_max_age = \"7d\"\n\
         [limits]\ncpu_max_percent = 5\nmemory_max = \"32MiB\"\n\
         [log]\nlevel = \"debug\"\n",
    )
    .unwrap();
    assert_eq!((config.name.as_str(), config.collector.to_string()), ("db-7", "[2001:db8::1]:9".to_owned()));
    assert_eq!(config.labels, [("role".to_owned(), "game".to_owned())]);
    assert_eq!(config.signals.cadence, Duration::from_millis(500));
    let names: Vec<_> = config.signals.watches.iter().map(|watch| watch.name.as_str()).collect();
    assert_eq!(names, ["db", "lobby", "old", "web"]);
    assert_eq!(config.signals.watches[3].by, WatchBy::Unit("nginx.service".to_owned()));
    assert!(!config.signals.command_lines);
    assert_eq!((config.limits.cpu_max_ratio, config.limits.memory_max_bytes), (0.05, 32 * MIB));
    assert_eq!((config.signals.process_top, config.signals.process_cadence), (0, Duration::from_secs(2)));
    assert_eq!(config.signals.filesystem_cadence, Duration::from_secs(60));
    assert_eq!(config.queue.spool_max_bytes, 1 << 30);
    assert_eq!(config.queue.spool_max_age, Duration::from_secs(7 * 86_400));
    assert_eq!(config.log_level, tracing::Level::DEBUG);
}

#[test]
fn the_environment_stands_over_the_file() {
    let variables =
        [("PITWATCH_AGENT_NAME", "n"), ("PITWATCH_AGENT_COLLECTOR", "e:1"), ("PITWATCH_AGENT_DATA_DIR", "/e")];
    let config = parse_with("name = \"file\"\ncollector = \"c:4717\"", "h", &variables).unwrap();
    assert_eq!((config.name.as_str(), config.collector.to_string()), ("n", "e:1".to_owned()));
    assert_eq!(config.data_dir, Path::new("/e"));
    assert!(parse_with("", "h", &variables).is_ok(), "the collector may come from the environment alone");
    let error = parse_with("collector = \"c:4717\"", "h", &[("PITWATCH_AGENT_COLLECTOR", "e")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "PITWATCH_AGENT_COLLECTOR: \"e\" is no host and port; \
         give host:port, such as \"collector.example.com:4717\" or \"[2001:db8::1]:4717\""
    );
}

#[test]
fn all_mistakes_are_told_at_once_by_line() {
    let error = parse("nam = \"x\"\n[signals]\ncadence = 1\n[queue]\nspool_max = \"1MB\"\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "agent.toml:1: nam: there is no such key, perhaps name; \
         allowed are central, name, collector, data_dir, labels, signals, watch, textfile, statsd, scrape, queue, limits, log\n\
         agent.toml:3: signals.cadence: is a whole number; \
         it must be a string: give 100ms to 4m, in ms, s, m, h or d\n\
         agent.toml:5: queue.spool_max: \"1MB\" is no size; give 1MiB to 1TiB, in KiB, MiB, GiB or TiB\n\
         agent.toml: collector: is missing; \
         give host:port, such as \"collector.example.com:4717\" or \"[2001:db8::1]:4717\""
    );
}

#[test]
fn what_is_no_toml_is_told_by_line() {
    let error = parse("collector = \"c:4717\"\nname = \n[log\n").unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[0].starts_with("agent.toml:2: not TOML: "), "{error}");
    assert!(lines.iter().any(|line| line.starts_with("agent.toml:3: not TOML: ")), "{error}");
    assert!(!error.contains("is missing"), "what is missing is not known of such a file: {error}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let error = parse("collector = \"c:4717\"\ncollector = \"d:4717\"\n").unwrap_err().to_string();
    assert!(error.starts_with("agent.toml:2: not TOML: duplicate key"), "{error}");
}

#[test]
fn an_agents_name_is_checked() {
    let allowed = "use 1 to 128 letters, digits, '.', '-', '_' or ':', beginning with a letter or digit";
    refused("name = \"a b\"", &format!("agent.toml:2: name: \"a b\" is no agent's name; {allowed}"));
    assert_eq!(
        parse_with("collector = \"c:4717\"", "-host", &[]).unwrap_err().to_string(),
        format!("agent.toml: name: is missing, and the host's name \"-host\" cannot be it; {allowed}")
    );
}

#[test]
fn the_collectors_address_is_checked() {
    for bad in ["c", "c:", "c:0", "c:99999", ":4717", "a b:4717", "2001:db8::1:4717", "[c]:4717", "http://c:4717"] {
        let error = parse(&format!("collector = \"{bad}\"")).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "agent.toml:1: collector: \"{bad}\" is no host and port; \
                 give host:port, such as \"collector.example.com:4717\" or \"[2001:db8::1]:4717\""
            )
        );
    }
}

#[test]
fn the_data_directory_is_absolute() {
    refused(
        "data_dir = \"data\"",
        "agent.toml:2: data_dir: \"data\" is no absolute path; give an absolute path, such as \"/var/lib/pitwatch/agent\"",
    );
}

#[test]
fn a_table_is_a_table() {
    refused("labels = \"x\"", "agent.toml:2: labels: is a string; it must be a table, [labels]");
}

#[test]
fn labels_are_the_hosts_own() {
    refused(
        "[labels]\n\"a-b\" = \"x\"",
        "agent.toml:3: labels.a-b: \"a-b\" is no label's name; \
         use letters, digits and '_', not beginning with a digit or with '__'",
    );
    refused(
        "[labels]\n__name__ = \"x\"",
        "agent.toml:3: labels.__name__: \"__name__\" is no label's name; \
         use letters, digits and '_', not beginning with a digit or with '__'",
    );
    refused(
        "[labels]\ninstance = \"x\"",
        "agent.toml:3: labels.instance: the collector sets this label to the agent's name; set name instead",
    );
    refused(
        "[labels]\nle = \"x\"",
        "agent.toml:3: labels.le: histograms and summaries are told apart by this label; choose another name",
    );
    refused("[labels]\nrole = 5", "agent.toml:3: labels.role: is a whole number; it must be a string");
    let long = "x".repeat(257);
    refused(
        &format!("[labels]\nrole = \"{long}\""),
        "agent.toml:3: labels.role: a value of 257 bytes; at most 256 bytes are allowed",
    );
    let many: String = (0..32).map(|i| format!("l{i} = \"x\"\n")).collect();
    refused(&format!("[labels]\n{many}"), "agent.toml: labels: 33 labels, job among them; at most 32 are allowed");
}

#[test]
fn cadences_and_counts_are_in_range() {
    refused(
        "[signals]\ncadence = \"99ms\"",
        "agent.toml:3: signals.cadence: \"99ms\" is out of range; give 100ms to 4m, in ms, s, m, h or d",
    );
    refused(
        "[signals]\nprocess_cadence = \"5m\"",
        "agent.toml:3: signals.process_cadence: \"5m\" is out of range; give 1s to 4m, in ms, s, m, h or d",
    );
    refused(
        "[signals]\nfilesystem_cadence = \"soon\"",
        "agent.toml:3: signals.filesystem_cadence: \"soon\" is no duration; give 1s to 4m, in ms, s, m, h or d",
    );
    refused(
        "[signals]\nprocess_top = 101",
        "agent.toml:3: signals.process_top: 101 is out of range; a whole number from 0 to 100",
    );
    refused(
        "[signals]\nprocess_top = \"10\"",
        "agent.toml:3: signals.process_top: is a string; it must be a whole number from 0 to 100",
    );
    refused(
        "[signals]\nproc_root = \"/host/proc\"",
        "agent.toml:3: signals.proc_root: there is no such key; allowed are cadence, process_cadence, \
         filesystem_cadence, interface_cadence, socket_cadence, sensor_cadence, service_cadence, facts_cadence, \
         process_top, command_lines",
    );
}

#[test]
fn a_watch_says_one_thing_to_watch() {
    refused(
        "[watch.web]\n",
        "agent.toml:2: watch.web: says nothing to watch; give exactly one of unit, name, command and pid_file",
    );
    refused(
        "[watch.web]\nname = \"nginx\"\npid_file = \"/run/nginx.pid\"",
        "agent.toml:2: watch.web: says more than one thing to watch; give exactly one of unit, name, command and pid_file",
    );
    refused(
        "[watch.web]\nunit = \"nginx\"",
        "agent.toml:3: watch.web.unit: \"nginx\" has no ending; give a unit of systemd with its ending, such as \"nginx.service\"",
    );
    refused(
        "[watch.web]\npid_file = \"nginx.pid\"",
        "agent.toml:3: watch.web.pid_file: \"nginx.pid\" is no absolute path; give an absolute path, such as \"/run/nginx.pid\"",
    );
}

#[test]
fn what_the_agent_may_use_is_in_range() {
    refused(
        "[limits]\ncpu_max_percent = 0",
        "agent.toml:3: limits.cpu_max_percent: 0 is out of range; a whole number from 1 to 100",
    );
    refused(
        "[limits]\nmemory_max = \"4MiB\"",
        "agent.toml:3: limits.memory_max: \"4MiB\" is out of range; give 12MiB to 4GiB, in KiB, MiB, GiB or TiB",
    );
}

#[test]
fn what_is_kept_is_in_range() {
    refused(
        "[queue]\nmemory_max = \"512KiB\"",
        "agent.toml:3: queue.memory_max: \"512KiB\" is out of range; give 1MiB to 1GiB, in KiB, MiB, GiB or TiB",
    );
    refused(
        "[queue]\nspool_max = \"2TiB\"",
        "agent.toml:3: queue.spool_max: \"2TiB\" is out of range; give 1MiB to 1TiB, in KiB, MiB, GiB or TiB",
    );
    refused(
        "[queue]\nspool_max_age = \"31d\"",
        "agent.toml:3: queue.spool_max_age: \"31d\" is out of range; give 1m to 30d, in ms, s, m, h or d",
    );
}

#[test]
fn the_log_level_is_one_of_five() {
    refused(
        "[log]\nlevel = \"loud\"",
        "agent.toml:3: log.level: \"loud\" is no level; use error, warn, info, debug or trace",
    );
}

#[test]
fn a_file_that_cannot_be_read_says_which() {
    let error = Config::load(Path::new("/no/such/agent.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read /no/such/agent.toml; it is where --config says, /etc/pitwatch/agent.toml by default"
    );
    assert!(std::error::Error::source(&error).is_some());
}

mod hostile {
    use proptest::prelude::*;

    use super::parse;

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_mutated_file_is_survived(at in any::<prop::sample::Index>(), put in "[\\[\\]\"=.\n a-z0-9]{0,6}", cut in 0_usize..20) {
            let good = "name = \"a\"\ncollector = \"c:1\"\n[labels]\nrole = \"x\"\n[signals]\ncadence = \"1s\"\n[log]\nlevel = \"info\"\n";
            let at = at.index(good.len());
            let end = (at + cut).min(good.len());
            let text = format!("{}{put}{}", &good[..at], &good[end..]);
            if let Err(error) = parse(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn applications_are_read_with_their_rules() {
    let config = parse(
        "collector = \"c:1\"\n[textfile]\ndirectories = [\"/a\", \"/b\"]\n[statsd]\nudp = \"127.0.0.1:8125\"\nexpire = \"5m\"\n\
         [scrape.app]\nurl = \"http://localhost:1/m\"\nkeep = [\"a_*\"]\nrename = { \"a_*\" = \"b_*\" }\nseries_max = 7\n",
    )
    .unwrap();
    assert_eq!(config.apps.textfile.directories.len(), 2);
    assert_eq!(config.apps.statsd.udp.unwrap().port(), 8125);
    let scrape = &config.apps.scrape[0];
    assert_eq!(
        (&*scrape.job, scrape.series_max, scrape.url.to_string()),
        ("app", 7, "http://localhost:1/m".to_owned())
    );
    assert_eq!(scrape.rules.name("a_x").as_deref(), Some("b_x"));

    let wrong = parse(
        "collector = \"c:1\"\n[textfile]\ndirectories = [\"a\", 7]\n[statsd]\nudp = \"x\"\n[scrape.app]\n\
         url = \"ftp://h/\"\nkeep = [\"a*b*\"]\ntimeout = \"20s\"\nlabels = { instance = \"i\", job = \"j\" }\nretries = 1\n\
         [central]\nallow = [\"queue\"]\n",
    );
    let ConfigError::Invalid(problems) = wrong.unwrap_err() else { panic!("it was read") };
    let keys: Vec<&str> = problems.iter().map(|problem| &*problem.key).collect();
    for key in [
        "textfile.directories",
        "statsd.udp",
        "scrape.app.url",
        "scrape.app.keep",
        "scrape.app.timeout",
        "scrape.app.labels.instance",
        "scrape.app.labels.job",
        "scrape.app.retries",
        "central.allow",
    ] {
        assert!(keys.contains(&key), "{key} not in {keys:?}");
    }
    let wrong = parse("collector = \"c:1\"\n[scrape.app]\nkeep = [\"x\"]\n").unwrap_err().to_string();
    assert!(wrong.contains("scrape.app.url: is missing"), "{wrong}");
}

#[test]
fn an_endpoint_says_whom_it_trusts_and_what_it_is_shown() {
    let scrape = |keys: &str| {
        let parsed = parse(&format!("collector = \"c:1\"\n[scrape.app]\n{keys}\n"));
        parsed.map(|config| config.apps.scrape[0].access.clone()).map_err(|error| error.to_string())
    };
    let access = scrape("url = \"https://h/\"\nca_file = \"/ca.pem\"\nbearer_token_file = \"/token\"").unwrap();
    assert_eq!(access.trust, Some(Trust::Authorities("/ca.pem".into())));
    assert_eq!(access.credentials, Some(Credentials::Bearer("/token".into())));
    let access = scrape("url = \"http://localhost:1/\"\nusername = \"me\"\npassword_file = \"/p\"").unwrap();
    assert_eq!(access.trust, None);
    let basic = Credentials::Basic { username: "me".into(), password_file: "/p".into() };
    assert_eq!(access.credentials, Some(basic));
    assert_eq!(scrape("url = \"https://h/\"\ninsecure = true").unwrap().trust, Some(Trust::Anyone));
    for (keys, key, what) in [
        ("url = \"https://h/\"", "ca_file", "is missing; give the file of the authorities to trust"),
        ("url = \"https://h/\"\nca_file = \"ca.pem\"", "ca_file", "no absolute path"),
        ("url = \"https://h/\"\nca_file = \"/ca\"\ninsecure = true", "insecure", "contradicts ca_file"),
        ("url = \"http://h/\"\nca_file = \"/ca\"", "ca_file", "is for an https:// address"),
        ("url = \"http://h/\"\ninsecure = true", "insecure", "is for an https:// address"),
        ("url = \"http://h/\"\nbearer_token_file = \"/t\"", "url", "for all to read; use https://"),
        ("url = \"http://[::1]/\"\nusername = \"a\"", "password_file", "is missing beside username"),
        ("url = \"http://[::1]/\"\npassword_file = \"/p\"", "username", "is missing beside password_file"),
        ("url = \"http://[::1]/\"\nusername = \"a:b\"", "username", "is no name"),
        ("url = \"http://[::1]/\"\nusername = \"a\"\nbearer_token_file = \"/t\"", "bearer_token_file", "one way only"),
    ] {
        let error = scrape(keys).unwrap_err();
        assert!(error.contains(&format!("scrape.app.{key}: ")) && error.contains(what), "{keys}: {error}");
    }
}

#[test]
fn what_the_collector_sets_names_no_file_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, "name = \"a\"\ncollector = \"c:1\"\n[central]\nallow = [\"scrape\"]\n").unwrap();
    let with = |keys: &str| Config::load_with(&path, &format!("[scrape.app]\nurl = \"https://h/\"\n{keys}"));
    assert_eq!(with("insecure = true").unwrap().apps.scrape.len(), 1);
    let error = with("insecure = true\nbearer_token_file = \"/etc/shadow\"").unwrap_err().to_string();
    assert!(error.contains("scrape.app: names a file of the host"), "{error}");
}

#[test]
fn labels_that_signals_have_too_are_taken_and_told() {
    let config = parse("collector = \"c:1\"\n[labels]\nzone = \"eu-1a\"\nrole = \"db\"").unwrap();
    assert_eq!(config.labels_of_signals(), [("zone", vec!["node_thermal_zone_temp"])]);
}
