//! A receiver of alerts on loopback that remembers what it was sent and answers as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Largest body that is read, in bytes.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What.
    pub body: Value,
}

#[derive(Debug)]
struct Inbox {
    messages: Mutex<Vec<Message>>,
    /// The HTTP status that is answered.
    status: AtomicU16,
    refused: AtomicU16,
}

/// The receiver; it ends when dropped.
#[derive(Debug)]
pub struct Webhook {
    /// Where it listens.
    pub address: SocketAddr,
    inbox: Arc<Inbox>,
    _runtime: tokio::runtime::Runtime,
}

impl Webhook {
    /// Starts a receiver that takes everything.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let inbox = Arc::new(Inbox {
            messages: Mutex::new(Vec::new()),
            status: AtomicU16::new(200),
            refused: AtomicU16::new(0),
        });
        let shared = inbox.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inbox = shared.clone();
                tokio::spawn(async move { serve(stream, &inbox).await });
            }
        });
        Ok(Self { address, inbox, _runtime: runtime })
    }

    /// The receiver's lines for a collector's configuration.
    #[must_use]
    pub fn config(&self) -> String {
        format!("[receivers.hook]\nkind = \"webhook\"\nurl = \"http://{}/hook\"\n", self.address)
    }

    /// Answers with this HTTP status from now on; only what is answered with 2xx is kept.
    pub fn answer(&self, status: u16) {
        self.inbox.status.store(status, Ordering::Relaxed);
    }

    /// Messages that were not taken.
    #[must_use]
    pub fn refused(&self) -> u16 {
        self.inbox.refused.load(Ordering::Relaxed)
    }

    /// Every message so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.inbox).clone()
    }

    /// Waits for a message of that alert with that status (`firing` or `resolved`).
    ///
    /// # Errors
    /// None came in time; says what did.
    pub fn wait_for(&self, alert: &str, status: &str, limit: Duration) -> anyhow::Result<Message> {
        let end = Instant::now() + limit;
        loop {
            let found = self.messages().into_iter().find(|message| is(message, alert, status));
            if let Some(message) = found {
                return Ok(message);
            }
            anyhow::ensure!(Instant::now() < end, "no {status} {alert} in {limit:?}: {:?}", self.messages());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether the message tells that of the alert.
#[must_use]
pub fn is(message: &Message, alert: &str, status: &str) -> bool {
    let first = &message.body["alerts"][0];
    first["labels"]["alertname"] == alert && first["status"] == status
}

fn lock(inbox: &Inbox) -> MutexGuard<'_, Vec<Message>> {
    inbox.messages.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, inbox: &Inbox) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.min(BODY_MAX_BYTES)];
        stream.read_exact(&mut body).await.ok()?;
        let status = inbox.status.load(Ordering::Relaxed);
        if (200..300).contains(&status) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let at_ms = i64::try_from(since.as_millis()).ok()?;
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            lock(inbox).push(Message { at_ms, body });
        } else {
            inbox.refused.fetch_add(1, Ordering::Relaxed);
        }
        let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
