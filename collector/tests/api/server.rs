//! A server over a store with two hosts, and stand-ins for the agents and alerts of the rest of the collector.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pitwatch_alerting::incidents::{Act, Entry, Incident, Incidents, Marks};
use pitwatch_alerting::outside::{Given, Refused};
use pitwatch_alerting::{LabelSet, Output, Outside, Silence, Silences};
use pitwatch_collector::access::{Access, Role, TokenRequest};
use pitwatch_collector::alerts::desk::DeskError;
use pitwatch_collector::alerts::links::{Deed, Token};
use pitwatch_collector::api::{
    AgentInfo, AgentState, Alarms, AlertCare, AlertInfo, AlertState, App, Desk, EnrollTokenInfo, Fleet, FleetError,
    NewToken, ReceiverStatus, RefusedInfo, RoomInfo, RuleGroupInfo, RuleHealth, RuleInfo, RuleKind, Snapshots,
    StorageInfo, Vitals,
};
use pitwatch_collector::clock::unix_ms;
use pitwatch_collector::ingest::Ingest;
use pitwatch_collector::state::{self, Engine};
use pitwatch_history::{Appender, Config, History, SourceName};
use pitwatch_promql::EngineOptions;
use pitwatch_shared::codec::{Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, Lane, Mark, MetricType};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, SET_COOKIE};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Seconds of history of each host.
pub(crate) const SECONDS: i64 = 120;
/// Queries that run at once.
pub(crate) const QUERIES_AT_ONCE: usize = 2;

/// The server, its tokens, and a client.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) admin: String,
    pub(crate) operator: String,
    pub(crate) viewer: String,
    pub(crate) writer: String,
    /// The time of the latest samples, on a full second.
    pub(crate) end_ms: i64,
    pub(crate) world: Arc<World>,
    pub(crate) access: Arc<Access>,
    client: reqwest::Client,
    runtime: Option<Runtime>,
    _dir: tempfile::TempDir,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) cookie: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.kind, "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The data of a success.
    pub(crate) fn data(&self) -> Value {
        let mut json = self.json();
        assert_eq!((self.status, &json["status"]), (200, &Value::from("success")), "{}", self.body);
        json["data"].take()
    }

    /// The status, type and text of an error.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let json = self.json();
        assert_eq!(json["status"], "error", "{}", self.body);
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (self.status, text("errorType"), text("error"))
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("history");
        let disk = Arc::new(pitwatch_disk::RealDisk);
        let (history, mut appender, _) = History::open(disk, &store, Config::default()).unwrap();
        let end_ms = unix_ms() / 1000 * 1000;
        ["db-1", "web-1"].into_iter().enumerate().for_each(|(at, name)| feed(&mut appender, name, at, end_ms));
        appender.commit().unwrap();

        let access = Access::open(state::open(Engine::Redb, &dir.path().join("state")).unwrap()).unwrap();
        let token = |name: &str, role| {
            let request = TokenRequest { name, role, expires_ms: None, created_by: "test" };
            access.create(&request, unix_ms()).unwrap().0
        };
        let (admin, operator) = (token("ann", Role::Admin), token("olga", Role::Operator));
        let (viewer, writer) = (token("vera", Role::Viewer), token("prometheus", Role::Writer));
        let (ingest, _) = Ingest::start(appender).unwrap();
        let (access, world) = (Arc::new(access), Arc::new(World::new(end_ms)));
        let app = App {
            history,
            ingest,
            engine: EngineOptions::default(),
            queries_at_once: QUERIES_AT_ONCE,
            query_stats: Arc::default(),
            access: access.clone(),
            fleet: world.clone(),
            alarms: world.clone(),
            desk: world.clone(),
            vitals: world.clone(),
            snapshots: world.clone(),
            agents_address: Some("watch.example:4717".to_owned()),
            started_ms: end_ms - 3_600_000,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = pitwatch_collector::api::router(app);
        runtime.spawn(pitwatch_collector::api::serve(listener, None, router, std::future::pending()));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let runtime = Some(runtime);
        Self { address, admin, operator, viewer, writer, end_ms, world, access, client, runtime, _dir: dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) fn send(&self, request: RequestBuilder) -> Answer {
        self.runtime.as_ref().unwrap().block_on(async {
            let answer = request.send().await.unwrap();
            let headers = answer.headers().clone();
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            Answer {
                status: answer.status().as_u16(),
                kind: text(CONTENT_TYPE).unwrap_or_default(),
                cookie: text(SET_COOKIE),
                location: text(LOCATION),
                headers: headers.clone(),
                body: answer.text().await.unwrap(),
            }
        })
    }

    /// The head and the bytes of an answer.
    pub(crate) fn bytes(&self, request: RequestBuilder) -> (reqwest::header::HeaderMap, Vec<u8>) {
        self.runtime.as_ref().unwrap().block_on(async {
            let answer = request.send().await.unwrap();
            let head = answer.headers().clone();
            (head, answer.bytes().await.unwrap().into())
        })
    }

    /// What comes of an answer until that is enough, or all of it.
    pub(crate) fn begin(&self, request: RequestBuilder, enough: impl Fn(&str) -> bool) -> String {
        self.runtime.as_ref().unwrap().block_on(async {
            let mut answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let mut text = String::new();
            while !enough(&text)
                && let Some(piece) = answer.chunk().await.unwrap()
            {
                text.push_str(std::str::from_utf8(&piece).unwrap());
            }
            text
        })
    }

    /// Asks as a viewer.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(&self.viewer))
    }

    /// Sends a form as a viewer.
    pub(crate) fn post_form(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, path).bearer_auth(&self.viewer);
        self.send(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(encode(form)))
    }

    /// Sends JSON with a token.
    pub(crate) fn send_json(&self, method: Method, path: &str, token: &str, body: &Value) -> Answer {
        let request = self.request(method, path).header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.header(CONTENT_TYPE, "application/json").body(body.to_string()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Pairs as a form or the query of an address.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://x").unwrap();
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap().to_owned()
}

/// Sends a host's series, a sample a second. The second host is twice as busy as the first.
fn feed(appender: &mut Appender, name: &str, at: usize, end_ms: i64) {
    let scale = at as f64 + 1.0;
    type Row = (&'static str, &'static [(&'static str, &'static str)], MetricType, fn(f64, f64) -> f64);
    let rows: [Row; 9] = [
        ("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "idle")], MetricType::Counter, |t, k| t * (1.0 - 0.25 * k)),
        ("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "user")], MetricType::Counter, |t, k| t * 0.25 * k),
        ("node_memory_MemAvailable_bytes", &[], MetricType::Gauge, |_, k| 4e9 / k),
        ("node_memory_MemTotal_bytes", &[], MetricType::Gauge, |_, _| 8e9),
        ("node_filesystem_avail_bytes", &[("mountpoint", "/"), ("fstype", "ext4")], MetricType::Gauge, |_, k| 50e9 / k),
        ("node_filesystem_size_bytes", &[("mountpoint", "/"), ("fstype", "ext4")], MetricType::Gauge, |_, _| 100e9),
        ("node_network_receive_bytes_total", &[("device", "eth0")], MetricType::Counter, |t, k| t * 1e6 * k),
        ("node_network_transmit_bytes_total", &[("device", "eth0")], MetricType::Counter, |t, _| t * 5e5),
        ("node_load1", &[("note", "a\"b\\c<d>")], MetricType::Gauge, |_, k| k / 4.0),
    ];
    let defs: Vec<SeriesDef> = (0u32..)
        .zip(&rows)
        .map(|(slot, (metric, labels, kind, _))| {
            let labels = Labels::new([("__name__", *metric)].into_iter().chain(labels.iter().copied())).unwrap();
            SeriesDef { slot, kind: *kind, labels }
        })
        .collect();
    let (source, mut encoder, mut seq) = (SourceName::agent(name), Encoder::new(), 0);
    let mut append = |payload: &[u8]| {
        seq += 1;
        appender.append(&source, Lane::Metrics, Mark { epoch: 1, seq }, payload).unwrap();
    };
    let mut payload = Vec::new();
    encoder.schema(&mut payload, true, 0, &[], &defs).unwrap();
    append(&payload);
    for second in 0..=SECONDS {
        payload.clear();
        let values: Vec<f64> = rows.iter().map(|(_, _, _, value)| value(second as f64, scale)).collect();
        encoder.tick(&mut payload, 0, end_ms - (SECONDS - second) * 1000, &values).unwrap();
        append(&payload);
    }
}

/// Stand-ins for the rest of the collector, with what was asked of them.
pub(crate) struct World {
    end_ms: i64,
    pub(crate) revoked: Mutex<Vec<(String, String)>>,
    pub(crate) not_ready: Mutex<Option<String>>,
    silences: Mutex<Silences>,
    incidents: Mutex<Incidents>,
}

impl World {
    fn new(end_ms: i64) -> Self {
        let (silences, incidents) = (Mutex::default(), Mutex::default());
        Self { end_ms, revoked: Mutex::default(), not_ready: Mutex::default(), silences, incidents }
    }

    fn agent(&self, name: &str, state: AgentState) -> AgentInfo {
        AgentInfo {
            name: name.to_owned(),
            labels: [("role".to_owned(), "game".to_owned())].into(),
            state,
            since_ms: Some(self.end_ms - 60_000),
            last_seen_ms: Some(self.end_ms),
            last_sample_ms: Some(self.end_ms),
            software: "0.1.0".to_owned(),
            remote_address: Some("10.0.0.7:51000".to_owned()),
            enrolled_ms: 0,
            certificate_not_after_ms: Some(self.end_ms + 86_400_000),
            fingerprint: Some("ab".repeat(32)),
            clock_skew_ms: Some(12),
            frames: 10,
            lost_frames: 0,
        }
    }

    fn alert(&self) -> AlertInfo {
        AlertInfo {
            name: "Load".to_owned(),
            state: AlertState::Firing,
            labels: labels(&[("alertname", "Load"), ("instance", "web-1"), ("severity", "critical")]),
            annotations: labels(&[("summary", "too much")]),
            active_at_ms: 1_772_331_247_000,
            fired_at_ms: Some(1_772_331_250_000),
            value: Some(0.5),
            no_data: false,
            care: AlertCare::default(),
        }
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Fleet for World {
    fn agents(&self) -> Vec<AgentInfo> {
        let silent = AgentInfo { last_sample_ms: Some(self.end_ms - 600_000), ..self.agent("old-1", AgentState::Away) };
        let connected = ["db-1", "web-1"].map(|name| self.agent(name, AgentState::Connected));
        connected.into_iter().chain([silent, self.agent("gone-1", AgentState::Revoked)]).collect()
    }

    fn is_agent(&self, name: &str) -> bool {
        self.agents().iter().any(|agent| agent.name == name)
    }

    fn revoke(&self, name: &str, by: &str) -> Result<(), FleetError> {
        match name {
            "db-1" | "web 1" => {
                self.revoked.lock().unwrap().push((name.to_owned(), by.to_owned()));
                Ok(())
            }
            "gone-1" => Err(FleetError::Already("agent \"gone-1\" is revoked".to_owned())),
            "sick-1" => Err(FleetError::Storage("the disk is full".to_owned())),
            other => Err(FleetError::NotFound(other.to_owned())),
        }
    }

    fn create_enroll_token(&self, name: Option<&str>, ttl_secs: u64, by: &str) -> Result<NewToken, FleetError> {
        if ttl_secs > 1_000_000 {
            return Err(FleetError::Refused("a token lives at most 1000000 s".to_owned()));
        }
        let token = format!("pwe1_for_{}_by_{by}_{ttl_secs}", name.unwrap_or("any"));
        Ok(NewToken { token, expires_ms: self.end_ms + 1000 })
    }

    fn enroll_tokens(&self) -> Vec<EnrollTokenInfo> {
        vec![EnrollTokenInfo { id: "0a1b".to_owned(), name: None, expires_ms: self.end_ms, used: true }]
    }
}

impl Alarms for World {
    fn alerts(&self) -> Vec<AlertInfo> {
        vec![self.alert()]
    }

    fn rules(&self) -> Vec<RuleGroupInfo> {
        let rule = |name: &str, kind| RuleInfo {
            name: name.to_owned(),
            query: "node_load1 > 0.4".to_owned(),
            labels: labels(&[("severity", "critical")]),
            health: RuleHealth::Ok,
            last_error: None,
            evaluation_secs: 0.001,
            last_evaluation_ms: Some(1_772_331_250_000),
            kind,
        };
        let alerting = RuleKind::Alerting {
            state: AlertState::Firing,
            duration_secs: 3.0,
            keep_firing_for_secs: 0.0,
            annotations: labels(&[("summary", "{{ $value }}")]),
            alerts: vec![self.alert()],
        };
        let failing = RuleInfo {
            health: RuleHealth::Err,
            last_error: Some("many-to-many".to_owned()),
            last_evaluation_ms: None,
            labels: labels(&[]),
            ..rule("job:load", RuleKind::Recording)
        };
        let group = |name: &str, rules| RuleGroupInfo {
            name: name.to_owned(),
            file: "/etc/pitwatch/rules/node.yml".to_owned(),
            interval_secs: 5.0,
            limit: 0,
            evaluation_secs: 0.002,
            last_evaluation_ms: Some(1_772_331_250_000),
            rules,
        };
        vec![group("node", vec![rule("Load", alerting), failing]), group("quiet", Vec::new())]
    }

    fn reload(&self) -> Result<usize, String> {
        Ok(2)
    }

    fn deliveries(&self) -> Vec<ReceiverStatus> {
        vec![ReceiverStatus {
            name: "chat".to_owned(),
            kind: "slack",
            pending: 1,
            delivered: 2,
            failed: 3,
            last_error: Some("HTTP 500".to_owned()),
            last_success_ms: None,
            oldest_ms: None,
        }]
    }
}

impl Desk for World {
    fn silences(&self) -> Vec<Silence> {
        self.silences.lock().unwrap().iter().cloned().collect()
    }

    fn give_alerts(&self, given: Vec<Given>) -> Vec<Refused> {
        let (now_ms, mut output) = (unix_ms(), Output::default());
        let mut outside = Outside::default();
        given.into_iter().filter_map(|one| outside.take(one, 60_000, now_ms, &mut output).err()).collect()
    }

    fn set_silence(&self, silence: Silence) -> Result<String, DeskError> {
        let mut silences = self.silences.lock().unwrap();
        let stored = silences.set(silence, "00000000-0000-4000-8000-000000000001", unix_ms())?;
        Ok(stored.last().unwrap().id.clone())
    }

    fn expire_silence(&self, id: &str) -> Result<(), DeskError> {
        self.silences.lock().unwrap().expire(id, unix_ms())?;
        Ok(())
    }

    fn act_on_alert(&self, fingerprint: &str, act: &Act, by: &str, comment: &str) -> Result<Marks, DeskError> {
        let mut incidents = self.incidents.lock().unwrap();
        let known = LabelSet::new(self.alert().labels).fingerprint();
        if fingerprint != format!("{known:016x}") {
            return Err(DeskError::NoAlert(fingerprint.to_owned()));
        }
        incidents.act_on_alert("key", fingerprint, act, by, comment, 5);
        Ok(incidents.marks("key").cloned().unwrap_or_default())
    }

    fn incidents(&self) -> Vec<Incident> {
        self.incidents.lock().unwrap().iter().cloned().collect()
    }

    fn incident(&self, id: u64) -> Result<(Incident, Vec<Entry>), DeskError> {
        let incidents = self.incidents.lock().unwrap();
        incidents.get(id).map(|one| (one.clone(), Vec::new())).ok_or(DeskError::NoIncident(id))
    }

    fn act_on_incident(&self, id: u64, act: &Act, by: &str, comment: &str) -> Result<Incident, DeskError> {
        let mut incidents = self.incidents.lock().unwrap();
        incidents.act(id, act, by, comment, 5).ok_or(DeskError::NoIncident(id))?;
        Ok(incidents.get(id).cloned().unwrap())
    }

    fn receivers(&self) -> Vec<String> {
        vec!["chat".to_owned()]
    }

    fn receivers_of(&self, _: &LabelSet) -> Vec<String> {
        self.receivers()
    }

    fn groups(&self) -> Vec<(String, LabelSet, Vec<String>)> {
        let labels = LabelSet::new(self.alert().labels);
        vec![(
            "chat".to_owned(),
            LabelSet::new([("alertname", "Load")]),
            vec![format!("{:016x}", labels.fingerprint())],
        )]
    }

    fn routes(&self) -> String {
        "route:\n  receiver: chat\n".to_owned()
    }

    fn link(&self, token: &str) -> Option<Token> {
        let fingerprint = format!("{:016x}", LabelSet::new(self.alert().labels).fingerprint());
        (token == "good.link").then_some(Token { deed: Deed::Silence, fingerprint, ends_ms: i64::MAX })
    }
}

impl Snapshots for World {
    fn take(&self) -> Result<u64, String> {
        Ok(4096)
    }
}

impl Vitals for World {
    fn metrics_text(&self) -> String {
        "# TYPE pitwatch_collector_up gauge\npitwatch_collector_up 1\n".to_owned()
    }

    fn status(&self) -> Value {
        serde_json::json!({ "wal": { "wal_bytes": 1024 } })
    }

    fn storage(&self) -> StorageInfo {
        let room = |name: &str| RoomInfo { name: name.to_owned(), block_bytes: 9, block_samples: 4, head_samples: 2 };
        StorageInfo {
            losses: vec!["/x.blk: the footer is damaged".to_owned()],
            agents: vec![room("db-1"), room("web-1")],
            metrics: vec![room("node_load1")],
            index_bytes: 7,
            refused: vec![RefusedInfo {
                agent: "web-1".to_owned(),
                refused_total: 12,
                limit: "too many",
                explosion: Some(("path".to_owned(), 90, 100)),
                last: "a{path=\"/1\"}".to_owned(),
            }],
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}
