//! The one-time enrolment token: a secret for the collector, and the authority's fingerprint for the agent.
//!
//! Text: `pwe1_`, 32 hexadecimal digits of the secret, `_`, 64 of the authority's fingerprint, `_`, 8 of the CRC-32 of
//! all before it, so that a cut or mistyped token is told from a wrong one. The collector keeps only the secret's hash.

use std::fmt;
use std::str::FromStr;

use super::{Fingerprint, from_hex, to_hex};

/// Bytes of a token's secret.
pub const TOKEN_SECRET_BYTES: usize = 16;
const PREFIX: &str = "pwe1_";

/// A one-time enrolment token.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollToken {
    /// What the agent shows.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// The authority that the agent must find.
    pub authority: Fingerprint,
}

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as tokens of this version do.
    #[error("not an enrolment token: it begins with {PREFIX:?}; make one with `pitwatch token create`")]
    Prefix,
    /// Parts are missing, too long, or not hexadecimal.
    #[error("the enrolment token is damaged: copy it whole")]
    Shape,
    /// The check sum does not fit.
    #[error("the enrolment token is damaged (check sum): copy it again")]
    Checksum,
}

impl fmt::Display for EnrollToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{PREFIX}{}_{}", to_hex(&self.secret), self.authority);
        write!(f, "{text}_{:08x}", crc32fast::hash(text.as_bytes()))
    }
}

impl fmt::Debug for EnrollToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrollToken(authority {})", self.authority)
    }
}

impl FromStr for EnrollToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let mut parts = body.split('_');
        let (Some(secret_hex), Some(authority), Some(sum), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Shape);
        };
        let mut secret = [0; TOKEN_SECRET_BYTES];
        from_hex(secret_hex, &mut secret).ok_or(TokenError::Shape)?;
        let authority = authority.parse().map_err(|_| TokenError::Shape)?;
        let mut crc = [0; 4];
        from_hex(sum, &mut crc).ok_or(TokenError::Shape)?;
        let covered = &text[..text.len() - sum.len() - 1];
        if u32::from_be_bytes(crc) != crc32fast::hash(covered.as_bytes()) {
            return Err(TokenError::Checksum);
        }
        Ok(Self { secret, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> EnrollToken {
        EnrollToken { secret: [0xab; TOKEN_SECRET_BYTES], authority: Fingerprint([0x12; 32]) }
    }

    #[test]
    fn the_text_form_is_frozen() {
        let text = "pwe1_abababababababababababababababab_\
                    1212121212121212121212121212121212121212121212121212121212121212_c018fdb4";
        assert_eq!(token().to_string().split('_').count(), 4);
        assert_eq!(token().to_string(), text);
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("abab"));
    }

    #[test]
    fn damage_is_told() {
        let text = token().to_string();
        assert_eq!("hello".parse::<EnrollToken>(), Err(TokenError::Prefix));
        assert_eq!(text[..text.len() - 1].parse::<EnrollToken>(), Err(TokenError::Shape));
        assert_eq!(text.replacen("ab", "ac", 1).parse::<EnrollToken>(), Err(TokenError::Checksum));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_cleanly(text in ".{0,200}", tail in "[0-9a-f_]{0,150}") {
            let _ = text.parse::<EnrollToken>();
            let _ = format!("{PREFIX}{tail}").parse::<EnrollToken>();
        }
    }
}
