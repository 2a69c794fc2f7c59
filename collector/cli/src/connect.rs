//! Finding the collector and talking to it: addresses, tokens, requests, and what their failures mean.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::CliError;

/// Where a collector of this host keeps its files.
pub(crate) const COLLECTOR_DIR: &str = "/var/lib/pitwatch/collector";
/// The file in it with the address and a token.
const LOCAL_FILE: &str = "cli.json";
/// Largest file of `--ca`, in bytes: a system's whole bundle is a quarter of it.
const CA_MAX_BYTES: u64 = 1024 * 1024;
/// How long to wait for a connection, and for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// Where the collector is, with what token to ask it, and whom to take for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    url: Url,
    token: String,
    trust: Trust,
}

/// What makes a certificate the collector's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    /// An authority that this host trusts.
    System,
    /// The authority in this file alone.
    File(PathBuf),
    /// The local collector's own authority, by a name that it always has.
    Local(LocalTls),
}

/// What the command line and the environment say about the collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// `--collector`
    pub(crate) collector: Option<String>,
    /// `--token`
    pub(crate) token: Option<String>,
    /// `--ca`
    pub(crate) ca: Option<PathBuf>,
    /// Where a local collector keeps its files.
    pub(crate) dir: PathBuf,
}

/// What the local collector writes for us.
#[derive(Deserialize)]
struct LocalFile {
    url: String,
    token: String,
    /// How to know it, where it speaks TLS.
    tls: Option<LocalTls>,
}

/// How the local collector is known, whatever certificate it shows to others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct LocalTls {
    /// The name to ask for.
    name: String,
    /// The authority's certificate, in PEM.
    authority: String,
}

/// Finds the collector: as given, else the local one.
pub(crate) fn find(given: &Given) -> Result<Target, CliError> {
    let Some(collector) = given.collector.as_deref() else {
        let local = read_local(&given.dir)?;
        let url = parse_address(&local.url)?;
        return target(url.clone(), given, Some(local)).ok_or_else(|| CliError::NoToken { at: authority(&url) });
    };
    let mut url = parse_address(collector)?;
    // The local collector's token is for nobody else.
    let local = read_local(&given.dir).ok().filter(|local| {
        parse_address(&local.url).is_ok_and(|at| {
            let is_same = authority(&at) == authority(&url);
            if is_same && !collector.contains("://") {
                url.clone_from(&at);
            }
            is_same && at == url
        })
    });
    target(url.clone(), given, local).ok_or_else(|| CliError::NoToken { at: authority(&url) })
}

/// What is given, and for the rest what the local collector says of itself; `None` if there is no token.
fn target(url: Url, given: &Given, local: Option<LocalFile>) -> Option<Target> {
    let trust = match (&given.ca, local.as_ref().and_then(|local| local.tls.clone())) {
        (Some(file), _) => Trust::File(file.clone()),
        (None, Some(local)) => Trust::Local(local),
        (None, None) => Trust::System,
    };
    let token = given.token.clone().or(local.map(|local| local.token))?;
    Some(Target { url, token, trust })
}

fn read_local(dir: &Path) -> Result<LocalFile, CliError> {
    let path = dir.join(LOCAL_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CliError::NoCollector { path }),
        Err(error) => return Err(CliError::LocalFile { path, reason: reason(&error) }),
    };
    serde_json::from_slice(&text).map_err(|error| CliError::LocalFile { path, reason: error.to_string() })
}

/// Reads `HOST:PORT` or a URL. Without a scheme the way to another host is encrypted.
fn parse_address(text: &str) -> Result<Url, CliError> {
    let wrong = || CliError::Address(text.to_owned());
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&full).map_err(|_| wrong())?;
    let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_plain {
        return Err(wrong());
    }
    if !text.contains("://") && !is_this_host(&url) {
        url.set_scheme("https").map_err(|()| wrong())?;
    }
    Ok(url)
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    // A collector on every address of this host calls itself 0.0.0.0.
    host == "localhost" || address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

/// A connection to the collector.
pub(crate) struct Client {
    http: reqwest::Client,
    target: Target,
    /// What is asked: the target's address, or the name that stands for it.
    base: Url,
}

/// An answer: the text as it came, for `-o json`, and the data in it.
pub(crate) struct Answer<T> {
    /// The whole body.
    pub(crate) body: String,
    /// What its `data` says.
    pub(crate) data: T,
    /// What the collector remarks about the data.
    pub(crate) warnings: Vec<String>,
}

/// The envelope of every answer.
#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

/// The envelope of an error.
#[derive(Deserialize)]
struct Failure {
    error: String,
}

impl Client {
    /// A client of that collector.
    pub(crate) fn new(target: Target) -> Result<Self, CliError> {
        let at = authority(&target.url);
        let unreachable = |reason| CliError::Unreachable { at: at.clone(), reason };
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
        let mut base = target.url.clone();
        match &target.trust {
            Trust::System => {}
            Trust::File(path) => http = http.tls_certs_only(authorities(path)?),
            Trust::Local(LocalTls { name, authority }) => {
                let pem = reqwest::Certificate::from_pem_bundle(authority.as_bytes());
                let addresses = base.socket_addrs(|| None).map_err(|error| unreachable(reason(&error)))?;
                let pem = pem.map_err(|error| unreachable(cause(&error)))?;
                http = http.tls_certs_only(pem).resolve_to_addrs(name, &addresses).no_proxy();
                base.set_host(Some(name)).map_err(|error| unreachable(error.to_string()))?;
            }
        }
        let http = http.build().map_err(|error| unreachable(cause(&error)))?;
        Ok(Self { http, target, base })
    }

    /// The collector's host, and whether it is this one.
    pub(crate) fn host(&self) -> (String, bool) {
        (self.target.url.host_str().unwrap_or_default().to_owned(), is_this_host(&self.target.url))
    }

    /// Asks for something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, CliError> {
        self.ask(Method::GET, path, &[], None).await
    }

    /// Asks for something, with parameters in the address.
    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&str, String)],
    ) -> Result<Answer<T>, CliError> {
        self.ask(Method::GET, path, parameters, None).await
    }

    /// Asks a query, as a form: it may be longer than an address may be.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        path: &[&str],
        form: &[(&str, String)],
    ) -> Result<Answer<T>, CliError> {
        let mut encoder = self.target.url.clone();
        encoder.query_pairs_mut().clear().extend_pairs(form);
        let body = encoder.query().unwrap_or_default().to_owned();
        let asked = self.ask(Method::POST, path, &[], Some(("application/x-www-form-urlencoded", body))).await;
        asked.map_err(|error| match error {
            CliError::Refused(message) => {
                let query = form.iter().find(|(name, _)| *name == "query").map(|(_, text)| text.clone());
                CliError::Query { message, query: query.unwrap_or_default() }
            }
            error => error,
        })
    }

    /// Has something done.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &serde_json::Value,
    ) -> Result<Answer<T>, CliError> {
        self.ask(method, path, &[], Some(("application/json", body.to_string()))).await
    }

    /// Sends a text with a question in the address.
    pub(crate) async fn post_text<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        text: String,
    ) -> Result<Answer<T>, CliError> {
        self.ask(Method::POST, path, query, Some(("application/yaml", text))).await
    }

    /// Asks an endpoint that is not ours and has no envelope: Alertmanager's.
    pub(crate) async fn plain<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer<T>, CliError> {
        let body = body.map(|body| ("application/json", body.to_string()));
        let (status, body, at) = self.exchange(method, path, &[], body).await?;
        if !status.is_success() {
            // An error there is a text, unless it is ours.
            let text =
                serde_json::from_str::<String>(&body).map(|error| serde_json::json!({ "error": error }).to_string());
            return read(status, text.unwrap_or(body), at);
        }
        let read = if body.is_empty() { "null" } else { &*body };
        match serde_json::from_str(read) {
            Ok(data) => Ok(Answer { data, body, warnings: Vec::new() }),
            Err(error) => Err(CliError::Unexpected { at, reason: error.to_string() }),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        parameters: &[(&str, String)],
        body: Option<(&'static str, String)>,
    ) -> Result<Answer<T>, CliError> {
        let (status, body, at) = self.exchange(method, path, parameters, body).await?;
        read(status, body, at)
    }

    /// Sends a request; gives the answer's status and body, and who answered.
    async fn exchange(
        &self,
        method: Method,
        path: &[&str],
        parameters: &[(&str, String)],
        body: Option<(&'static str, String)>,
    ) -> Result<(StatusCode, String, String), CliError> {
        let at = authority(&self.target.url);
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| CliError::Address(at.clone()))?.clear().extend(path);
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let mut request = self.http.request(method, url).header(AUTHORIZATION, format!("Bearer {}", self.target.token));
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let unreachable = |error: reqwest::Error| CliError::Unreachable { at: at.clone(), reason: cause(&error) };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;
        Ok((status, body, at))
    }
}

/// The certificates in a file of `--ca`.
fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, CliError> {
    let wrong = |reason| CliError::Authority { path: path.to_owned(), reason };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(reason(&error)))?;
    file.take(CA_MAX_BYTES + 1).read_to_end(&mut text).map_err(|error| wrong(reason(&error)))?;
    if text.len() as u64 > CA_MAX_BYTES {
        return Err(wrong(format!("larger than {CA_MAX_BYTES} bytes")));
    }
    match reqwest::Certificate::from_pem_bundle(&text) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(wrong("no certificate in PEM in it".to_owned())),
        Err(error) => Err(wrong(cause(&error))),
    }
}

fn read<T: DeserializeOwned>(status: StatusCode, body: String, at: String) -> Result<Answer<T>, CliError> {
    if status.is_success() {
        return match serde_json::from_str::<Envelope<T>>(&body) {
            Ok(Envelope { data, mut warnings, infos }) => {
                warnings.extend(infos);
                Ok(Answer { body, data, warnings })
            }
            Err(error) => Err(CliError::Unexpected { at, reason: error.to_string() }),
        };
    }
    let Ok(Failure { error: message }) = serde_json::from_str(&body) else {
        return Err(CliError::Unexpected { at, reason: status.to_string() });
    };
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CliError::NotAllowed(message),
        status if status.is_client_error() => CliError::Refused(message),
        _ => CliError::Failed { at, message },
    })
}

/// The innermost reason of a failed request, in few words.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return if error.is_connect() { "no answer to a connection" } else { "no answer in time" }.to_owned();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.downcast_ref::<io::Error>() {
        Some(error) => reason(error),
        None => inner.to_string(),
    }
}

/// An error of the system without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(collector: Option<&str>, token: Option<&str>, dir: &Path) -> Given {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Given { collector: owned(collector), token: owned(token), ca: None, dir: dir.to_owned() }
    }

    fn found(given: &Given) -> (String, String) {
        let target = find(given).unwrap_or_else(|error| panic!("{error}"));
        (target.url.to_string(), target.token)
    }

    #[test]
    fn addresses_beyond_this_host_are_encrypted_unless_said() {
        let address = |text| parse_address(text).map(|url| url.to_string()).ok();
        assert_eq!(address("127.0.0.1:4718").as_deref(), Some("http://127.0.0.1:4718/"));
        assert_eq!(address("[::1]:4718").as_deref(), Some("http://[::1]:4718/"));
        assert_eq!(address("localhost:4718").as_deref(), Some("http://localhost:4718/"));
        assert_eq!(address("watch.example:4718").as_deref(), Some("https://watch.example:4718/"));
        assert_eq!(address("http://watch.example:4718/").as_deref(), Some("http://watch.example:4718/"));
        for wrong in ["", "ftp://x", "http://x/y", "a b", "http://"] {
            assert!(matches!(parse_address(wrong), Err(CliError::Address(_))), "{wrong}");
        }
    }

    #[test]
    fn the_local_collector_is_found_and_its_token_goes_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let none = given(None, None, dir.path());
        assert!(matches!(find(&none), Err(CliError::NoCollector { .. })));
        std::fs::write(dir.path().join(LOCAL_FILE), r#"{"url":"http://127.0.0.1:4718","token":"t"}"#).unwrap();
        let local = ("http://127.0.0.1:4718/".to_owned(), "t".to_owned());
        assert_eq!(found(&none), local);
        assert_eq!(found(&given(Some("127.0.0.1:4718"), None, dir.path())), local);
        assert_eq!(found(&given(None, Some("u"), dir.path())).1, "u");
        let other = given(Some("10.0.0.1:4718"), None, dir.path());
        assert!(matches!(find(&other), Err(CliError::NoToken { .. })));
        let tls = r#"{"url":"https://127.0.0.1:4718","token":"t","tls":{"name":"watch","authority":"PEM"}}"#;
        std::fs::write(dir.path().join(LOCAL_FILE), tls).unwrap();
        let local = Trust::Local(LocalTls { name: "watch".to_owned(), authority: "PEM".to_owned() });
        for at in [None, Some("127.0.0.1:4718"), Some("https://127.0.0.1:4718")] {
            let target = find(&given(at, None, dir.path())).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((target.url.as_str(), &target.trust), ("https://127.0.0.1:4718/", &local), "{at:?}");
        }
        let plain = find(&given(Some("http://127.0.0.1:4718"), None, dir.path()));
        assert!(matches!(plain, Err(CliError::NoToken { .. })), "the token is not sent in the clear");
        let with_ca = Given { ca: Some("/ca.pem".into()), ..given(None, None, dir.path()) };
        assert_eq!(find(&with_ca).map(|target| target.trust).ok(), Some(Trust::File("/ca.pem".into())));
        std::fs::write(dir.path().join(LOCAL_FILE), "{").unwrap();
        assert!(matches!(find(&none), Err(CliError::LocalFile { .. })));
    }

    #[test]
    fn answers_are_told_apart() {
        let read = |status, body: &str| {
            read::<u32>(StatusCode::from_u16(status).unwrap(), body.to_owned(), "here".to_owned()).map(|a| a.data)
        };
        assert_eq!(read(200, r#"{"status":"success","data":7}"#).ok(), Some(7));
        assert!(matches!(read(200, "hello"), Err(CliError::Unexpected { .. })));
        assert!(matches!(read(502, "<html>"), Err(CliError::Unexpected { .. })));
        assert!(matches!(read(401, r#"{"error":"no"}"#), Err(CliError::NotAllowed(_))));
        assert!(matches!(read(400, r#"{"error":"no"}"#), Err(CliError::Refused(_))));
        assert!(matches!(read(503, r#"{"error":"no"}"#), Err(CliError::Failed { .. })));
    }

    #[test]
    fn a_closed_port_is_said_in_words() {
        crate::install_crypto();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let client = Client::new(Target { url, token: "t".to_owned(), trust: Trust::System })
            .unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(client.get::<u32>(&["x"])).err().unwrap();
        let expected = format!("cannot reach the collector at 127.0.0.1:{port} (connection refused)");
        assert_eq!(error.to_string(), expected);
    }
}
