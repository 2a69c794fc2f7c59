//! Agents as the API asks for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pitwatch_history::{History, SourceName};

use crate::agents::{AgentError, AgentView, Agents};
use crate::api::{AgentInfo, AgentState, EnrollTokenInfo, Fleet, FleetError, NewToken};
use crate::clock::unix_ms;

/// Digits of a token's hash that are shown.
const TOKEN_ID_DIGITS: usize = 12;

/// The agents and the times of their samples.
#[derive(Debug)]
pub struct Registry {
    /// Who they are.
    pub agents: Arc<Agents>,
    /// What came of them.
    pub history: Arc<History>,
}

impl Fleet for Registry {
    fn agents(&self) -> Vec<AgentInfo> {
        self.agents.list().into_iter().map(|agent| self.info(agent)).collect()
    }

    fn is_agent(&self, name: &str) -> bool {
        self.agents.is_known(name)
    }

    fn revoke(&self, name: &str, by: &str) -> Result<(), FleetError> {
        self.agents.revoke(name, by, unix_ms()).map_err(refusal)
    }

    fn create_enroll_token(&self, name: Option<&str>, ttl_secs: u64, by: &str) -> Result<NewToken, FleetError> {
        let (token, record) = self.agents.create_token(name, ttl_secs, by, unix_ms()).map_err(refusal)?;
        Ok(NewToken { token: token.to_string(), expires_ms: record.expires_ms })
    }

    fn enroll_tokens(&self) -> Vec<EnrollTokenInfo> {
        let tokens = self.agents.tokens().unwrap_or_else(|error| {
            tracing::error!("cannot list enrolment tokens: {}", crate::error_chain(&error));
            Vec::new()
        });
        let info = |(hash, record): (pitwatch_shared::identity::Fingerprint, crate::agents::TokenRecord)| {
            let id = hash.to_string()[..TOKEN_ID_DIGITS].to_owned();
            EnrollTokenInfo { id, name: record.name, expires_ms: record.expires_ms, used: record.used.is_some() }
        };
        tokens.into_iter().map(info).collect()
    }
}

impl Registry {
    fn info(&self, agent: AgentView) -> AgentInfo {
        let AgentView { name, record, live, remote } = agent;
        let state = match (record.revoked_ms, remote) {
            (Some(_), _) => AgentState::Revoked,
            (None, Some(_)) => AgentState::Connected,
            (None, None) => AgentState::Away,
        };
        let since_ms = live.since_ms.load(Ordering::Relaxed);
        let last_frame_ms = live.counters.last_frame_ms.load(Ordering::Relaxed);
        let last_sample_ms = self.history.last_sample_ms(&SourceName::agent(&name));
        let certificate = record.certificates.last();
        AgentInfo {
            state,
            since_ms: record.revoked_ms.or((since_ms > 0).then_some(since_ms)),
            last_seen_ms: i64::try_from(last_frame_ms).ok().filter(|ms| *ms > 0).or(last_sample_ms),
            last_sample_ms,
            software: record.software,
            remote_address: remote.map(|address| address.to_string()),
            enrolled_ms: record.enrolled_ms,
            certificate_not_after_ms: certificate.map(|c| c.not_after_secs.saturating_mul(1000)),
            fingerprint: certificate.map(|c| c.fingerprint.to_string()),
            clock_skew_ms: (live.sessions.load(Ordering::Relaxed) > 0)
                .then(|| live.clock_skew_ms.load(Ordering::Relaxed)),
            frames: live.counters.frames.load(Ordering::Relaxed),
            lost_frames: live.counters.lost_frames.load(Ordering::Relaxed),
            labels: record.labels,
            name,
        }
    }
}

fn refusal(error: AgentError) -> FleetError {
    match error {
        AgentError::NotFound(name) => FleetError::NotFound(name),
        AgentError::Revoked(_) | AgentError::NameTaken(_) => FleetError::Already(error.to_string()),
        AgentError::State(_) | AgentError::Random => FleetError::Storage(crate::error_chain(&error)),
        _ => FleetError::Refused(error.to_string()),
    }
}
