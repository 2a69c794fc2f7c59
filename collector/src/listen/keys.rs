//! The endpoint's persistent secrets.
//!
//! quinn makes them at random in each process; then, after a crash, agents write into a void until their idle
//! timeout, since the new process cannot prove to them that their connections are gone. Kept, a reset tells them at
//! their next packet.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ConnectionIdGenerator, HashedConnectionIdGenerator};
use ring::rand::{SecureRandom, SystemRandom};

use crate::authority::save_private;

/// The file's name in the collector's data directory.
pub const FILE: &str = "endpoint.key";
const RESET_KEY_BYTES: usize = 64;
const ID_KEY_BYTES: usize = 8;
/// No pause between resets, so that a fleet learns of a crash at its next packets. quinn's 20 ms would allow 50 a
/// second, and with any pause only one packet of those read together is answered; who is not asks again ever later. A
/// reset is smaller than the packet that it answers, so that it amplifies nothing.
const MIN_RESET_INTERVAL: Duration = Duration::ZERO;

/// The secrets.
#[derive(Debug)]
pub struct Keys([u8; RESET_KEY_BYTES + ID_KEY_BYTES]);

impl Keys {
    /// Reads the keys in `dir`, or makes them. A file of another length is replaced: old connections are then
    /// noticed by their idle timeout only.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(dir: &Path) -> io::Result<Self> {
        if let Ok(bytes) = fs::read(dir.join(FILE))
            && let Ok(bytes) = bytes.try_into()
        {
            return Ok(Self(bytes));
        }
        let mut bytes = [0; RESET_KEY_BYTES + ID_KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
        save_private(dir, FILE, &bytes)?;
        Ok(Self(bytes))
    }

    /// The endpoint's configuration with these keys.
    #[must_use]
    pub fn endpoint_config(&self) -> quinn::EndpointConfig {
        let (reset, id) = self.0.split_at(RESET_KEY_BYTES);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset);
        let mut config = quinn::EndpointConfig::new(Arc::new(key));
        let mut id_key = [0; ID_KEY_BYTES];
        id_key.copy_from_slice(id);
        let id_key = u64::from_le_bytes(id_key);
        let generator =
            move || -> Box<dyn ConnectionIdGenerator> { Box::new(HashedConnectionIdGenerator::from_key(id_key)) };
        config.cid_generator(generator).min_reset_interval(MIN_RESET_INTERVAL);
        config
    }
}
