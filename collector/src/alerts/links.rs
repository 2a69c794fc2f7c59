//! Links in messages that act: acknowledge an alert, silence it for two hours.
//!
//! Each carries what it does, to which alert and until when it works, signed with a key of this collector: whoever has
//! the message may do that, and nothing else. It opens a page with a button; a chat that looks at a link does nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pitwatch_alerting::Notification;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// How long a link works, milliseconds.
const LIFE_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Bytes of a signature that a link carries.
const SIGNATURE_BYTES: usize = 16;
/// Longest link that is read.
const TOKEN_MAX_BYTES: usize = 1_024;

/// Makes and checks links.
#[derive(Debug)]
pub struct Links {
    key: hmac::Key,
    external_url: String,
}

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Acknowledges the alert.
    Ack,
    /// Silences it for two hours.
    Silence,
}

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it does.
    #[serde(rename = "d")]
    pub deed: Deed,
    /// The alert's fingerprint.
    #[serde(rename = "f")]
    pub fingerprint: String,
    /// Until when it works.
    #[serde(rename = "e")]
    pub ends_ms: i64,
}

impl Links {
    /// With a key, for a collector that people reach at `external_url`.
    #[must_use]
    pub fn new(key: &[u8], external_url: &str) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), external_url: external_url.to_owned() }
    }

    /// The links of an alert, with their words.
    #[must_use]
    pub fn of(&self, alert: &Notification, now_ms: i64) -> Vec<(&'static str, String)> {
        if self.external_url.is_empty() {
            return Vec::new();
        }
        [("Acknowledge", Deed::Ack), ("Silence 2 h", Deed::Silence)]
            .map(|(word, deed)| {
                let token = Token { deed, fingerprint: alert.fingerprint(), ends_ms: now_ms + LIFE_MS };
                (word, format!("{}/act/{}", self.external_url, self.sign(&token)))
            })
            .into()
    }

    fn sign(&self, token: &Token) -> String {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(token).unwrap_or_default());
        let signature = hmac::sign(&self.key, payload.as_bytes());
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(&signature.as_ref()[..SIGNATURE_BYTES]))
    }

    /// What a link says, if it was made here and still works.
    #[must_use]
    pub fn read(&self, text: &str, now_ms: i64) -> Option<Token> {
        let (payload, signature) = text.split_once('.').filter(|_| text.len() <= TOKEN_MAX_BYTES)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let right = hmac::sign(&self.key, payload.as_bytes());
        let differs = right.as_ref()[..SIGNATURE_BYTES].iter().zip(&signature).fold(0, |all, (a, b)| all | (a ^ b));
        if signature.len() != SIGNATURE_BYTES || differs != 0 {
            return None;
        }
        let token: Token = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (now_ms < token.ends_ms).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_work_for_a_week_and_only_as_they_were_made() {
        let links = Links::new(b"key", "http://w");
        let token = Token { deed: Deed::Silence, fingerprint: "00ff".to_owned(), ends_ms: 1_000 };
        let text = links.sign(&token);
        assert_eq!(links.read(&text, 999), Some(token));
        assert_eq!(links.read(&text, 1_000), None);
        assert_eq!(Links::new(b"other", "http://w").read(&text, 0), None);
        for wrong in ["", ".", &text[1..], &text[..text.len() - 1], &text.replace('.', ".A"), "a.b"] {
            assert_eq!(links.read(wrong, 0), None, "{wrong}");
        }
    }
}
