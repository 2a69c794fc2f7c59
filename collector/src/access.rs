//! Who may ask what: API tokens with roles, and the sessions of browsers that signed in with one.
//!
//! Owns the texts, hashes and records of tokens, and the CLI's file with the local token. Leaves what a role may do to
//! [`crate::api`], and enrolment tokens of agents to the fleet.
//!
//! A secret is kept only as its SHA-256: it has 128 random bits, so nothing slower is needed, and a look-up by hash
//! gives timing away of nothing but the hash. Everything is in memory too, so a check touches no disk.

mod record;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::state::{Batch, State, StateError, Table};
use record::Record;

/// Most API tokens that may exist at once.
pub const API_TOKENS_MAX: usize = 1000;
/// Most sessions of browsers at once; above it the one that ends first is ended.
pub const SESSIONS_MAX: usize = 1000;
/// How long a session lasts.
pub const SESSION_TTL_MS: i64 = 12 * 60 * 60 * 1000;
/// Longest name of a token in bytes.
pub const TOKEN_NAME_MAX_BYTES: usize = 128;
/// How coarse a token's time of last use is kept on disk.
pub const LAST_USED_STEP_MS: i64 = 60 * 60 * 1000;
/// The name of the file with the local token, in the collector's directory.
pub const LOCAL_FILE: &str = "cli.json";
/// The name under which the local token acts.
pub const LOCAL_NAME: &str = "local";

const TOKEN_PREFIX: &str = "pwa1_";
const SESSION_PREFIX: &str = "pws1_";
const SECRET_BYTES: usize = 16;
/// Hexadecimal digits of a hash by which people name a token.
const ID_DIGITS: usize = 12;

/// What somebody may do. From viewer to admin each role may what the ones before it may; see [`Role::covers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Only writes samples, by remote write.
    Writer,
    /// Reads everything but tokens.
    Viewer,
    /// Also silences, acknowledges, runs actions.
    Operator,
    /// Also tokens, agents and configuration.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Role; 4] = [Role::Writer, Role::Viewer, Role::Operator, Role::Admin];

    /// Whether it may what `needed` may. A sender of samples reads nothing, and of the others only an admin writes any.
    #[must_use]
    pub fn covers(self, needed: Role) -> bool {
        match (self, needed) {
            (Role::Writer, _) | (_, Role::Writer) => self == needed || self == Role::Admin,
            _ => self >= needed,
        }
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A word that is no role's.
#[derive(Debug, thiserror::Error)]
#[error("unknown role {0:?}: it is \"writer\", \"viewer\", \"operator\" or \"admin\"")]
pub struct UnknownRole(String);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
}

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// The first digits of its hash: what people name it by.
    pub id: String,
    /// For whom or what it is.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends, if it does.
    pub expires_ms: Option<i64>,
    /// When it was last used, to within [`LAST_USED_STEP_MS`]; `None` if never.
    pub last_used_ms: Option<i64>,
}

/// What a new API token shall be.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// For whom or what it is.
    pub name: &'a str,
    /// What it may do.
    pub role: Role,
    /// When it ends, if it does.
    pub expires_ms: Option<i64>,
    /// Who makes it.
    pub created_by: &'a str,
}

/// Why something about tokens could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A name that is none.
    #[error("a token's name has 1 to {TOKEN_NAME_MAX_BYTES} bytes and no control characters")]
    Name,
    /// As many as there may be.
    #[error("there are {API_TOKENS_MAX} API tokens, the most allowed: delete some first")]
    TooMany,
    /// No such token.
    #[error("no API token has the id {0:?}: `pitwatch token list` shows them")]
    NotFound(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a token")]
    Random,
    /// The state store failed.
    #[error("the token could not be kept")]
    State(#[from] StateError),
    /// A record of the state store that cannot be read.
    #[error("the record of API token {id} cannot be read: it was written by another version")]
    Record {
        /// The first digits of its hash.
        id: String,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
    /// The CLI's file could not be written.
    #[error("cannot write {}", path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// What [`LOCAL_FILE`] says: how programs of this host ask the collector.
#[derive(Serialize, Deserialize)]
pub struct LocalFile {
    /// Where it answers.
    pub url: String,
    /// An administrator's token.
    pub token: String,
    /// How to know it, where it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<LocalTls>,
}

/// How a program of this host knows the collector, whatever certificate it shows to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalTls {
    /// The name to ask for.
    pub name: String,
    /// The authority's certificate, in PEM.
    pub authority: String,
}

type Hash = [u8; 32];

/// All tokens and sessions. Methods that change something block on the disk; [`Access::check`] never does.
#[derive(Debug)]
pub struct Access {
    state: Arc<dyn State>,
    known: RwLock<Known>,
    uses_to_save: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    tokens: HashMap<Hash, Record>,
    /// The token of [`Access::write_local_file`], which lives as long as the process.
    local: Option<Hash>,
}

impl Access {
    /// Reads all tokens from the state store.
    ///
    /// # Errors
    /// The state store's; a record that cannot be read.
    pub fn open(state: Arc<dyn State>) -> Result<Self, AccessError> {
        let tokens = record::load(&*state)?;
        let known = RwLock::new(Known { tokens, local: None });
        Ok(Self { state, known, uses_to_save: AtomicBool::new(false) })
    }

    /// Makes an API token and returns its text, which nobody can be told again, with what is kept of it.
    ///
    /// # Errors
    /// A bad name, too many tokens, no randomness; the state store's.
    pub fn create(&self, request: &TokenRequest<'_>, now_ms: i64) -> Result<(String, TokenInfo), AccessError> {
        check_name(request.name)?;
        let mut known = self.write();
        if known.tokens.values().filter(|record| record.session_of.is_none()).count() >= API_TOKENS_MAX {
            return Err(AccessError::TooMany);
        }
        let text = random_text(TOKEN_PREFIX)?;
        let hash = hash_of(&text);
        let record = Record::new(request, now_ms);
        self.put(&[(hash, &record)])?;
        let info = record.info(&hash);
        known.tokens.insert(hash, record);
        Ok((text, info))
    }

    /// Every API token, by name and age.
    #[must_use]
    pub fn list(&self) -> Vec<TokenInfo> {
        let known = self.read();
        let tokens = known.tokens.iter().filter(|(_, record)| record.session_of.is_none());
        let mut list: Vec<TokenInfo> = tokens.map(|(hash, record)| record.info(hash)).collect();
        list.sort_by(|a, b| (&a.name, a.created_ms, &a.id).cmp(&(&b.name, b.created_ms, &b.id)));
        list
    }

    /// Deletes the API token of that id, and the sessions that began with it.
    ///
    /// # Errors
    /// [`AccessError::NotFound`]; the state store's.
    pub fn revoke(&self, id: &str) -> Result<TokenInfo, AccessError> {
        let mut known = self.write();
        let found = known.tokens.iter().find(|(hash, record)| record.session_of.is_none() && id_of(hash) == id);
        let Some((&hash, record)) = found else { return Err(AccessError::NotFound(id.to_owned())) };
        let info = record.info(&hash);
        let sessions = known.tokens.iter().filter(|(_, record)| record.session_of == Some(hash));
        let gone: Vec<Hash> = std::iter::once(hash).chain(sessions.map(|(hash, _)| *hash)).collect();
        self.forget(&mut known, &gone)?;
        Ok(info)
    }

    /// Who shows this text of a token or a session, if it is valid now.
    #[must_use]
    pub fn check(&self, text: &str, now_ms: i64) -> Option<Principal> {
        let hash = valid_hash(text)?;
        let known = self.read();
        if known.local == Some(hash) {
            return Some(Principal { name: LOCAL_NAME.into(), role: Role::Admin });
        }
        let record = known.tokens.get(&hash)?;
        let owner = match record.session_of {
            None => record,
            // The local token of an earlier process ends its sessions, too.
            Some(parent) if known.local == Some(parent) => record,
            Some(parent) => known.tokens.get(&parent)?,
        };
        if record.has_ended(now_ms) || owner.has_ended(now_ms) {
            return None;
        }
        if owner.note_use(now_ms) {
            self.uses_to_save.store(true, Ordering::Relaxed);
        }
        Some(Principal { name: owner.name.clone(), role: owner.role })
    }

    /// Whether [`Access::save_uses`] has something to do. Whoever runs the collector asks every few minutes.
    #[must_use]
    pub fn has_uses_to_save(&self) -> bool {
        self.uses_to_save.load(Ordering::Relaxed)
    }

    /// Writes times of last use that moved on by [`LAST_USED_STEP_MS`].
    ///
    /// # Errors
    /// The state store's; the next use tries again.
    pub fn save_uses(&self) -> Result<(), AccessError> {
        if !self.uses_to_save.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let known = self.read();
        let moved: Vec<(Hash, &Record)> =
            known.tokens.iter().filter(|(_, record)| record.use_moved_on()).map(|(h, r)| (*h, r)).collect();
        for part in moved.chunks(crate::state::BATCH_MAX_KEYS) {
            self.put(part)?;
            part.iter().for_each(|(_, record)| record.use_saved());
        }
        Ok(())
    }

    /// Begins a session for whoever shows a valid token; the session's text goes into a cookie.
    /// `None` if the token is not valid.
    ///
    /// # Errors
    /// No randomness; the state store's.
    pub fn begin_session(&self, token: &str, now_ms: i64) -> Result<Option<(String, Principal)>, AccessError> {
        let Some(principal) = self.check(token, now_ms) else { return Ok(None) };
        let Some(parent) = valid_hash(token).filter(|_| token.starts_with(TOKEN_PREFIX)) else { return Ok(None) };
        let mut known = self.write();
        let gone = sessions_to_end(&known, now_ms);
        self.forget(&mut known, &gone)?;
        let text = random_text(SESSION_PREFIX)?;
        let record = Record::session(&principal, parent, now_ms, now_ms.saturating_add(SESSION_TTL_MS));
        let hash = hash_of(&text);
        self.put(&[(hash, &record)])?;
        known.tokens.insert(hash, record);
        Ok(Some((text, principal)))
    }

    /// Ends a session. A text that is no session's does nothing.
    ///
    /// # Errors
    /// The state store's.
    pub fn end_session(&self, text: &str) -> Result<(), AccessError> {
        let Some(hash) = valid_hash(text) else { return Ok(()) };
        let mut known = self.write();
        if known.tokens.get(&hash).is_some_and(|record| record.session_of.is_some()) {
            self.forget(&mut known, &[hash])?;
        }
        Ok(())
    }

    /// Makes an admin token that lives as long as this process, writes it with the collector's address for the CLI
    /// into [`LOCAL_FILE`] in `dir`, readable by its owner alone, and returns its text.
    ///
    /// # Errors
    /// No randomness; the file system's.
    pub fn write_local_file(&self, dir: &Path, url: &str, tls: Option<&LocalTls>) -> Result<String, AccessError> {
        let text = random_text(TOKEN_PREFIX)?;
        let path = dir.join(LOCAL_FILE);
        let local = LocalFile { url: url.to_owned(), token: text.clone(), tls: tls.cloned() };
        // Texts alone: it can always be written.
        let contents = serde_json::to_string(&local).unwrap_or_default();
        write_private(&path, contents.as_bytes()).map_err(|source| AccessError::LocalFile { path, source })?;
        self.write().local = Some(hash_of(&text));
        Ok(text)
    }

    fn put(&self, records: &[(Hash, &Record)]) -> Result<(), AccessError> {
        let mut batch = Batch::new();
        for (hash, record) in records {
            batch.put(Table::ApiTokens, *hash, record.to_bytes());
        }
        Ok(self.state.commit(&batch)?)
    }

    fn forget(&self, known: &mut Known, hashes: &[Hash]) -> Result<(), AccessError> {
        for part in hashes.chunks(crate::state::BATCH_MAX_KEYS) {
            let mut batch = Batch::new();
            for hash in part {
                batch.delete(Table::ApiTokens, *hash);
            }
            self.state.commit(&batch)?;
            for hash in part {
                known.tokens.remove(hash);
            }
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions that ended or whose token is gone, and where there are too many those that end first.
fn sessions_to_end(known: &Known, now_ms: i64) -> Vec<Hash> {
    let is_orphan = |parent: &Hash| known.local.as_ref() != Some(parent) && !known.tokens.contains_key(parent);
    let mut gone = Vec::new();
    let mut live = Vec::new();
    for (hash, record) in &known.tokens {
        let Some(parent) = &record.session_of else { continue };
        if record.has_ended(now_ms) || is_orphan(parent) {
            gone.push(*hash);
        } else {
            live.push((record.expires_ms, *hash));
        }
    }
    live.sort_unstable();
    let over = (live.len() + 1).saturating_sub(SESSIONS_MAX);
    gone.extend(live.into_iter().take(over).map(|(_, hash)| hash));
    gone
}

fn check_name(name: &str) -> Result<(), AccessError> {
    let good = !name.is_empty() && name.len() <= TOKEN_NAME_MAX_BYTES && !name.chars().any(char::is_control);
    if good { Ok(()) } else { Err(AccessError::Name) }
}

fn random_text(prefix: &str) -> Result<String, AccessError> {
    let mut secret = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut secret).map_err(|_| AccessError::Random)?;
    Ok(format!("{prefix}{}", to_hex(&secret)))
}

/// The hash of a text that has a secret's shape.
fn valid_hash(text: &str) -> Option<Hash> {
    let secret = text.strip_prefix(TOKEN_PREFIX).or_else(|| text.strip_prefix(SESSION_PREFIX))?;
    (secret.len() == 2 * SECRET_BYTES).then(|| hash_of(text))
}

fn hash_of(text: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    hash
}

fn id_of(hash: &Hash) -> String {
    let mut id = to_hex(hash);
    id.truncate(ID_DIGITS);
    id
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces the file in one step, so that a reader never sees half of it, nor anybody else any of it.
fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("json.new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests;
