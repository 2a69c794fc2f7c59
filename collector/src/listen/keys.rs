//! The endpoint's persistent secret, and what else it takes for agents to notice a crash at once.
//!
//! quinn makes the secret at random in each process; then, after a crash, agents write into a void until their idle
//! timeout, since the new process cannot prove to them that their connections are gone. Kept, a reset tells them at
//! their next packet.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ConnectionIdGenerator, RandomConnectionIdGenerator};
use ring::rand::{SecureRandom, SystemRandom};

use crate::authority::save_private;

/// The file's name in the collector's data directory.
pub const FILE: &str = "endpoint.key";
/// Its length.
pub const BYTES: usize = 64;
/// Length of connection ids, bytes. All of them random: quinn's default ids have three such bytes, so that in a fleet of
/// 10,000 the ids of dozens of old connections are given to new ones after a crash; a packet of such an old connection
/// is taken for one of the new, no reset answers it, and its agent waits for its idle timeout.
const ID_BYTES: usize = 8;
/// No pause between resets, so that a fleet learns of a crash at its next packets. quinn's 20 ms would allow 50 a
/// second, and with any pause only one packet of those read together is answered. A reset is smaller than the packet
/// that it answers, so that it amplifies nothing.
const MIN_RESET_INTERVAL: Duration = Duration::ZERO;

/// The secret.
#[derive(Debug)]
pub struct Keys([u8; BYTES]);

impl Keys {
    /// Reads the key in `dir`, or makes it. A file of another length is replaced: old connections are then noticed by
    /// their idle timeout only.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(dir: &Path) -> io::Result<Self> {
        if let Ok(bytes) = fs::read(dir.join(FILE))
            && let Ok(bytes) = bytes.try_into()
        {
            return Ok(Self(bytes));
        }
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
        save_private(dir, FILE, &bytes)?;
        Ok(Self(bytes))
    }

    /// The endpoint's configuration with this key.
    #[must_use]
    pub fn endpoint_config(&self) -> quinn::EndpointConfig {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.0);
        let mut config = quinn::EndpointConfig::new(Arc::new(key));
        let ids = || -> Box<dyn ConnectionIdGenerator> { Box::new(RandomConnectionIdGenerator::new(ID_BYTES)) };
        config.cid_generator(ids).min_reset_interval(MIN_RESET_INTERVAL);
        config
    }
}
