//! Posting to receivers: one attempt at a time to each, side by side, with a time limit.

use std::sync::Arc;
use std::time::Duration;

use pitwatch_alerting::payload::{Frame, slack, webhook};
use pitwatch_alerting::queue::{Attempt, Outcome};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::watch;
use tracing::{info, warn};

use super::Alerts;
use crate::clock::unix_ms;
use crate::config::{ReceiverConfig, ReceiverKind};

/// A receiver that takes longer has failed, seconds.
const TIMEOUT_SECS: u64 = 10;
/// Bytes of an answer that are read for the log.
const ANSWER_MAX_BYTES: usize = 512;
/// The least time between two messages to a Slack-compatible receiver, milliseconds.
const SLACK_GAP_MS: i64 = 1_000;
/// Deliveries that wait for their time are looked at this often, milliseconds.
const POLL_MAX_MS: i64 = 1_000;

impl Alerts {
    /// Delivers until `stop`.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub async fn deliver(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(TIMEOUT_SECS))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pitwatch/", env!("CARGO_PKG_VERSION")))
            .build()?;
        {
            let mut inner = self.lock();
            for receiver in self.config.receivers.iter().filter(|r| r.kind == ReceiverKind::Slack) {
                inner.queue.set_min_gap_ms(&receiver.name, SLACK_GAP_MS);
            }
        }
        loop {
            let (attempt, due_ms) = {
                let mut inner = self.lock();
                (inner.queue.poll(unix_ms()), inner.queue.due_ms())
            };
            if let Some(attempt) = attempt {
                let (this, client) = (self.clone(), client.clone());
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

    async fn attempt(self: Arc<Self>, client: &reqwest::Client, attempt: Attempt) {
        let Some(receiver) = self.config.receivers.iter().find(|receiver| receiver.name == attempt.receiver) else {
            return;
        };
        let outcome = post(client, receiver, &self.external_url, &attempt).await;
        let (alert, transition) = (attempt.notification.name(), attempt.notification.transition.as_str());
        match &outcome {
            Outcome::Delivered => {
                info!(receiver = receiver.name, alert, transition, attempts = attempt.attempts + 1, "delivered");
            }
            Outcome::Retry { reason, .. } => {
                warn!(receiver = receiver.name, alert, transition, "not delivered, trying again: {reason}");
            }
            Outcome::Refused { reason } => {
                warn!(receiver = receiver.name, alert, transition, "the receiver refuses this message: {reason}");
            }
        }
        let this = self.clone();
        let finished = move || this.finished(&attempt, outcome);
        let _ = tokio::task::spawn_blocking(finished).await;
    }

    fn finished(&self, attempt: &Attempt, outcome: Outcome) {
        let now_ms = unix_ms();
        let delivered = outcome == Outcome::Delivered;
        let mut inner = self.lock();
        if delivered {
            inner.last_success_ms.insert(attempt.receiver.clone(), now_ms);
        }
        let change = inner.queue.on_result(attempt.id, now_ms, outcome);
        drop(inner);
        if let Some(change) = change
            && let Err(error) = self.store.save(&[], &[change])
        {
            warn!("a delivery's state is not stored, a restart may send it again: {}", crate::error_chain(&error));
        }
        self.queued.notify_one();
    }
}

async fn post(client: &reqwest::Client, receiver: &ReceiverConfig, external_url: &str, attempt: &Attempt) -> Outcome {
    let frame = Frame { receiver: &receiver.name, external_url };
    let body = match receiver.kind {
        ReceiverKind::Slack => slack::body(&attempt.notification, &frame),
        ReceiverKind::Webhook => match webhook::body(&attempt.notification, &frame) {
            Ok(body) => body,
            Err(error) => return Outcome::Refused { reason: error.to_string() },
        },
    };
    let request = client.post(receiver.url.reveal()).header(CONTENT_TYPE, "application/json").body(body);
    let mut answer = match request.send().await {
        Ok(answer) => answer,
        // Without the address: it is a secret.
        Err(error) => {
            let reason = crate::error_chain(&error.without_url());
            return Outcome::Retry { reason, retry_after_ms: None };
        }
    };
    let status = answer.status().as_u16();
    let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<i64>().ok());
    let mut text = Vec::new();
    while text.len() < ANSWER_MAX_BYTES
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        text.extend_from_slice(&chunk[..chunk.len().min(ANSWER_MAX_BYTES - text.len())]);
    }
    Outcome::from_http(status, wait.map(|secs| secs.saturating_mul(1000)), &String::from_utf8_lossy(&text))
}
