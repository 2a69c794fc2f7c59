//! As much of D-Bus as asking systemd takes: connect, call a method, read its answer.
//!
//! `zbus`, the usual crate, brings an async executor and dozens of crates for what are two calls to systemd here. Messages
//! have a bound, strings are checked, and a peer that says anything else is an error
//! (dbus.freedesktop.org/doc/dbus-specification.html).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest message read, in bytes: 10,000 units of systemd's are some 3 MiB.
const MESSAGE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Messages that are not the answer, read before one call is given up.
const OTHERS_MAX: usize = 1000;
/// The longest that the peer may take to say something.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest line of the authentication, in bytes.
const LINE_MAX_BYTES: usize = 512;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Codes of header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// A method to call. Arguments are strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'c> {
    pub(super) destination: &'c str,
    pub(super) path: &'c str,
    pub(super) interface: &'c str,
    pub(super) member: &'c str,
    pub(super) arguments: &'c [&'c str],
}

/// A connection to a bus, or straight to a program.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
}

impl Connection {
    /// Connects to the socket of a bus and says hello to it.
    pub(super) fn to_bus(socket: &Path) -> io::Result<Self> {
        let mut connection = Self::to_peer(socket)?;
        let bus = "org.freedesktop.DBus";
        let hello =
            Call { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "Hello", arguments: &[] };
        connection.call(&hello)?;
        Ok(connection)
    }

    /// Connects to a program that has no bus in between.
    pub(super) fn to_peer(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // The number of the user, in decimal, in hexadecimal; the kernel vouches for it.
        let uid = rustix::process::geteuid().as_raw().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with(b"OK ") {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the bus refuses this user"));
        }
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Self { stream, serial: 0 })
    }

    /// Calls a method; gives the body of its answer.
    pub(super) fn call(&mut self, call: &Call<'_>) -> io::Result<Vec<u8>> {
        self.serial += 1;
        self.stream.write_all(&encode(call, self.serial))?;
        for _ in 0..OTHERS_MAX {
            let mut head = [0; 16];
            self.stream.read_exact(&mut head)?;
            let lengths = Lengths::of(&head)?;
            let mut rest = vec![0; lengths.fields_padded + lengths.body];
            self.stream.read_exact(&mut rest)?;
            let header = Header::of(&rest[..lengths.fields])?;
            if header.reply_serial != Some(self.serial) {
                continue;
            }
            let body = rest.split_off(lengths.fields_padded);
            return match head[1] {
                METHOD_RETURN => Ok(body),
                ERROR => Err(io::Error::other(format!("{} is answered by {}", call.member, header.error))),
                _ => Err(broken()),
            };
        }
        Err(io::Error::other("no answer among a thousand messages"))
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a broken D-Bus message")
}

/// One line of the authentication. Nothing follows it before we begin, so that it may be read byte by byte.
fn line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_MAX_BYTES {
            return Err(broken());
        }
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(line)
}

fn encode(call: &Call<'_>, serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in call.arguments {
        put_string(&mut body, argument);
    }
    let mut fields = Vec::new();
    let texts = [
        (field::PATH, b'o', call.path),
        (field::DESTINATION, b's', call.destination),
        (field::INTERFACE, b's', call.interface),
        (field::MEMBER, b's', call.member),
    ];
    for (code, kind, text) in texts {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put_string(&mut fields, text);
    }
    if !call.arguments.is_empty() {
        pad(&mut fields, 8);
        fields.extend([field::SIGNATURE, 1, b'g', 0, call.arguments.len() as u8]);
        fields.extend(call.arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    for number in [body.len() as u32, serial, fields.len() as u32] {
        message.extend(number.to_le_bytes());
    }
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// What the first 16 bytes say of the rest.
struct Lengths {
    fields: usize,
    fields_padded: usize,
    body: usize,
}

impl Lengths {
    fn of(head: &[u8; 16]) -> io::Result<Self> {
        // A peer on the same host writes in the host's order, which is little-endian where we are built.
        if head[0] != b'l' || head[3] != 1 {
            return Err(broken());
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (number(4), number(12));
        if body.saturating_add(fields) > MESSAGE_MAX_BYTES {
            return Err(broken());
        }
        Ok(Self { fields, fields_padded: fields.next_multiple_of(8), body })
    }
}

/// What is taken of the header's fields.
#[derive(Default)]
struct Header {
    reply_serial: Option<u32>,
    error: String,
}

impl Header {
    fn of(fields: &[u8]) -> io::Result<Self> {
        let (mut header, mut values) = (Self::default(), Values::new(fields));
        while !values.is_at_end() {
            values.align(8)?;
            let code = values.byte()?;
            match values.signature()? {
                b"u" => {
                    let number = values.number()?;
                    header.reply_serial = if code == field::REPLY_SERIAL { Some(number) } else { header.reply_serial };
                }
                b"s" | b"o" => {
                    let text = values.string()?;
                    if code == field::ERROR_NAME {
                        header.error = text.to_owned();
                    }
                }
                b"g" => {
                    values.signature()?;
                }
                _ => return Err(broken()),
            }
        }
        Ok(header)
    }
}

/// Values of a message, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Values<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Values<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Where the next value would be read from.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn align(&mut self, to: usize) -> io::Result<()> {
        self.at = self.at.next_multiple_of(to);
        if self.at > self.bytes.len() { Err(broken()) } else { Ok(()) }
    }

    fn take(&mut self, length: usize) -> io::Result<&'b [u8]> {
        let end = self.at.checked_add(length).ok_or_else(broken)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(broken)?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A 32-bit number, or the length in bytes of an array.
    pub(super) fn number(&mut self) -> io::Result<u32> {
        self.align(4)?;
        self.take(4)?.try_into().map(u32::from_le_bytes).map_err(|_| broken())
    }

    /// A string or an object's path.
    pub(super) fn string(&mut self) -> io::Result<&'b str> {
        let length = self.number()? as usize;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| broken())?;
        self.take(1)?;
        Ok(text)
    }

    /// A signature, such as the one that begins a variant.
    pub(super) fn signature(&mut self) -> io::Result<&'b [u8]> {
        let length = usize::from(self.byte()?);
        let signature = self.take(length)?;
        self.take(1)?;
        Ok(signature)
    }

    /// The string in a variant that holds one.
    pub(super) fn variant_string(&mut self) -> io::Result<&'b str> {
        if self.signature()? != b"s" {
            return Err(broken());
        }
        self.string()
    }
}

/// Any bytes taken for a message: for the fuzz target.
#[doc(hidden)]
pub fn try_message(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return };
    let Ok(lengths) = Lengths::of(head) else { return };
    let _ = rest.get(..lengths.fields).map(Header::of);
    let _ = super::units::parse_units(rest.get(lengths.fields_padded..).unwrap_or_default(), |_| {});
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// A real bus: it knows its own names, and says what it does not know.
    #[test]
    fn a_real_bus_answers() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let address = format!("--address=unix:path={}", socket.display());
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--nopidfile", &address]).stderr(Stdio::null());
        let Ok(mut daemon) = command.spawn() else {
            eprintln!("dbus-daemon is not installed: not tried");
            return;
        };
        let mut connection = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            Connection::to_bus(&socket).ok()
        });
        let bus = "org.freedesktop.DBus";
        let call = |member: &'static str, arguments: &'static [&'static str]| Call {
            destination: bus,
            path: "/org/freedesktop/DBus",
            interface: bus,
            member,
            arguments,
        };
        let outcome = connection.as_mut().map(|connection| {
            let names = connection.call(&call("ListNames", &[]));
            let id = connection.call(&call("GetNameOwner", &["org.freedesktop.DBus"]));
            let nonsense = connection.call(&call("NoSuchMethod", &[]));
            (names, id, nonsense)
        });
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let (names, id, nonsense) = outcome.expect("the bus does not answer");
        let names = names.unwrap();
        let mut values = Values::new(&names);
        values.number().unwrap();
        let mut found = Vec::new();
        while !values.is_at_end() {
            found.push(values.string().unwrap());
        }
        assert!(found.contains(&bus) && found.len() == 2, "{found:?}");
        assert_eq!(Values::new(&id.unwrap()).string().unwrap(), bus);
        assert!(nonsense.unwrap_err().to_string().contains("org.freedesktop.DBus.Error.UnknownMethod"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            try_message(&bytes);
            let mut head = [b'l', METHOD_RETURN, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].to_vec();
            head.extend(&bytes);
            try_message(&head);
        }
    }
}
