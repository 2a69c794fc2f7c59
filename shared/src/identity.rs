//! Identity: fingerprints, enrolment tokens, and how each side checks the other's certificate.
//!
//! The collector is its own authority. Its certificate carries the name [`COLLECTOR_NAME`] and may only serve; an
//! agent's certificate may only connect. Which agent a certificate belongs to is the collector's record, found by
//! [`Fingerprint`]. Issuing is the collector's (`collector/src/authority.rs`); files are the programs'.
//!
//! - [`token`]: the one-time enrolment token.
//! - [`tls`]: rustls configurations, whose verifiers forgive clocks that are off by up to [`tls::CLOCK_TOLERANCE_SECS`].

pub mod tls;
pub mod token;

use std::fmt;
use std::str::FromStr;

pub use token::{EnrollToken, TOKEN_SECRET_BYTES, TokenError};

use crate::limits::AGENT_NAME_MAX_BYTES;

/// The name in the collector's certificate, whatever address it is reached at.
pub const COLLECTOR_NAME: &str = "collector.pitwatch.internal";

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let mut bytes = [0; 32];
        from_hex(text, &mut bytes).ok_or(FingerprintError)?;
        Ok(Self(bytes))
    }
}

/// A name that an agent may have: its `instance`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(Box<str>);

/// A name that an agent may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "agent name {0:?}: use 1 to {AGENT_NAME_MAX_BYTES} letters, digits, '.', '-', '_' or ':', beginning with a letter or digit"
)]
pub struct AgentNameError(pub String);

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = AgentNameError;

    fn from_str(text: &str) -> Result<Self, AgentNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        let good = text.len() <= AGENT_NAME_MAX_BYTES
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(allowed);
        if good {
            Ok(Self(text.into()))
        } else {
            Err(AgentNameError(text.chars().take(AGENT_NAME_MAX_BYTES).collect()))
        }
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Fills `out` from exactly as many hexadecimal digits as it needs.
#[must_use]
pub fn from_hex(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() != out.len() * 2 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|d| d as u8);
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        assert!("db-eu-3.example:9100".parse::<AgentName>().is_ok());
        for bad in ["", "-a", "a b", "ä", "a\"", &"x".repeat(AGENT_NAME_MAX_BYTES + 1)] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fingerprints_are_sha256_in_hex() {
        let of_abc = Fingerprint::of(b"abc").to_string();
        assert_eq!(of_abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(of_abc.parse(), Ok(Fingerprint::of(b"abc")));
        assert_eq!("xy".parse::<Fingerprint>(), Err(FingerprintError));
    }
}
