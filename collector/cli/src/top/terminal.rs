//! The terminal of `pitwatch top`: another screen without echo, keys as they are pressed, and everything put back as it
//! was at the end, a panic's among them.

use std::io::{self, Write as _};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// The other screen without a cursor; back.
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// A frame is shown as a whole where the terminal can; each line is cleared behind its text.
const BEGIN_FRAME: &str = "\x1b[?2026h\x1b[H";
const END_LINE: &str = "\x1b[0m\x1b[K";
const END_FRAME: &str = "\x1b[J\x1b[?2026l";
/// Keys that may wait to be obeyed; a paste longer than that is read no faster.
const KEYS_MAX: usize = 64;
/// How long the rest of a key's sequence may take: an escape alone is the key itself.
const SEQUENCE_WAIT_MS: i64 = 40;
/// The size where the terminal does not say.
const SIZE: (usize, usize) = (80, 24);

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C or Ctrl-D.
    Interrupt,
}

/// The terminal while it is ours.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes the terminal, and reads its keys.
    pub(super) fn open() -> io::Result<(Self, mpsc::Receiver<Key>)> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let terminal = Self { before };
        write(OPEN)?;
        let (sender, receiver) = mpsc::channel(KEYS_MAX);
        thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&sender))?;
        Ok((terminal, receiver))
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok().map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(SIZE)
    }

    /// Shows these lines.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut frame = String::from(BEGIN_FRAME);
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            frame.push_str(END_LINE);
        }
        frame.push_str(END_FRAME);
        write(&frame)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that does not take it.
        let _ = write(CLOSE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Reads until nobody takes keys any more, or there is no input.
fn read_keys(keys: &mpsc::Sender<Key>) {
    let mut waiting: Vec<u8> = Vec::new();
    let mut bytes = [0; 256];
    loop {
        let Ok(count @ 1..) = rustix::io::read(io::stdin(), &mut bytes) else { return };
        waiting.extend_from_slice(bytes.get(..count).unwrap_or_default());
        while !waiting.is_empty() {
            let (key, used) = match parse(&waiting) {
                Parsed::Key(key, used) => (Some(key), used),
                Parsed::Unknown(used) => (None, used),
                // The rest of a sequence is on its way, or never comes.
                Parsed::Unfinished if more_comes() => break,
                Parsed::Unfinished => (Some(Key::Escape), waiting.len()),
            };
            waiting.drain(..used);
            if key.is_some_and(|key| keys.blocking_send(key).is_err()) {
                return;
            }
        }
    }
}

fn more_comes() -> bool {
    let wait = Timespec { tv_sec: 0, tv_nsec: SEQUENCE_WAIT_MS * 1_000_000 };
    let stdin = io::stdin();
    poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&wait)).is_ok_and(|ready| ready > 0)
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// A key, and how many bytes it was.
    Key(Key, usize),
    /// Something that is no key of ours.
    Unknown(usize),
    /// The beginning of something.
    Unfinished,
}

/// The first key of the bytes, of which there is at least one.
fn parse(bytes: &[u8]) -> Parsed {
    match bytes {
        [0x1b, b'[' | b'O', rest @ ..] => sequence(rest),
        [0x1b] => Parsed::Unfinished,
        [0x1b, ..] => Parsed::Key(Key::Escape, 1),
        [b'\r' | b'\n', ..] => Parsed::Key(Key::Enter, 1),
        [0x7f | 0x08, ..] => Parsed::Key(Key::Backspace, 1),
        [0x03 | 0x04, ..] => Parsed::Key(Key::Interrupt, 1),
        [0..0x20, ..] => Parsed::Unknown(1),
        _ => character(bytes),
    }
}

/// What follows ESC and a bracket: parameters, and a byte that ends it.
fn sequence(rest: &[u8]) -> Parsed {
    let Some(end) = rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) else { return Parsed::Unfinished };
    let key = match (&rest[..end], rest[end]) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => return Parsed::Unknown(end + 3),
    };
    Parsed::Key(key, end + 3)
}

fn character(bytes: &[u8]) -> Parsed {
    let length = match bytes.first() {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    let Some(one) = bytes.get(..length) else { return Parsed::Unfinished };
    let character = std::str::from_utf8(one).ok().and_then(|text| text.chars().next());
    character.map_or(Parsed::Unknown(1), |character| Parsed::Key(Key::Char(character), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_their_bytes() {
        for (bytes, parsed) in [
            (&b"q"[..], Parsed::Key(Key::Char('q'), 1)),
            ("é".as_bytes(), Parsed::Key(Key::Char('é'), 2)),
            (b"\x1b[A", Parsed::Key(Key::Up, 3)),
            (b"\x1bOB", Parsed::Key(Key::Down, 3)),
            (b"\x1b[6~x", Parsed::Key(Key::PageDown, 4)),
            (b"\x1b[1;5C", Parsed::Key(Key::Right, 6)),
            (b"\x1b[200~", Parsed::Unknown(6)),
            (b"\x1b", Parsed::Unfinished),
            (b"\x1b[5", Parsed::Unfinished),
            (b"\x1bx", Parsed::Key(Key::Escape, 1)),
            (b"\r", Parsed::Key(Key::Enter, 1)),
            (b"\x03", Parsed::Key(Key::Interrupt, 1)),
            (b"\x01", Parsed::Unknown(1)),
            (b"\xff\xff\xff\xff", Parsed::Unknown(1)),
            (b"\xe2\x82", Parsed::Unfinished),
        ] {
            assert_eq!(parse(bytes), parsed, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(0u8.., 1..64)) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                match parse(rest) {
                    Parsed::Key(_, used) | Parsed::Unknown(used) => {
                        assert!((1..=rest.len()).contains(&used));
                        rest = &rest[used..];
                    }
                    Parsed::Unfinished => break,
                }
            }
        }
    }
}
