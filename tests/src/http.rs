//! Asking the collector's API, blocking.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pitwatch_collector::access::{LOCAL_FILE, LocalFile, LocalTls};
use serde_json::Value;

/// An answer that takes longer has failed, seconds.
const TIMEOUT_SECS: u64 = 30;

/// One sample of an answer: labels and value.
pub type Row = (BTreeMap<String, String>, f64);

/// One series of an answer: labels, and samples as (milliseconds since the Unix epoch, value), ascending.
pub type Series = (BTreeMap<String, String>, Vec<(i64, f64)>);

/// A client with a token.
#[derive(Debug)]
pub struct Api {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    /// For the collector at `base` (`http://host:port`).
    ///
    /// # Errors
    /// No runtime or client can be made.
    pub fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        // Another client of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(TIMEOUT_SECS)).build()?;
        Ok(Self { runtime, client, base: base.to_owned(), token: token.to_owned() })
    }

    /// For the collector whose data is in `dir`, as programs of this host reach it: plainly or over TLS.
    ///
    /// # Errors
    /// The file that says how is not there or is none.
    pub fn local(dir: &Path) -> anyhow::Result<Self> {
        let file: LocalFile = serde_json::from_slice(&std::fs::read(dir.join(LOCAL_FILE))?)?;
        let mut api = Self::new(&file.url, &file.token)?;
        if let Some(LocalTls { name, authority }) = &file.tls {
            let mut base = reqwest::Url::parse(&file.url)?;
            let client = reqwest::Client::builder()
                .timeout(Duration::from_secs(TIMEOUT_SECS))
                .tls_certs_only(reqwest::Certificate::from_pem_bundle(authority.as_bytes())?)
                .resolve_to_addrs(name, &base.socket_addrs(|| None)?);
            base.set_host(Some(name))?;
            (api.client, api.base) = (client.build()?, base.as_str().trim_end_matches('/').to_owned());
        }
        Ok(api)
    }

    /// GET `path` with query parameters: status and body.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<(u16, Value)> {
        let (status, text) = self.get_text(path, parameters)?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// GET `path` with query parameters: status, and body as it came.
    ///
    /// # Errors
    /// No answer.
    pub fn get_text(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<(u16, String)> {
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        let url = format!("{}{path}?{}", self.base, query.join("&"));
        self.runtime.block_on(async {
            let answer = self.client.get(&url).bearer_auth(&self.token).send().await?;
            Ok((answer.status().as_u16(), answer.text().await?))
        })
    }

    /// POST of JSON to `path`: status and body.
    ///
    /// # Errors
    /// No answer.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.base);
        let post = self.client.post(&url).bearer_auth(&self.token).header("content-type", "application/json");
        self.runtime.block_on(async {
            let answer = post.body(body.to_string()).send().await?;
            let (status, text) = (answer.status().as_u16(), answer.text().await?);
            Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
        })
    }

    /// The headers that a POST of JSON to `path` is answered with.
    ///
    /// # Errors
    /// No answer.
    pub fn post_headers(&self, path: &str, body: &Value) -> anyhow::Result<Vec<(String, String)>> {
        let post = self.client.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        let answer = self.runtime.block_on(async { post.body(body.to_string()).send().await })?;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        Ok(answer.headers().iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect())
    }

    /// An instant query now: rows of labels and value, sorted by labels.
    ///
    /// # Errors
    /// No answer, or an error of the API.
    pub fn query(&self, expr: &str) -> anyhow::Result<Vec<Row>> {
        self.query_with(&[("query", expr)])
    }

    /// An instant query at `time_secs`, seconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`Api::query`].
    pub fn query_at(&self, expr: &str, time_secs: f64) -> anyhow::Result<Vec<Row>> {
        self.query_with(&[("query", expr), ("time", &format!("{time_secs:.3}"))])
    }

    fn query_with(&self, parameters: &[(&str, &str)]) -> anyhow::Result<Vec<Row>> {
        let (status, body) = self.get("/api/v1/query", parameters)?;
        anyhow::ensure!(status == 200, "HTTP {status}: {body}");
        let rows = body["data"]["result"].as_array().context("no result")?;
        let mut rows = rows.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(rows)
    }

    /// Every stored sample of the series that `selector` names, over the last `secs`: labels, then (milliseconds,
    /// value) ascending.
    ///
    /// # Errors
    /// As [`Api::query`].
    pub fn samples(&self, selector: &str, secs: u64) -> anyhow::Result<Vec<Series>> {
        let (status, body) = self.get("/api/v1/query", &[("query", &format!("{selector}[{secs}s]"))])?;
        anyhow::ensure!(status == 200, "HTTP {status}: {body}");
        let series = body["data"]["result"].as_array().context("no result")?;
        let read = |series: &Value| {
            let values = series["values"].as_array().context("no values")?.iter().map(sample);
            Ok((labels(series), values.collect::<anyhow::Result<Vec<_>>>()?))
        };
        series.iter().map(read).collect()
    }

    /// The single value of an expression, if it has exactly one row.
    ///
    /// # Errors
    /// As [`Api::query`].
    pub fn value(&self, expr: &str) -> anyhow::Result<Option<f64>> {
        let rows = self.query(expr)?;
        Ok(if rows.len() == 1 { Some(rows[0].1) } else { None })
    }

    /// Asks again until `good` says yes or the time is over; gives the last rows.
    ///
    /// # Errors
    /// The time is over; says what was seen last.
    pub fn wait_for(&self, expr: &str, limit: Duration, good: impl Fn(&[Row]) -> bool) -> anyhow::Result<Vec<Row>> {
        let end = Instant::now() + limit;
        loop {
            let last = self.query(expr);
            match last {
                Ok(rows) if good(&rows) => return Ok(rows),
                last if Instant::now() >= end => {
                    anyhow::bail!("{expr} did not come to be in {} s; last: {last:?}", limit.as_secs())
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

fn labels(series: &Value) -> BTreeMap<String, String> {
    let pairs = series["metric"].as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn row(series: &Value) -> anyhow::Result<Row> {
    let (_, value) = sample(&series["value"])?;
    Ok((labels(series), value))
}

fn sample(pair: &Value) -> anyhow::Result<(i64, f64)> {
    let secs = pair[0].as_f64().context("no time")?;
    let value = pair[1].as_str().context("no value")?.parse()?;
    Ok(((secs * 1000.0).round() as i64, value))
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
