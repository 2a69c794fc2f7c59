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
    /// The same, byte for byte.
    pub text: String,
}

/// How the receiver behaves, as platforms do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this HTTP status; takes what is answered with 2xx.
    Status(u16),
    /// Too many requests: come back after so many seconds.
    Busy(u32),
    /// Takes one message a second and answers others with 429 and `Retry-After: 1`.
    OneASecond,
    /// Closes the connection instead of answering.
    Closes,
    /// Refuses bodies of more bytes with 413.
    AtMost(usize),
    /// Takes its time, milliseconds, and then the message.
    Slow(u64),
    /// Says once that the message is too large, as its platform says it, and takes the next.
    Oversize,
}

/// How a platform words its answers.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// The body where it takes a message.
    pub taken: &'static str,
    /// Whether it says in a header when to come back.
    pub busy_header: bool,
    /// The body where it has too much to do.
    pub busy: &'static str,
    /// Status and body where a message is too large.
    pub large: (u16, &'static str),
}

impl Default for Dialect {
    fn default() -> Self {
        Self { taken: "ok", busy_header: true, busy: "ok", large: (413, "ok") }
    }
}

#[derive(Debug)]
struct Inbox {
    messages: Mutex<Vec<Message>>,
    behaviour: Mutex<Behaviour>,
    dialect: Dialect,
    /// When one was last taken.
    taken: Mutex<Option<Instant>>,
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
        Self::speaking(Dialect::default())
    }

    /// The same, with the words of a platform.
    ///
    /// # Errors
    /// The system's.
    pub fn speaking(dialect: Dialect) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let inbox = Arc::new(Inbox {
            messages: Mutex::new(Vec::new()),
            behaviour: Mutex::new(Behaviour::Status(200)),
            dialect,
            taken: Mutex::new(None),
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
        self.behave(Behaviour::Status(status));
    }

    /// Behaves so from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.inbox.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
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

/// What is answered: the status, and when to come back.
fn status(inbox: &Inbox, behaviour: Behaviour, bytes: usize) -> (u16, Option<u32>) {
    match behaviour {
        Behaviour::Status(status) => (status, None),
        Behaviour::Busy(secs) => (429, Some(secs)),
        Behaviour::Closes => (0, None),
        Behaviour::AtMost(most) => (if bytes > most { 413 } else { 200 }, None),
        Behaviour::Slow(_) => (200, None),
        Behaviour::Oversize => (inbox.dialect.large.0, None),
        Behaviour::OneASecond => {
            let mut taken = inbox.taken.lock().unwrap_or_else(PoisonError::into_inner);
            if taken.is_some_and(|at| at.elapsed() < Duration::from_millis(900)) {
                return (429, Some(1));
            }
            *taken = Some(Instant::now());
            (200, None)
        }
    }
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
        let behaviour = *inbox.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, wait) = status(inbox, behaviour, body.len());
        if let Behaviour::Slow(ms) = behaviour {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let dialect = &inbox.dialect;
        let is_large = behaviour == Behaviour::Oversize;
        if is_large {
            *inbox.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = Behaviour::Status(200);
        }
        if (200..300).contains(&status) && !is_large {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
            let at_ms = i64::try_from(since.as_millis()).ok()?;
            let text = String::from_utf8_lossy(&body).into_owned();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            lock(inbox).push(Message { at_ms, body, text });
        } else {
            inbox.refused.fetch_add(1, Ordering::Relaxed);
        }
        if behaviour == Behaviour::Closes {
            return None;
        }
        let text = match status {
            _ if is_large => dialect.large.1,
            200..300 => dialect.taken,
            429 => dialect.busy,
            _ => "ok",
        };
        let wait = wait.filter(|_| dialect.busy_header || behaviour == Behaviour::OneASecond);
        let wait = wait.map(|secs| format!("retry-after: {secs}\r\n")).unwrap_or_default();
        let answer = format!("HTTP/1.1 {status} -\r\n{wait}content-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
