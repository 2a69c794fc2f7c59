//! Telling receivers: one attempt at a time to each, side by side, with a time limit; and the sign of life.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_alerting::dispatch::Attempt;
use pitwatch_alerting::message::Detail;
use pitwatch_alerting::receivers::{
    self, BuildError, Delivery, Email, HttpOptions, HttpRequest, Integration, Kind, Mail, Secret,
};
use pitwatch_alerting::{Frame, Outcome};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Alerts;
use crate::clock::unix_ms;
use crate::config::HeartbeatConfig;

/// A receiver that takes longer has failed, seconds.
const TIMEOUT_SECS: u64 = 10;
/// Bytes of an answer that are read: what a platform says of why, and where it keeps the message.
const ANSWER_MAX_BYTES: usize = 16 * 1024;
/// What waits for its time is looked at this often, milliseconds.
const POLL_MAX_MS: i64 = 1_000;
/// Largest file with a secret, in bytes.
const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// The ways out, by receiver and integration.
#[derive(Debug, Default)]
struct Clients {
    plain: reqwest::Client,
    own: HashMap<(Arc<str>, usize), reqwest::Client>,
}

impl Clients {
    fn of(&self, attempt: &Attempt) -> reqwest::Client {
        let own = self.own.get(&(attempt.receiver.clone(), attempt.integration));
        own.unwrap_or(&self.plain).clone()
    }
}

impl Alerts {
    /// Delivers until `stop`.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub async fn deliver(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let clients = self.clients()?;
        if let Some(heartbeat) = self.config.heartbeat.clone() {
            tokio::spawn(self.clone().live(heartbeat, clients.plain.clone(), stop.clone()));
        }
        loop {
            let this = self.clone();
            let (attempt, due_ms) = tokio::task::spawn_blocking(move || this.next_attempt()).await?;
            if let Some(attempt) = attempt {
                let (this, client) = (self.clone(), clients.of(&attempt));
                tokio::spawn(async move { this.attempt(&client, attempt).await });
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

    fn clients(&self) -> anyhow::Result<Clients> {
        let mut clients = Clients { plain: client(&HttpOptions::default())?, own: HashMap::new() };
        for receiver in &self.routing.receivers {
            for (at, integration) in receiver.integrations.iter().enumerate() {
                let http = &integration.http;
                if http.ca_file.is_some() || http.insecure || http.proxy_url.is_some() {
                    let name = &receiver.name;
                    let own = client(http).with_context(|| format!("receiver {name}: its http_config"))?;
                    clients.own.insert((name.clone(), at), own);
                }
            }
        }
        Ok(clients)
    }

    async fn attempt(self: Arc<Self>, client: &reqwest::Client, attempt: Attempt) {
        let Some(receiver) = self.routing.receiver(&attempt.receiver) else { return };
        let Some(integration) = receiver.integrations.get(attempt.integration).cloned() else { return };
        let (outcome, place) = self.clone().send(client, &integration, &attempt).await;
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
        let _ = tokio::task::spawn_blocking(move || self.finished(attempt.line, &outcome, place.as_deref())).await;
    }

    async fn send(
        self: Arc<Self>,
        client: &reqwest::Client,
        integration: &Integration,
        attempt: &Attempt,
    ) -> (Outcome, Option<String>) {
        let retry = |reason: String| (Outcome::Retry { reason, retry_after_ms: None }, None);
        let (this, kind, attempt) = (self.clone(), integration.clone(), attempt.clone());
        let built = tokio::task::spawn_blocking(move || {
            let for_people = !matches!(kind.kind, Kind::Webhook(_) | Kind::Alertmanager(_));
            let moments = this.moments.look(&attempt.message, &this.links, for_people);
            let frame = Frame { external_url: this.external_url.clone(), moments };
            receivers::build(&kind, &attempt.message, &frame, &this.library, attempt.place.as_deref(), &reveal)
        });
        let delivery = match built.await {
            Ok(Ok(delivery)) => delivery,
            // The same templates will fail again: the short form has none.
            Ok(Err(BuildError::Template(reason))) => return (Outcome::Refused { reason }, None),
            Ok(Err(BuildError::Secret(reason))) => return retry(reason),
            Err(error) => return (Outcome::Refused { reason: format!("the message cannot be made: {error}") }, None),
        };
        match (delivery, &integration.kind) {
            (Delivery::Http(request), kind) => post(client, kind, request).await,
            (Delivery::Mail(mail), Kind::Email(email)) => {
                let email = email.clone();
                match tokio::task::spawn_blocking(move || send_mail(&email, mail)).await {
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
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if options.insecure {
        builder = builder.danger_accept_invalid_certs(true);
    }
    Ok(builder.build()?)
}

/// The text of a secret.
fn reveal(secret: &Secret) -> Result<String, String> {
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

/// Sends a mail. A server that says that it will never take it is believed.
fn send_mail(email: &Email, mail: Mail) -> Outcome {
    use lettre::message::{Mailbox, MultiPart, header};
    use lettre::transport::smtp::authentication::Credentials;
    use lettre::transport::smtp::client::{Tls, TlsParameters};
    use lettre::transport::smtp::extension::ClientId;
    use lettre::{Message, SmtpTransport, Transport as _};

    let retry = |reason: String| Outcome::Retry { reason, retry_after_ms: None };
    let build = || -> Result<(SmtpTransport, Message), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let address = |text: &str| text.trim().parse::<Mailbox>().map_err(|error| format!("{text:?}: {error}"));
        let mut message = Message::builder().subject(mail.subject).from(address(&email.from)?);
        for to in email.to.split(',') {
            message = message.to(address(to)?);
        }
        let thread = ring::digest::digest(&ring::digest::SHA256, mail.thread.as_bytes());
        let thread: String = thread.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let message = message.header(header::References::from(format!("<{thread}@pitwatch>")));
        let message =
            message.multipart(MultiPart::alternative_plain_html(mail.text, mail.html)).map_err(|e| text(&e))?;
        let (host, port) = email.smarthost.rsplit_once(':').ok_or("smarthost is no HOST:PORT")?;
        let port: u16 = port.parse().map_err(|_| "smarthost is no HOST:PORT")?;
        let tls = TlsParameters::new(host.to_owned()).map_err(|e| text(&e))?;
        let tls = match (port, email.require_tls) {
            (465, _) => Tls::Wrapper(tls),
            (_, true) => Tls::Required(tls),
            (_, false) => Tls::Opportunistic(tls),
        };
        let mut transport = SmtpTransport::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .hello_name(ClientId::Domain(email.hello.clone()))
            .timeout(Some(Duration::from_secs(TIMEOUT_SECS)));
        if let Some(user) = &email.username {
            let password = email.password.as_ref().map_or(Ok(String::new()), reveal)?;
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok((transport.build(), message))
    };
    let (transport, message) = match build() {
        Ok(ready) => ready,
        Err(reason) => return retry(reason),
    };
    match transport.send(&message) {
        Ok(_) => Outcome::Delivered,
        Err(error) if error.is_permanent() => {
            let reason = crate::error_chain(&error);
            // A wrong password or address is for an operator; only what is said of the message itself is final.
            if reason.contains("552") || reason.contains("554") { Outcome::Refused { reason } } else { retry(reason) }
        }
        Err(error) => retry(crate::error_chain(&error)),
    }
}
