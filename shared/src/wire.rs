//! Bincode's format (its standard configuration: little endian, variable-length integers), and the one place that
//! knows which library writes it.
//!
//! The golden bytes of [`crate::control`] hold the format still. Why not bincode itself: docs/decisions/bincode.md.

use wincode::config::{Configuration, DefaultConfig, deserialize_exact, serialize};
use wincode::int_encoding::{LittleEndian, VarInt};
use wincode::len::BincodeLen;
use wincode::{SchemaReadOwned, SchemaWrite};

use crate::limits::CONTROL_MESSAGE_MAX_BYTES;

/// Bincode's standard configuration; no length in a message may ask for more memory than a message may have.
pub type Format =
    Configuration<true, CONTROL_MESSAGE_MAX_BYTES, BincodeLen, LittleEndian, VarInt, u32, CONTROL_MESSAGE_MAX_BYTES>;

/// What can be read in this format.
pub trait Message: SchemaReadOwned<Format, Dst = Self> + Sized {}
impl<T: SchemaReadOwned<Format, Dst = T>> Message for T {}

/// Why bytes are not the message that they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Over [`CONTROL_MESSAGE_MAX_BYTES`].
    #[error("a message of {0} bytes, more than {CONTROL_MESSAGE_MAX_BYTES}")]
    TooLarge(usize),
    /// Not the type's bytes.
    #[error("malformed message: {0}")]
    Malformed(String),
}

fn format() -> Format {
    DefaultConfig::default()
        .with_varint_encoding()
        .with_preallocation_size_limit::<CONTROL_MESSAGE_MAX_BYTES>()
        .with_deserialization_size_limit::<CONTROL_MESSAGE_MAX_BYTES>()
}

/// The bytes of a message.
///
/// # Errors
/// A message over the limit.
pub fn encode<T>(message: &T) -> Result<Vec<u8>, WireError>
where
    T: SchemaWrite<Format, Src = T>,
{
    let bytes = serialize(message, format()).map_err(|error| WireError::Malformed(error.to_string()))?;
    if bytes.len() > CONTROL_MESSAGE_MAX_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// The message of some bytes, all of them.
///
/// # Errors
/// Too many bytes, bytes left over, or anything else than the type's encoding.
pub fn decode<T: Message>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > CONTROL_MESSAGE_MAX_BYTES {
        return Err(WireError::TooLarge(bytes.len()));
    }
    deserialize_exact(bytes, format()).map_err(|error| WireError::Malformed(error.to_string()))
}
