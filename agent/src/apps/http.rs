//! A small HTTP/1.1 client for endpoints: one GET a connection, with TLS and credentials where the endpoint's
//! [`Access`] has them, bounded in bytes and in time.
//!
//! [`Response`] is sans-IO and takes any bytes. Redirects are not followed: credentials go where the configuration says.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::access::Access;

/// Longest head of an answer, bytes.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// Longest line that tells a chunk's size, bytes.
const CHUNK_LINE_MAX_BYTES: usize = 256;
/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Preferred formats.
const ACCEPT: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

/// Where an endpoint is: `http://host:port/path`, or `https://…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Name or address, an IPv6 one without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address of an endpoint");
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !plain(host) || host.contains(['@', '/']) || !plain(path) || port == 0 {
            return Err(wrong());
        }
        if tls && ServerName::try_from(host).is_err() {
            return Err(format!("{text:?}: no certificate can be of this name"));
        }
        Ok(Self { tls, host: host.to_owned(), port, path: format!("/{path}") })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = |open| if self.host.contains(':') { open } else { "" };
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}{}:{}{}", bracket("["), self.host, bracket("]"), self.port, self.path)
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
    /// A file that is needed to ask.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("no whole answer within {0:?}")]
    Slow(Duration),
    /// Not an answer of HTTP.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// An answer of another status than 200.
    #[error("it answered with status {0}")]
    Status(u16),
    /// More bytes than allowed.
    #[error("its answer has more than {0} bytes")]
    TooLarge(usize),
}

/// Asks an endpoint; gives the body.
///
/// # Errors
/// Any of [`HttpError`].
pub async fn get(url: &Url, access: &mut Access, timeout: Duration, max_bytes: usize) -> Result<Vec<u8>, HttpError> {
    let exchange = async {
        let authorization = access.authorization().await?.map(|value| format!("Authorization: {value}\r\n"));
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: pitwatch-agent/{}\r\nAccept: {ACCEPT}\r\n{}\
             X-Prometheus-Scrape-Timeout-Seconds: {}\r\nConnection: close\r\n\r\n",
            url.path,
            url.port,
            env!("CARGO_PKG_VERSION"),
            authorization.unwrap_or_default(),
            timeout.as_secs_f64(),
        );
        let connector = access.connector().await?;
        let connected = TcpStream::connect((url.host.as_str(), url.port)).await;
        let stream = connected.map_err(|error| HttpError::Io("connect", error))?;
        match connector {
            None => ask(stream, &request, max_bytes).await,
            Some(connector) => {
                let name = ServerName::try_from(url.host.clone());
                let name = name.map_err(|error| HttpError::Io("name the endpoint", io::Error::other(error)))?;
                let stream = connector.connect(name, stream).await;
                ask(stream.map_err(|error| HttpError::Io("agree on TLS", error))?, &request, max_bytes).await
            }
        }
    };
    tokio::time::timeout(timeout, exchange).await.map_err(|_| HttpError::Slow(timeout))?
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    max_bytes: usize,
) -> Result<Vec<u8>, HttpError> {
    stream.write_all(request.as_bytes()).await.map_err(|error| HttpError::Io("send", error))?;
    stream.flush().await.map_err(|error| HttpError::Io("send", error))?;
    let mut response = Response::new(max_bytes);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|error| HttpError::Io("read", error))?;
        if read == 0 || response.feed(&buffer[..read])? {
            return response.end();
        }
    }
}

/// An answer as its bytes come in.
#[derive(Debug)]
pub struct Response {
    max_bytes: usize,
    state: State,
    /// What is not taken apart yet.
    rest: Vec<u8>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Until the connection's end.
    Open,
    /// So many bytes to come.
    Sized(usize),
    ChunkSize,
    /// So many bytes of a chunk to come.
    Chunk(usize),
    /// The line feed after a chunk.
    ChunkEnd,
    Done,
}

impl Response {
    /// An answer whose body has at most so many bytes.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: State::Head, rest: Vec::new(), body: Vec::new() }
    }

    /// Takes bytes; whether the answer is whole.
    ///
    /// # Errors
    /// Anything that is no answer of status 200 within the limits.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool, HttpError> {
        self.rest.extend_from_slice(bytes);
        while self.step()? {}
        Ok(self.state == State::Done)
    }

    /// The body, once the connection has ended or the answer is whole.
    ///
    /// # Errors
    /// The answer is not whole.
    pub fn end(self) -> Result<Vec<u8>, HttpError> {
        match self.state {
            State::Done | State::Open => Ok(self.body),
            State::Head => Err(HttpError::Malformed("it ended within its head")),
            _ => Err(HttpError::Malformed("it ended within its body")),
        }
    }

    /// Takes apart what can be; `false` if more bytes are needed.
    fn step(&mut self) -> Result<bool, HttpError> {
        match self.state {
            State::Head => {
                let Some(end) = find(&self.rest, b"\r\n\r\n") else {
                    return if self.rest.len() > HEAD_MAX_BYTES {
                        Err(HttpError::Malformed("its head is too long"))
                    } else {
                        Ok(false)
                    };
                };
                self.state = body_of(&self.rest[..end], self.max_bytes)?;
                self.rest.drain(..end + 4);
                Ok(true)
            }
            State::Open => {
                let all = self.rest.len();
                self.take(all)?;
                Ok(false)
            }
            State::Sized(left) => {
                let taken = self.take(left)?;
                self.state = if taken == left { State::Done } else { State::Sized(left - taken) };
                Ok(false)
            }
            State::ChunkSize => {
                let Some(end) = find(&self.rest, b"\r\n") else {
                    return if self.rest.len() > CHUNK_LINE_MAX_BYTES {
                        Err(HttpError::Malformed("a chunk's size is too long"))
                    } else {
                        Ok(false)
                    };
                };
                let line = std::str::from_utf8(&self.rest[..end]).unwrap_or_default();
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16).map_err(|_| HttpError::Malformed("a chunk's size"))?;
                self.rest.drain(..end + 2);
                // What may follow the last chunk are trailers, which say nothing to us.
                self.state = if size == 0 { State::Done } else { State::Chunk(size) };
                Ok(size > 0)
            }
            State::Chunk(left) => {
                let taken = self.take(left)?;
                self.state = if taken == left { State::ChunkEnd } else { State::Chunk(left - taken) };
                Ok(taken == left)
            }
            State::ChunkEnd => {
                if self.rest.len() < 2 {
                    return Ok(false);
                }
                if !self.rest.starts_with(b"\r\n") {
                    return Err(HttpError::Malformed("a chunk of another size than it says"));
                }
                self.rest.drain(..2);
                self.state = State::ChunkSize;
                Ok(true)
            }
            State::Done => Ok(false),
        }
    }

    /// Moves up to so many bytes into the body.
    fn take(&mut self, most: usize) -> Result<usize, HttpError> {
        let taken = most.min(self.rest.len());
        if self.body.len() + taken > self.max_bytes {
            return Err(HttpError::TooLarge(self.max_bytes));
        }
        self.body.extend(self.rest.drain(..taken));
        Ok(taken)
    }
}

/// How the body comes, by the head.
fn body_of(head: &[u8], max_bytes: usize) -> Result<State, HttpError> {
    let head = std::str::from_utf8(head).map_err(|_| HttpError::Malformed("its head is no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let mut words = status.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let code = words.next().and_then(|code| code.parse().ok());
    match code.filter(|_| is_http) {
        None => return Err(HttpError::Malformed("it does not speak HTTP/1")),
        Some(200) => {}
        Some(code) => return Err(HttpError::Status(code)),
    }
    let header = |wanted: &str| {
        let mut found = head.split("\r\n").filter_map(|line| line.split_once(':'));
        found.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    if header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(HttpError::Malformed("it is compressed, which was not asked for"));
    }
    if header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
        return Ok(State::ChunkSize);
    }
    match header("content-length").map(str::parse::<usize>) {
        None => Ok(State::Open),
        Some(Ok(0)) => Ok(State::Done),
        Some(Ok(length)) if length > max_bytes => Err(HttpError::TooLarge(max_bytes)),
        Some(Ok(length)) => Ok(State::Sized(length)),
        Some(Err(_)) => Err(HttpError::Malformed("its length is no number")),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(answer: &[u8], step: usize) -> Result<Vec<u8>, HttpError> {
        let mut response = Response::new(20);
        for part in answer.chunks(step) {
            if response.feed(part)? {
                break;
            }
        }
        response.end()
    }

    #[test]
    fn bodies_come_in_three_ways_and_any_pieces() {
        for step in 1..40 {
            for (answer, body) in [
                ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellomore", "hello"),
                ("HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello", "hello"),
                ("HTTP/1.1 200 \r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"),
                ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
            ] {
                assert_eq!(read(answer.as_bytes(), step).unwrap(), body.as_bytes(), "{answer} by {step}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_in_words() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_MAX_BYTES));
        for (answer, what) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "it answered with status 404"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "malformed answer: it does not speak HTTP/1"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n", "its answer has more than 20 bytes"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed answer: its length is no number"),
            ("HTTP/1.1 200 OK\r\n\r\n123456789012345678901", "its answer has more than 20 bytes"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed answer: a chunk's size"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12", "malformed answer: it ended within its body"),
            ("HTTP/1.1 200", "malformed answer: it ended within its head"),
            (&long, "malformed answer: its head is too long"),
        ] {
            assert_eq!(read(answer.as_bytes(), 4096).unwrap_err().to_string(), what);
        }
    }

    #[test]
    fn addresses_are_read() {
        for (text, said) in [
            ("http://127.0.0.1:9100/metrics", "http://127.0.0.1:9100/metrics"),
            ("http://localhost:9100", "http://localhost:9100/metrics"),
            ("http://[::1]:9100/m?x=y", "http://[::1]:9100/m?x=y"),
            ("http://localhost/", "http://localhost:80/"),
            ("https://app.example/m", "https://app.example:443/m"),
            ("https://[::1]:8443", "https://[::1]:8443/metrics"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), said);
        }
        for wrong in [
            "https://a..b/",
            "ftp://x/",
            "x:1",
            "http://",
            "http://a b/",
            "http://u@h/",
            "http://h:0/",
            "http://h:x/",
            "http://h/\n",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(
            head in "(HTTP/1.1 200 OK\r\n)?(Content-Length: [0-9]{1,3}\r\n|Transfer-Encoding: chunked\r\n)?(\r\n)?",
            body in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'1'), any::<u8>()], 0..60),
            step in 1_usize..20,
        ) {
            if let Ok(body) = read(&[head.as_bytes(), &body].concat(), step) {
                prop_assert!(body.len() <= 20);
            }
        }
    }
}
