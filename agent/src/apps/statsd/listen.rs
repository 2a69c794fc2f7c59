//! The sockets of StatsD: UDP, and a unix socket for datagrams.
//!
//! A flood is left in the socket: after [`DATAGRAMS_MAX`] in a tenth of a second reading pauses, and the kernel drops what
//! its buffer does not hold (of UDP; a sender on the unix socket waits). Pauses are counted.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{UdpSocket, UnixDatagram};

use super::Statsd;

/// Most datagrams taken in `PERIOD`.
pub const DATAGRAMS_MAX: u32 = 2_000;
const PERIOD: Duration = Duration::from_millis(100);
/// Largest datagram: clients keep below; what is longer is cut, and its last line is malformed.
const DATAGRAM_MAX_BYTES: usize = 64 * 1024;
/// Others may write to the unix socket, as programs of other users do.
const SOCKET_MODE: u32 = 0o666;

/// A socket that is open.
pub enum Socket {
    /// UDP.
    Udp(UdpSocket),
    /// A unix socket.
    Unix(UnixDatagram),
}

impl Socket {
    /// Opens a UDP socket.
    ///
    /// # Errors
    /// The system's.
    pub async fn udp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::Udp(UdpSocket::bind(address).await?))
    }

    /// Opens a unix socket; one that an earlier run left there is replaced.
    ///
    /// # Errors
    /// The system's; something else than a socket stands there.
    pub fn unix(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        Ok(Self::Unix(socket))
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(buffer).await,
            Self::Unix(socket) => socket.recv(buffer).await,
        }
    }
}

/// Takes what comes, for ever.
pub async fn listen(socket: Socket, statsd: Arc<Mutex<Statsd>>) {
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    let (mut began, mut taken) = (Instant::now(), 0);
    loop {
        let received = socket.receive(&mut buffer).await;
        let Ok(length) = received else {
            // Such as an answer that a peer was not there: it says nothing about the next one.
            tokio::time::sleep(PERIOD).await;
            continue;
        };
        statsd.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..length]);
        taken += 1;
        let spent = began.elapsed();
        if spent >= PERIOD {
            (began, taken) = (Instant::now(), 0);
        } else if taken >= DATAGRAMS_MAX {
            statsd.lock().unwrap_or_else(PoisonError::into_inner).throttled();
            tokio::time::sleep(PERIOD - spent).await;
            (began, taken) = (Instant::now(), 0);
        }
    }
}
