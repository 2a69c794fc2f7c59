//! What systemd is told: that the agent is ready, alive, reloading, stopping (sd_notify(3)).
//!
//! Signs of life come from the loop that gathers: if it hangs, they end, and the watchdog restarts the agent. Without
//! systemd nothing is said.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The way to systemd.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Signs of life are wanted this often.
    watchdog: Option<Duration>,
    said: Option<Instant>,
}

impl Notifier {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| env::var(name).ok();
        Self::new(variable("NOTIFY_SOCKET").as_deref(), variable("WATCHDOG_USEC").as_deref())
    }

    fn new(socket: Option<&str>, watchdog_us: Option<&str>) -> Self {
        let address = socket.and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let watchdog = watchdog_us.and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Self { socket, watchdog, said: None }
    }

    /// The agent gathers.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The loop turns. Said at half the interval that the watchdog waits.
    pub fn alive(&mut self, now: Instant) {
        let Some(watchdog) = self.watchdog else { return };
        if self.said.is_none_or(|said| now.saturating_duration_since(said) >= watchdog / 2) {
            self.said = Some(now);
            self.say("WATCHDOG=1");
        }
    }

    /// The configuration is read anew; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        let at = clock_gettime(ClockId::Monotonic);
        let micros = at.tv_sec.saturating_mul(1_000_000).saturating_add(at.tv_nsec / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // Without systemd listening there is nobody to tell.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_of_every_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::new(path.to_str(), Some("10000000"));
        let now = Instant::now();
        notifier.ready("well");
        notifier.alive(now);
        notifier.alive(now + Duration::from_secs(4));
        notifier.alive(now + Duration::from_secs(5));
        notifier.reloading();
        notifier.stopping();
        systemd.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 200];
        while let Ok(length) = systemd.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        assert!(heard[3].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        heard.remove(3);
        assert_eq!(heard, ["READY=1\nSTATUS=well", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]);
        Notifier::new(None, Some("x")).alive(now);
    }
}
