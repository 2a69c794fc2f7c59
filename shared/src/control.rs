//! The messages of the control stream and of enrolment, and the negotiation of their version.
//!
//! A message travels as its length (u32, little endian) and its bytes in [`crate::wire`]'s format. [`Hello`] is the
//! agent's first message and keeps its layout for ever; everything after it is of the version that [`Welcome`] names,
//! so that an older agent goes on working with a newer collector. Golden bytes of each version are frozen in
//! `shared/tests/golden`.

use wincode::{SchemaRead, SchemaWrite};

use crate::limits;
use crate::wire::{self, WireError};

/// ALPN of an enrolled agent's connection.
pub const ALPN: &[u8] = b"pitwatch/1";
/// ALPN of a connection that may only enrol.
pub const ALPN_ENROLL: &[u8] = b"pitwatch-enroll/1";

/// The versions of the control messages that this build speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 2 };
/// From this version on the collector sends [`ToAgent::Settings`].
pub const VERSION_SETTINGS: u16 = 2;

/// First bytes of a hello.
pub const HELLO_MAGIC: [u8; 4] = *b"PWH0";

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// The newest version that both speak, if there is one.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// What an agent says first. Frozen: every later collector must read it.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Hello {
    /// [`HELLO_MAGIC`].
    pub magic: [u8; 4],
    /// What the agent speaks.
    pub versions: VersionRange,
    /// The agent's release, for people.
    pub software: String,
    /// The agent's clock, milliseconds since the Unix epoch.
    pub clock_ms: i64,
    /// The labels of the agent's configuration, for the list of agents.
    pub labels: Vec<(String, String)>,
}

/// The collector's answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Welcome {
    /// The version of every further message.
    pub version: u16,
    /// The collector's clock, milliseconds since the Unix epoch.
    pub clock_ms: i64,
    /// Where each lane goes on.
    pub lanes: Vec<LaneResume>,
    /// After a lost connection the agent comes back at a random moment within this many milliseconds, so that a
    /// fleet does not come back at once.
    pub reconnect_spread_ms: u32,
}

/// Where a lane goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LaneResume {
    /// [`crate::model::Lane`] as its byte.
    pub lane: u8,
    /// Everything up to this mark (epoch, sequence) is durable; `None` if the collector knows nothing of the lane.
    pub durable: Option<(u64, u64)>,
    /// The collector can decode the frame after `durable`. If not, the lane goes on with a new chain.
    pub chain_known: bool,
}

/// What an enrolled agent sends after the hello.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum ToCollector {
    /// Asks for a new certificate for a new key.
    Renew {
        /// A PKCS#10 request in DER.
        csr: Vec<u8>,
    },
}

/// What the collector sends after the welcome.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum ToAgent {
    /// Everything of the lane up to the mark is on disk.
    Ack {
        /// [`crate::model::Lane`] as its byte.
        lane: u8,
        /// The mark's epoch.
        epoch: u64,
        /// The mark's sequence.
        seq: u64,
    },
    /// The certificate that was asked for.
    Renewed(Issued),
    /// The request was not granted; the connection goes on.
    RenewRefused {
        /// Why, for the agent's log.
        reason: String,
    },
    /// From [`VERSION_SETTINGS`] on, once after the welcome: what the collector's configuration says for the agent's role.
    Settings {
        /// Sections of agent.toml; empty if there are none.
        text: String,
    },
}

/// A certificate that the collector's authority issued.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Issued {
    /// The agent's certificate in DER.
    pub certificate: Vec<u8>,
    /// The authority's certificate in DER.
    pub authority: Vec<u8>,
    /// Begin of its life, seconds since the Unix epoch.
    pub not_before_secs: i64,
    /// End of its life, seconds since the Unix epoch.
    pub not_after_secs: i64,
}

/// The one message of a connection under [`ALPN_ENROLL`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Enroll {
    /// What the agent speaks.
    pub versions: VersionRange,
    /// The agent's name, its `instance`.
    pub name: String,
    /// The token's secret.
    pub secret: [u8; crate::identity::TOKEN_SECRET_BYTES],
    /// A PKCS#10 request in DER.
    pub csr: Vec<u8>,
}

/// The answer to [`Enroll`].
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum EnrollAnswer {
    /// Done.
    Enrolled(Issued),
    /// Not done.
    Refused {
        /// Why and what to do, for the person who enrols.
        reason: String,
    },
}

/// Codes with which a side closes a connection; the reason's text travels along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The program stops; come back with jitter.
    Stopping = 1,
    /// The other side broke the protocol.
    Protocol = 2,
    /// No certificate was presented: enrol first.
    NoCertificate = 3,
    /// The certificate is not known here.
    Unknown = 4,
    /// The agent was revoked.
    Revoked = 5,
    /// No common version.
    Version = 6,
    /// A newer connection of the same agent took over.
    Superseded = 7,
    /// A limit of the collector; come back later.
    Busy = 8,
}

impl CloseCode {
    /// The code of a number, if it is known here.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        use CloseCode::{Busy, NoCertificate, Protocol, Revoked, Stopping, Superseded, Unknown, Version};
        [Stopping, Protocol, NoCertificate, Unknown, Revoked, Version, Superseded, Busy]
            .into_iter()
            .find(|code| *code as u64 == number)
    }
}

/// The bytes of a message as they stand on the stream: length, then the message.
///
/// # Errors
/// A message over the limit.
pub fn framed<T>(message: &T) -> Result<Vec<u8>, WireError>
where
    T: wincode::SchemaWrite<wire::Format, Src = T>,
{
    let body = wire::encode(message)?;
    let mut bytes = Vec::with_capacity(LENGTH_BYTES + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Bytes of the length before a message.
pub const LENGTH_BYTES: usize = 4;

/// The length of the message that follows, from the bytes before it.
///
/// # Errors
/// A length over the limit.
pub fn message_length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, WireError> {
    let length = u32::from_le_bytes(bytes) as usize;
    if length > limits::CONTROL_MESSAGE_MAX_BYTES { Err(WireError::TooLarge(length)) } else { Ok(length) }
}

/// Decodes a hello and checks its magic and bounds.
///
/// # Errors
/// Anything that is not a hello.
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, WireError> {
    let hello: Hello = wire::decode(bytes)?;
    if hello.magic != HELLO_MAGIC {
        return Err(WireError::Malformed("not a hello".into()));
    }
    if hello.labels.len() > limits::LABELS_PER_SERIES_MAX {
        return Err(WireError::Malformed(format!("{} labels in a hello", hello.labels.len())));
    }
    Ok(hello)
}

/// A text no longer than [`limits::REASON_MAX_BYTES`], cut at a character.
#[must_use]
pub fn bounded_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(limits::REASON_MAX_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            magic: HELLO_MAGIC,
            versions: VERSIONS,
            software: "0.1.0".into(),
            clock_ms: 1_795_337_611_000,
            labels: vec![("role".into(), "game".into())],
        }
    }

    #[test]
    fn versions_meet_at_the_newest_common_one() {
        let range = |min, max| VersionRange { min, max };
        assert_eq!(range(1, 3).common(range(2, 7)), Some(3));
        assert_eq!(range(1, 1).common(range(1, 9)), Some(1));
        assert_eq!(range(1, 1).common(range(2, 9)), None);
    }

    #[test]
    fn hello_survives_the_trip_and_nothing_else_passes_for_it() {
        let bytes = wire::encode(&hello()).unwrap();
        assert_eq!(decode_hello(&bytes).unwrap(), hello());
        for cut in 0..bytes.len() {
            assert!(decode_hello(&bytes[..cut]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode_hello(&longer).is_err());
        assert!(decode_hello(&[&b"XXXX"[..], &bytes[4..]].concat()).is_err());
    }

    #[test]
    fn a_hostile_length_is_refused_without_allocating_it() {
        // Renew (variant 0) whose csr claims 2^42 bytes.
        let mut bytes = vec![0, 253];
        bytes.extend_from_slice(&(1_u64 << 42).to_le_bytes());
        assert!(wire::decode::<ToCollector>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_cleanly(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_hello(&bytes);
            let _ = wire::decode::<ToCollector>(&bytes);
            let _ = wire::decode::<ToAgent>(&bytes);
            let _ = wire::decode::<Enroll>(&bytes);
            let _ = wire::decode::<EnrollAnswer>(&bytes);
            let _ = wire::decode::<Welcome>(&bytes);
        }
    }
}
