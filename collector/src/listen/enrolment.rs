//! Answers the one question of a connection under the enrolment ALPN: a certificate for a token.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pitwatch_shared::control::{self, CloseCode, Enroll, EnrollAnswer, bounded_reason};
use quinn::Connection;
use tracing::{info, warn};

use super::session::{End, read_message};
use super::{HANDSHAKE_TIMEOUT_SECS, Shared, close};
use crate::clock::unix_ms;

/// Refusals are slowed down, so that tokens cannot be tried at speed. Milliseconds.
const REFUSAL_PAUSE_MS: u64 = 200;

/// Serves the connection to its end.
pub async fn answer(connection: &Connection, shared: &Shared) {
    let from = connection.remote_address();
    let exchange = async {
        let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| End::Gone(error.to_string()))?;
        let request: Enroll = read_message(&mut receive, connection).await?;
        let granted = shared.agents.enroll(&request, unix_ms());
        let answer = match granted {
            Ok(issued) => {
                shared.stats.enrolled.fetch_add(1, Ordering::Relaxed);
                info!(agent = request.name, %from, "enrolled");
                EnrollAnswer::Enrolled(issued)
            }
            Err(error) => {
                shared.stats.enrol_refused.fetch_add(1, Ordering::Relaxed);
                warn!(agent = request.name, %from, "enrolment refused: {error}");
                tokio::time::sleep(Duration::from_millis(REFUSAL_PAUSE_MS)).await;
                EnrollAnswer::Refused { reason: bounded_reason(&error.to_string()).to_owned() }
            }
        };
        let bytes = control::framed(&answer).map_err(|error| End::Fault(error.to_string()))?;
        send.write_all(&bytes).await.map_err(|error| End::Gone(error.to_string()))?;
        let _ = send.finish();
        // The agent closes once it has the answer.
        connection.closed().await;
        Ok::<(), End>(())
    };
    match tokio::time::timeout(Duration::from_secs(HANDSHAKE_TIMEOUT_SECS), exchange).await {
        Ok(Err(End::Fault(reason))) => {
            shared.stats.protocol_errors.fetch_add(1, Ordering::Relaxed);
            close(connection, CloseCode::Protocol, &reason);
        }
        Err(_) => close(connection, CloseCode::Protocol, "enrolment took too long"),
        Ok(_) => {}
    }
}
