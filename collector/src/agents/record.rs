//! What is stored of agents and tokens, as JSON: small, and legible to whoever must look.

use std::collections::BTreeMap;

use pitwatch_shared::control::Issued;
use pitwatch_shared::identity::Fingerprint;
use serde::{Deserialize, Serialize};

/// A stored agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// When it was enrolled, milliseconds since the Unix epoch.
    pub enrolled_ms: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Its certificates, newest last.
    pub certificates: Vec<CertificateRecord>,
    /// Its release, as it said.
    pub software: String,
    /// The labels of its configuration, as it said.
    pub labels: BTreeMap<String, String>,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// What it is found by.
    #[serde(with = "hex")]
    pub fingerprint: Fingerprint,
    /// End of its life, seconds since the Unix epoch.
    pub not_after_secs: i64,
}

/// A stored enrolment token, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The one name that it serves for, or any.
    pub name: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Until when it serves, milliseconds since the Unix epoch.
    pub expires_ms: i64,
    /// Its use.
    pub used: Option<TokenUse>,
}

/// The use of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenUse {
    /// The agent enrolled with it.
    pub by: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl AgentRecord {
    pub(super) fn enrolled(issued: &Issued, now_ms: i64) -> Self {
        Self {
            enrolled_ms: now_ms,
            revoked_ms: None,
            revoked_by: None,
            certificates: vec![CertificateRecord::of(issued)],
            software: String::new(),
            labels: BTreeMap::new(),
        }
    }

    /// With a further certificate beside the one that the agent shows now. Others were replaced, or issued in an
    /// answer that never arrived.
    pub(super) fn renewed(&self, shown: Fingerprint, issued: &Issued) -> Self {
        let mut record = self.clone();
        record.certificates.retain(|certificate| certificate.fingerprint == shown);
        record.certificates.push(CertificateRecord::of(issued));
        record
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl CertificateRecord {
    fn of(issued: &Issued) -> Self {
        Self { fingerprint: Fingerprint::of(&issued.certificate), not_after_secs: issued.not_after_secs }
    }
}

impl TokenRecord {
    pub(super) fn use_up(&mut self, by: &str, at_ms: i64) {
        self.used = Some(TokenUse { by: by.to_owned(), at_ms });
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

mod hex {
    use pitwatch_shared::identity::Fingerprint;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(fingerprint: &Fingerprint, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(fingerprint)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
