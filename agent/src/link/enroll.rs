//! Enrolment: a connection that trusts the token's authority, shows the token and a key, and brings a certificate.

use std::time::Duration;

use pitwatch_shared::control::{self, ALPN_ENROLL, CloseCode, Enroll, EnrollAnswer, VERSIONS};
use pitwatch_shared::identity::tls::Trust;
use pitwatch_shared::identity::{AgentName, EnrollToken};
use quinn::VarInt;

use super::dial::Dialer;
use super::session::read_message;
use super::{CONNECT_TIMEOUT_SECS, LinkError, closed};
use crate::identity::{Identity, IdentityError, Request};

/// Why an enrolment came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The key or its file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The collector said no.
    #[error("the collector refused: {0}")]
    Refused(String),
}

/// Enrols this host as `name` at `collector` (`host:port`). The key is made here and stays here.
///
/// # Errors
/// No connection, another authority than the token's, or the collector's refusal with its reason.
pub async fn enroll(collector: &str, token: &EnrollToken, name: &AgentName) -> Result<Identity, EnrollError> {
    let request = Request::new()?;
    let trust = Trust::Fingerprint(token.authority);
    let mut dialer = Dialer::default();
    let connection = dialer.connect(collector, trust, None, ALPN_ENROLL).await?;
    let ask = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(closed)?;
        let message =
            Enroll { versions: VERSIONS, name: name.to_string(), secret: token.secret, csr: request.csr.clone() };
        let bytes = control::framed(&message).map_err(|error| LinkError::Protocol(error.to_string()))?;
        if send.write_all(&bytes).await.is_err() {
            return Err(closed(connection.closed().await));
        }
        read_message::<EnrollAnswer>(&mut receive, &connection).await
    };
    let answer = tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_SECS), ask)
        .await
        .unwrap_or_else(|_| Err(LinkError::Protocol(format!("no answer in {CONNECT_TIMEOUT_SECS} s"))));
    connection.close(VarInt::from_u32(CloseCode::Stopping as u32), b"enrolment done");
    dialer.wait_idle().await;
    match answer? {
        EnrollAnswer::Enrolled(issued) => Ok(request.granted(name, collector, issued)),
        EnrollAnswer::Refused { reason } => Err(EnrollError::Refused(reason)),
    }
}
