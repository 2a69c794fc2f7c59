//! Who the agents are: enrolment tokens, certificates, revocation, and what is known of each live one.
//!
//! Durable facts are in the state store, one transaction a change; live ones (connection, clock, counters) are in
//! memory. How connections are served is [`crate::listen`]'s matter.

mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pitwatch_shared::control::{CloseCode, Enroll, Issued};
use pitwatch_shared::identity::{AgentName, EnrollToken, Fingerprint, TOKEN_SECRET_BYTES};
use ring::rand::{SecureRandom, SystemRandom};

pub use record::{AgentRecord, TokenRecord};

use crate::authority::{Authority, AuthorityError};
use crate::ingest::LaneCounters;
use crate::state::{Batch, State, StateError, Table};

/// Most agents, revoked ones included.
pub const AGENTS_MAX: usize = 50_000;
/// Most enrolment tokens that are kept.
pub const TOKENS_MAX: usize = 10_000;
/// A used or expired token is remembered this long, for a good answer to whoever shows it, milliseconds.
pub const TOKEN_MEMORY_MS: i64 = 30 * 24 * 3600 * 1000;
/// Longest life of an enrolment token, seconds.
pub const TOKEN_TTL_MAX_SECS: u64 = 30 * 24 * 3600;

/// Why an agent was not enrolled, renewed or revoked. The text goes to the person at the other end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// No such token was ever made here, or it was forgotten long after its use.
    #[error("unknown token: make one with `pitwatch token create`")]
    UnknownToken,
    /// A token serves once.
    #[error(
        "this token was used by {by:?} already, and a token serves once: make another with `pitwatch token create`"
    )]
    UsedToken {
        /// The agent that used it.
        by: String,
    },
    /// Too late.
    #[error("this token expired {ago_secs} s ago: make another with `pitwatch token create`")]
    ExpiredToken {
        /// Seconds since its end.
        ago_secs: i64,
    },
    /// The token was made for one name.
    #[error("this token is for agent {wanted:?}, not for {got:?}: enrol with --name {wanted}")]
    OtherName {
        /// The token's.
        wanted: String,
        /// The request's.
        got: String,
    },
    /// Another live agent has the name.
    #[error(
        "an agent named {0:?} exists already: choose another with --name, or free it with `pitwatch agents revoke {0}`"
    )]
    NameTaken(String),
    /// The name has forbidden characters or a wrong length.
    #[error(transparent)]
    BadName(#[from] pitwatch_shared::identity::AgentNameError),
    /// No such agent.
    #[error("no agent is named {0:?}: see `pitwatch agents list`")]
    NotFound(String),
    /// Revoked before.
    #[error("agent {0:?} is revoked: enrol it again with a new token")]
    Revoked(String),
    /// A bound of this collector.
    #[error("{0}")]
    Limit(String),
    /// The request for a certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The state store.
    #[error("the collector cannot store it: {0}")]
    State(#[from] StateError),
    /// No randomness to be had.
    #[error("the system gives no random bytes")]
    Random,
}

/// What is known of an agent while the collector runs.
#[derive(Debug, Default)]
pub struct Live {
    /// What arrived.
    pub counters: Arc<LaneCounters>,
    /// The agent's clock against ours at its last hello, milliseconds; positive if it is ahead.
    pub clock_skew_ms: AtomicI64,
    /// Sessions since the start.
    pub sessions: AtomicU64,
    /// Since when it is connected, or away; milliseconds since the Unix epoch, 0 if never seen in this run.
    pub since_ms: AtomicI64,
}

#[derive(Debug)]
struct Connected {
    session: u64,
    connection: quinn::Connection,
}

#[derive(Debug)]
struct Entry {
    record: AgentRecord,
    live: Arc<Live>,
    connected: Option<Connected>,
}

/// An agent as listed.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// What is stored of it.
    pub record: AgentRecord,
    /// Its counters.
    pub live: Arc<Live>,
    /// Its address while it is connected.
    pub remote: Option<std::net::SocketAddr>,
}

/// All agents.
#[derive(Debug)]
pub struct Agents {
    state: Arc<dyn State>,
    authority: Authority,
    certificate_life: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: BTreeMap<String, Entry>,
    certificates: HashMap<Fingerprint, String>,
    next_session: u64,
    /// Agents of which something is not stored that they said of themselves.
    unsaved: BTreeSet<String>,
}

/// An agent whose certificate was accepted.
#[derive(Debug)]
pub struct Admitted {
    /// Its name.
    pub name: String,
    /// The connection's number.
    pub session: u64,
    /// Its counters.
    pub live: Arc<Live>,
}

impl Agents {
    /// Loads all agents from the state store.
    ///
    /// # Errors
    /// The store's, or a record that is not one.
    pub fn open(state: Arc<dyn State>, authority: Authority, certificate_life: Duration) -> Result<Self, StateError> {
        let mut inner = Inner::default();
        state.scan(Table::Agents, b"", &mut |key, value| {
            let (Ok(name), Some(record)) = (std::str::from_utf8(key), AgentRecord::decode(value)) else {
                tracing::error!(key = %String::from_utf8_lossy(key), "an agent's record is damaged: enrol it again");
                return ControlFlow::Continue(());
            };
            for certificate in &record.certificates {
                inner.certificates.insert(certificate.fingerprint, name.to_owned());
            }
            inner.agents.insert(name.to_owned(), Entry { record, live: Arc::default(), connected: None });
            ControlFlow::Continue(())
        })?;
        Ok(Self { state, authority, certificate_life, inner: Mutex::new(inner) })
    }

    /// The authority that issues.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Makes a one-time token, for one name or for any.
    ///
    /// # Errors
    /// A bad name, a limit, or the store's.
    pub fn create_token(
        &self,
        name: Option<&str>,
        ttl_secs: u64,
        by: &str,
        now_ms: i64,
    ) -> Result<(EnrollToken, TokenRecord), AgentError> {
        let name = name.map(str::parse::<AgentName>).transpose()?;
        if ttl_secs == 0 || ttl_secs > TOKEN_TTL_MAX_SECS {
            return Err(AgentError::Limit(format!("a token lives 1 to {TOKEN_TTL_MAX_SECS} s, not {ttl_secs}")));
        }
        let _one_at_a_time = self.lock();
        let mut batch = Batch::new();
        if self.forget_old_tokens(now_ms, &mut batch)? >= TOKENS_MAX {
            return Err(AgentError::Limit(format!("{TOKENS_MAX} enrolment tokens exist already")));
        }
        let mut secret = [0; TOKEN_SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| AgentError::Random)?;
        let record = TokenRecord {
            name: name.map(|name| name.to_string()),
            created_by: by.to_owned(),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add_unsigned(ttl_secs.saturating_mul(1000)),
            used: None,
        };
        batch.put(Table::EnrollTokens, token_key(&secret), record.encode());
        self.state.commit(&batch)?;
        Ok((EnrollToken { secret, authority: self.authority.fingerprint() }, record))
    }

    /// Every token that is remembered, by the hash that it is stored under.
    ///
    /// # Errors
    /// The store's.
    pub fn tokens(&self) -> Result<Vec<(Fingerprint, TokenRecord)>, StateError> {
        let mut tokens = Vec::new();
        self.state.scan(Table::EnrollTokens, b"", &mut |key, value| {
            if let (Ok(key), Some(record)) = (key.try_into(), TokenRecord::decode(value)) {
                tokens.push((Fingerprint(key), record));
            }
            ControlFlow::Continue(())
        })?;
        Ok(tokens)
    }

    /// Enrols an agent: uses the token up and issues a certificate, in one transaction.
    ///
    /// # Errors
    /// Any [`AgentError`].
    pub fn enroll(&self, request: &Enroll, now_ms: i64) -> Result<Issued, AgentError> {
        let mut inner = self.lock();
        let key = token_key(&request.secret);
        let token = self.state.get(Table::EnrollTokens, &key)?;
        let mut token = token.as_deref().and_then(TokenRecord::decode).ok_or(AgentError::UnknownToken)?;
        if let Some(used) = token.used {
            return Err(AgentError::UsedToken { by: used.by });
        }
        if now_ms > token.expires_ms {
            return Err(AgentError::ExpiredToken { ago_secs: (now_ms - token.expires_ms) / 1000 });
        }
        let name: AgentName = request.name.parse()?;
        if let Some(wanted) = token.name.as_ref().filter(|wanted| **wanted != name.as_str()) {
            return Err(AgentError::OtherName { wanted: wanted.clone(), got: name.to_string() });
        }
        let before = inner.agents.get(name.as_str());
        if before.is_some_and(|entry| entry.record.revoked_ms.is_none()) {
            return Err(AgentError::NameTaken(name.to_string()));
        }
        if before.is_none() && inner.agents.len() >= AGENTS_MAX {
            return Err(AgentError::Limit(format!("{AGENTS_MAX} agents exist already")));
        }
        let issued = self.authority.issue(&request.csr, &name, self.certificate_life, now_ms / 1000)?;
        token.use_up(name.as_str(), now_ms);
        let record = AgentRecord::enrolled(&issued, now_ms);
        let mut batch = Batch::new();
        batch.put(Table::EnrollTokens, key, token.encode());
        batch.put(Table::Agents, name.as_str().as_bytes(), record.encode());
        self.state.commit(&batch)?;
        inner.certificates.retain(|_, owner| owner != name.as_str());
        inner.certificates.insert(Fingerprint::of(&issued.certificate), name.to_string());
        inner.agents.insert(name.to_string(), Entry { record, live: Arc::default(), connected: None });
        Ok(issued)
    }

    /// Issues a further certificate to an agent that shows `shown`, which stays valid to its end; others do not.
    ///
    /// # Errors
    /// A revoked agent, a bad request, or the store's.
    pub fn renew(&self, name: &str, shown: Fingerprint, csr: &[u8], now_ms: i64) -> Result<Issued, AgentError> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let entry = inner.agents.get_mut(name).ok_or_else(|| AgentError::NotFound(name.to_owned()))?;
        if entry.record.revoked_ms.is_some() {
            return Err(AgentError::Revoked(name.to_owned()));
        }
        let issued = self.authority.issue(csr, &name.parse()?, self.certificate_life, now_ms / 1000)?;
        let record = entry.record.renewed(shown, &issued);
        let mut batch = Batch::new();
        batch.put(Table::Agents, name.as_bytes(), record.encode());
        self.state.commit(&batch)?;
        inner.certificates.retain(|_, owner| owner != name);
        for certificate in &record.certificates {
            inner.certificates.insert(certificate.fingerprint, name.to_owned());
        }
        entry.record = record;
        Ok(issued)
    }

    /// Revokes an agent and cuts its connection.
    ///
    /// # Errors
    /// No such agent, revoked before, or the store's.
    pub fn revoke(&self, name: &str, by: &str, now_ms: i64) -> Result<(), AgentError> {
        let mut inner = self.lock();
        let entry = inner.agents.get_mut(name).ok_or_else(|| AgentError::NotFound(name.to_owned()))?;
        if entry.record.revoked_ms.is_some() {
            return Err(AgentError::Revoked(name.to_owned()));
        }
        let record = AgentRecord { revoked_ms: Some(now_ms), revoked_by: Some(by.to_owned()), ..entry.record.clone() };
        let mut batch = Batch::new();
        batch.put(Table::Agents, name.as_bytes(), record.encode());
        self.state.commit(&batch)?;
        entry.record = record;
        if let Some(connected) = entry.connected.take() {
            entry.live.since_ms.store(now_ms, Ordering::Relaxed);
            connected.connection.close(code(CloseCode::Revoked), b"this agent was revoked on the collector");
        }
        Ok(())
    }

    /// Takes a connection in if its certificate is of an agent that may connect; an older connection of the same
    /// agent is closed.
    ///
    /// # Errors
    /// The code and the reason to close the connection with.
    pub fn admit(
        &self,
        fingerprint: Fingerprint,
        connection: &quinn::Connection,
        now_ms: i64,
    ) -> Result<Admitted, (CloseCode, String)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let unknown = || {
            let text = "this certificate is not known here (was it replaced, or the collector restored?): enrol again";
            (CloseCode::Unknown, text.to_owned())
        };
        let name = inner.certificates.get(&fingerprint).ok_or_else(unknown)?;
        let entry = inner.agents.get_mut(name).ok_or_else(unknown)?;
        if entry.record.revoked_ms.is_some() {
            return Err((CloseCode::Revoked, "this agent was revoked on the collector".into()));
        }
        inner.next_session += 1;
        let session = inner.next_session;
        let connected = Connected { session, connection: connection.clone() };
        if let Some(older) = entry.connected.replace(connected) {
            older.connection.close(code(CloseCode::Superseded), b"a newer connection of this agent took over");
        }
        entry.live.sessions.fetch_add(1, Ordering::Relaxed);
        entry.live.since_ms.store(now_ms, Ordering::Relaxed);
        Ok(Admitted { name: name.clone(), session, live: entry.live.clone() })
    }

    /// What an agent said of itself; if it is news, [`Agents::save_introduced`] stores it: a fleet that comes for the
    /// first time must not wait for ten thousand syncs.
    pub fn introduced(&self, name: &str, software: &str, labels: &[(String, String)]) {
        let mut inner = self.lock();
        let Inner { agents, unsaved, .. } = &mut *inner;
        let Some(entry) = agents.get_mut(name) else { return };
        let labels: BTreeMap<String, String> = labels.iter().cloned().collect();
        if entry.record.software == software && entry.record.labels == labels {
            return;
        }
        entry.record.software = software.to_owned();
        entry.record.labels = labels;
        unsaved.insert(name.to_owned());
    }

    /// Stores what agents said of themselves since the last call. What is lost in a crash they say again.
    pub fn save_introduced(&self) {
        // Held over the commit, so that no older record overtakes what is stored elsewhere meanwhile.
        let mut inner = self.lock();
        let names = std::mem::take(&mut inner.unsaved);
        if names.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        for name in &names {
            if let Some(entry) = inner.agents.get(name) {
                batch.put(Table::Agents, name.as_bytes(), entry.record.encode());
            }
        }
        if let Err(error) = self.state.commit(&batch) {
            tracing::warn!("cannot store the labels of {} agents, trying again: {error}", names.len());
            inner.unsaved.extend(names);
        }
    }

    /// A connection ended.
    pub fn left(&self, name: &str, session: u64, now_ms: i64) {
        let mut inner = self.lock();
        let Some(entry) = inner.agents.get_mut(name) else { return };
        if entry.connected.take_if(|connected| connected.session == session).is_some() {
            entry.live.since_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Every agent, by name.
    #[must_use]
    pub fn list(&self) -> Vec<AgentView> {
        let inner = self.lock();
        let view = |(name, entry): (&String, &Entry)| AgentView {
            name: name.clone(),
            record: entry.record.clone(),
            live: entry.live.clone(),
            remote: entry.connected.as_ref().map(|connected| connected.connection.remote_address()),
        };
        inner.agents.iter().map(view).collect()
    }

    /// How many agents there are, revoked ones included.
    #[must_use]
    pub fn known(&self) -> usize {
        self.lock().agents.len()
    }

    /// Whether there is an agent of that name, revoked or not.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        self.lock().agents.contains_key(name)
    }

    /// Connections of agents.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().agents.values().filter(|entry| entry.connected.is_some()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the removal of tokens that nobody will ask about to `batch`; gives how many stay.
    fn forget_old_tokens(&self, now_ms: i64, batch: &mut Batch) -> Result<usize, StateError> {
        let tokens = self.tokens()?;
        let mut stay = 0;
        for (key, record) in tokens {
            if now_ms.saturating_sub(record.expires_ms) > TOKEN_MEMORY_MS
                && batch.len() < crate::state::BATCH_MAX_KEYS / 2
            {
                batch.delete(Table::EnrollTokens, key.0);
            } else {
                stay += 1;
            }
        }
        Ok(stay)
    }
}

fn code(code: CloseCode) -> quinn::VarInt {
    quinn::VarInt::from_u32(code as u32)
}

/// A token is found by the hash of its secret; the secret itself is not kept.
fn token_key(secret: &[u8; TOKEN_SECRET_BYTES]) -> [u8; 32] {
    Fingerprint::of(secret).0
}

#[cfg(test)]
mod tests;
