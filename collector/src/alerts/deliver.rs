//! Telling receivers: one attempt at a time to each, side by side, with a time limit; and the sign of life. How a mail is
//! sent is `mail`'s matter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_alerting::dispatch::Attempt;
use pitwatch_alerting::message::Detail;
use pitwatch_alerting::receivers::{
    self, BuildError, Delivery, HttpOptions, HttpRequest, Integration, Kind, Secret, TlsOptions,
};
use pitwatch_alerting::template::Library;
use pitwatch_alerting::{Frame, Outcome, Routing};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Alerts, mail, routing};
use crate::clock::unix_ms;
use crate::config::{AlertingConfig, HeartbeatConfig};

/// A receiver that takes longer has failed, seconds.
pub(super) const TIMEOUT_SECS: u64 = 10;
/// Bytes of an answer that are read: what a platform says of why, and where it keeps the message.
const ANSWER_MAX_BYTES: usize = 16 * 1024;
/// What waits for its time is looked at this often, milliseconds.
const POLL_MAX_MS: i64 = 1_000;
/// Largest file with a secret, in bytes.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// Who hears of what, and how each is reached; replaced as a whole when the configuration changes.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) routing: Arc<Routing>,
    library: Library,
    plain: reqwest::Client,
    /// Clients of integrations that ask for one of their own, by receiver and place.
    own: HashMap<(Arc<str>, usize), reqwest::Client>,
}

impl Ways {
    /// As the configuration says now.
    ///
    /// # Errors
    /// Every mistake in the files.
    pub(super) fn load(config: &AlertingConfig) -> anyhow::Result<Self> {
        let (routing, library) = routing::load(config)?;
        for remark in &routing.remarks {
            warn!("{remark}");
        }
        let mut own = HashMap::new();
        for receiver in &routing.receivers {
            for (at, integration) in receiver.integrations.iter().enumerate() {
                let (http, name) = (&integration.http, &receiver.name);
                if http.tls.ca_file.is_some() || http.tls.insecure || http.proxy_url.is_some() {
                    let client = client(http).with_context(|| format!("receiver {name}: its http_config"))?;
                    own.insert((name.clone(), at), client);
                }
            }
        }
        Ok(Self { routing: Arc::new(routing), library, plain: client(&HttpOptions::default())?, own })
    }

    fn client(&self, attempt: &Attempt) -> &reqwest::Client {
        self.own.get(&(attempt.receiver.clone(), attempt.integration)).unwrap_or(&self.plain)
    }
}

impl Alerts {
    /// Delivers until `stop`.
    ///
    /// # Errors
    /// The runtime ends.
    pub async fn deliver(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        if let Some(heartbeat) = self.config.heartbeat.clone() {
            let client = self.desk().ways.plain.clone();
            tokio::spawn(self.clone().live(heartbeat, client, stop.clone()));
        }
        loop {
            let this = self.clone();
            let (attempt, due_ms) = tokio::task::spawn_blocking(move || this.next_attempt()).await?;
            if let Some((attempt, ways)) = attempt {
                let this = self.clone();
                tokio::spawn(async move { this.attempt(ways, attempt).await });
                continue;
            }
            let pause_ms = due_ms.map_or(POLL_MAX_MS, |due| due.saturating_sub(unix_ms()).clamp(1, POLL_MAX_MS));
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = self.queued.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pause_ms.unsigned_abs())) => {}
            }
        }
    }

    async fn attempt(self: Arc<Self>, ways: Arc<Ways>, attempt: Attempt) {
        let Some(receiver) = ways.routing.receiver(&attempt.receiver) else { return };
        let Some(integration) = receiver.integrations.get(attempt.integration).cloned() else { return };
        let (outcome, place) = self.clone().send(ways.clone(), &integration, &attempt).await;
        let (receiver, kind) = (&*attempt.receiver, integration.kind.name());
        let (firing, over, groups) = (attempt.message.firing.len(), attempt.message.over.len(), attempt.message.groups);
        match &outcome {
            Outcome::Delivered => {
                info!(receiver, kind, firing, resolved = over, groups, attempts = attempt.failures + 1, "delivered");
            }
            Outcome::Retry { reason, .. } => {
                warn!(receiver, kind, firing, resolved = over, "not delivered, trying again: {reason}");
            }
            Outcome::Refused { reason } => {
                let short = attempt.message.detail == Detail::Short;
                let next = if short { "given up" } else { "trying a shorter one" };
                warn!(receiver, kind, firing, resolved = over, "the receiver refuses this message, {next}: {reason}");
            }
        }
        let done = move || self.finished(&ways, attempt.line, &outcome, place.as_deref());
        let _ = tokio::task::spawn_blocking(done).await;
    }

    async fn send(
        self: Arc<Self>,
        ways: Arc<Ways>,
        integration: &Integration,
        attempt: &Attempt,
    ) -> (Outcome, Option<String>) {
        let retry = |reason: String| (Outcome::Retry { reason, retry_after_ms: None }, None);
        let client = ways.client(attempt).clone();
        let (this, kind, attempt) = (self.clone(), integration.clone(), attempt.clone());
        let built = tokio::task::spawn_blocking(move || {
            let for_people = !matches!(kind.kind, Kind::Webhook(_) | Kind::Alertmanager(_));
            let moments = this.moments.look(&attempt.message, &this.links, for_people);
            let frame = Frame { external_url: this.external_url.clone(), moments };
            receivers::build(&kind, &attempt.message, &frame, &ways.library, attempt.place.as_deref(), &reveal)
        });
        let delivery = match built.await {
            Ok(Ok(delivery)) => delivery,
            // The same templates will fail again: the short form has none.
            Ok(Err(BuildError::Template(reason))) => return (Outcome::Refused { reason }, None),
            Ok(Err(BuildError::Secret(reason))) => return retry(reason),
            Err(error) => return (Outcome::Refused { reason: format!("the message cannot be made: {error}") }, None),
        };
        match (delivery, &integration.kind) {
            (Delivery::Http(request), kind) => post(&client, kind, request).await,
            (Delivery::Mail(mail), Kind::Email(email)) => {
                let email = email.clone();
                match tokio::task::spawn_blocking(move || mail::send(&email, mail)).await {
                    Ok(outcome) => (outcome, None),
                    Err(error) => retry(error.to_string()),
                }
            }
            (Delivery::Mail(_), _) => retry("a mail for what takes none".to_owned()),
        }
    }

    /// Tells an outside service again and again that this collector lives and evaluates its rules; when that stops, the
    /// service calls for help.
    async fn live(
        self: Arc<Self>,
        heartbeat: HeartbeatConfig,
        client: reqwest::Client,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            if self.evaluates() {
                let url = reveal(&heartbeat.url);
                let sent = match url {
                    Ok(url) => client.get(url).send().await.map_err(|error| crate::error_chain(&error.without_url())),
                    Err(error) => Err(error),
                };
                let answer = sent.and_then(|answer| match answer.status().as_u16() {
                    200..=299 => Ok(()),
                    status => Err(format!("HTTP {status}")),
                });
                if let Err(reason) = &answer {
                    warn!("the heartbeat was not taken: {reason}");
                }
                self.note_heartbeat(answer);
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(heartbeat.interval) => {}
            }
        }
    }
}

fn client(options: &HttpOptions) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(TIMEOUT_SECS))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("pitwatch/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = &options.proxy_url {
        builder = builder.proxy(reqwest::Proxy::all(proxy).context("proxy_url")?);
    }
    let TlsOptions { ca_file, insecure } = &options.tls;
    if let Some(path) = ca_file {
        for certificate in reqwest::Certificate::from_pem_bundle(routing::read(path)?.as_bytes())? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if *insecure {
        builder = builder.danger_accept_invalid_certs(true);
    }
    Ok(builder.build()?)
}

/// The text of a secret.
pub(super) fn reveal(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => {
            let about = std::fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            if about.len() > SECRET_MAX_BYTES {
                return Err(format!("{}: too large for a secret", path.display()));
            }
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok(text.trim().to_owned())
        }
    }
}

async fn post(client: &reqwest::Client, kind: &Kind, request: HttpRequest) -> (Outcome, Option<String>) {
    let mut post = client.post(request.url).header(CONTENT_TYPE, "application/json").body(request.body);
    for (name, value) in request.headers {
        post = post.header(name, value);
    }
    let mut answer = match post.send().await {
        Ok(answer) => answer,
        // Without the address: it is a secret.
        Err(error) => {
            let reason = crate::error_chain(&error.without_url());
            return (Outcome::Retry { reason, retry_after_ms: None }, None);
        }
    };
    let status = answer.status().as_u16();
    let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut text = Vec::new();
    while text.len() < ANSWER_MAX_BYTES
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        text.extend_from_slice(&chunk[..chunk.len().min(ANSWER_MAX_BYTES - text.len())]);
    }
    receivers::judge(kind, status, wait.as_deref(), &String::from_utf8_lossy(&text))
}
