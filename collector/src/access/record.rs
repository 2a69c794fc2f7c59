//! What the state store keeps of a token or a session: JSON under the secret's hash.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

use super::{AccessError, Hash, LAST_USED_STEP_MS, Principal, Role, TokenInfo, TokenRequest, id_of, to_hex};
use crate::state::{State, Table};

/// "Never", where a time of last use is kept.
const NEVER_MS: i64 = i64::MIN;

/// One token or session.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) expires_ms: Option<i64>,
    /// The token that the session began with; `None` for a token.
    pub(super) session_of: Option<Hash>,
    created_ms: i64,
    created_by: String,
    last_used_ms: AtomicI64,
    saved_use_ms: AtomicI64,
}

/// The same on disk. Fields are only ever added, with a default.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    role: String,
    created_ms: i64,
    created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_of: Option<String>,
}

impl Record {
    pub(super) fn new(request: &TokenRequest<'_>, now_ms: i64) -> Self {
        Self {
            name: request.name.into(),
            role: request.role,
            expires_ms: request.expires_ms,
            session_of: None,
            created_ms: now_ms,
            created_by: request.created_by.to_owned(),
            last_used_ms: AtomicI64::new(NEVER_MS),
            saved_use_ms: AtomicI64::new(NEVER_MS),
        }
    }

    pub(super) fn session(principal: &Principal, parent: Hash, now_ms: i64, expires_ms: i64) -> Self {
        let request = TokenRequest {
            name: &principal.name,
            role: principal.role,
            expires_ms: Some(expires_ms),
            created_by: &principal.name,
        };
        Self { session_of: Some(parent), ..Self::new(&request, now_ms) }
    }

    pub(super) fn has_ended(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// Notes a use; whether it should be written to disk.
    pub(super) fn note_use(&self, now_ms: i64) -> bool {
        self.last_used_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.session_of.is_none() && self.use_moved_on()
    }

    pub(super) fn use_moved_on(&self) -> bool {
        let saved = self.saved_use_ms.load(Ordering::Relaxed);
        self.last_used_ms.load(Ordering::Relaxed).saturating_sub(saved) >= LAST_USED_STEP_MS
    }

    pub(super) fn use_saved(&self) {
        self.saved_use_ms.store(self.last_used_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn info(&self, hash: &Hash) -> TokenInfo {
        TokenInfo {
            id: id_of(hash),
            name: self.name.to_string(),
            role: self.role,
            created_ms: self.created_ms,
            created_by: self.created_by.clone(),
            expires_ms: self.expires_ms,
            last_used_ms: self.last_used(),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            name: self.name.to_string(),
            role: self.role.as_str().to_owned(),
            created_ms: self.created_ms,
            created_by: self.created_by.clone(),
            expires_ms: self.expires_ms,
            last_used_ms: self.last_used(),
            session_of: self.session_of.map(|hash| to_hex(&hash)),
        };
        serde_json::json!(stored).to_string().into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_slice(bytes)?;
        let last_used = stored.last_used_ms.unwrap_or(NEVER_MS);
        let session_of = stored.session_of.as_deref().map(hash_from_hex).transpose()?;
        Ok(Self {
            name: stored.name.into(),
            role: stored.role.parse().map_err(serde::de::Error::custom)?,
            expires_ms: stored.expires_ms,
            session_of,
            created_ms: stored.created_ms,
            created_by: stored.created_by,
            last_used_ms: AtomicI64::new(last_used),
            saved_use_ms: AtomicI64::new(last_used),
        })
    }

    fn last_used(&self) -> Option<i64> {
        Some(self.last_used_ms.load(Ordering::Relaxed)).filter(|ms| *ms != NEVER_MS)
    }
}

/// Every record of the state store.
pub(super) fn load(state: &dyn State) -> Result<HashMap<Hash, Record>, AccessError> {
    let mut records = HashMap::new();
    let mut failed = None;
    state.scan(Table::ApiTokens, b"", &mut |key, value| {
        let Ok(hash) = Hash::try_from(key) else { return ControlFlow::Continue(()) };
        match Record::from_bytes(value) {
            Ok(record) => {
                records.insert(hash, record);
                ControlFlow::Continue(())
            }
            Err(source) => {
                failed = Some(AccessError::Record { id: id_of(&hash), source });
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(records), Err)
}

fn hash_from_hex(text: &str) -> Result<Hash, serde_json::Error> {
    let wrong = || serde::de::Error::custom("a session's token is 64 hexadecimal digits");
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
    }
    Ok(hash)
}
