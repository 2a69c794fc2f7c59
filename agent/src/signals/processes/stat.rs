//! The files of one process: stat, io, the number of its descriptors, its command line and its control group.
//!
//! Paths are relative to an open /proc and built without allocation. A process that ended meanwhile is `None`.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::super::parse;

/// Most bytes read of a process's stat: what is taken stands well before.
pub(super) const STAT_BYTES: usize = 512;
/// Most bytes read of a command line or a control group.
pub(super) const TEXT_BYTES: usize = 4096;
/// Most descriptors of a process that are counted one by one.
const DESCRIPTORS_MAX: u32 = 100_000;
/// Bytes of a listing read at a time.
const LISTING_BYTES: usize = 4 * 1024;

/// What is taken of a stat file.
#[derive(Debug, PartialEq)]
pub(super) struct Stat<'b> {
    pub(super) name: &'b [u8],
    /// `R`, `S`, `D`, `Z` and others of proc(5).
    pub(super) state: u8,
    pub(super) cpu_ticks: u64,
    pub(super) threads: u32,
    pub(super) start_ticks: u64,
    pub(super) memory_pages: u64,
}

/// The text of a file of a process; `None` if the process ended.
pub(super) fn read<'b>(dir: &OwnedFd, pid: u32, file: &str, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
    let mut path = [0; PATH_BYTES];
    let path = path_of(pid, file, &mut path);
    let ended = |error| if matches!(error, Errno::NOENT | Errno::SRCH) { Ok(None) } else { Err(error) };
    let file = match rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(error) => return ended(error),
    };
    match rustix::io::read(&file, &mut *buffer) {
        Ok(read) => Ok(Some(&buffer[..read])),
        Err(error) => ended(error),
    }
}

/// `1234 (name) S 1 …`: the name may hold anything, brackets and blanks too, so that the last bracket ends it.
pub(super) fn parse_stat(text: &[u8]) -> Option<Stat<'_>> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
    // The words after the name; the state is field 3 of proc(5), and so here the nought-th.
    let mut words = parse::words(&text[close + 1..]).enumerate();
    let mut field = |number: usize| words.find(|(at, _)| at + 3 == number).map(|(_, word)| word);
    let state = *field(3)?.first()?;
    let mut number = |at: usize| parse::whole(field(at)?);
    let cpu_ticks = number(14)?.checked_add(number(15)?)?;
    Some(Stat {
        name: &text[open + 1..close],
        state,
        cpu_ticks,
        threads: u32::try_from(number(20)?).ok()?,
        start_ticks: number(22)?,
        memory_pages: number(24)?,
    })
}

/// Bytes that a process had read from disks and written to them; `None` if it may not be known.
pub(super) fn io_bytes(dir: &OwnedFd, pid: u32) -> Option<u64> {
    let mut buffer = [0; STAT_BYTES];
    parse_io(read(dir, pid, "io", &mut buffer).ok().flatten()?)
}

fn parse_io(text: &[u8]) -> Option<u64> {
    let value = |key: &[u8]| parse::lines(text).find_map(|line| line.strip_prefix(key)).map(parse::trim);
    parse::whole(value(b"read_bytes:")?)?.checked_add(parse::whole(value(b"write_bytes:")?)?)
}

/// How many descriptors a process has; `None` if it may not be known.
pub(super) fn open_files(dir: &OwnedFd, pid: u32) -> Option<u32> {
    let mut path = [0; PATH_BYTES];
    let path = path_of(pid, "fd", &mut path);
    // Linux 6.2 and later say it as the directory's size, which costs one call.
    let size = rustix::fs::statat(dir, path, AtFlags::empty()).ok()?.st_size;
    if size > 0 {
        return u32::try_from(size).ok();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(dir, path, flags, Mode::empty()).ok()?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); LISTING_BYTES];
    let mut listing = RawDir::new(&listed, &mut buffer);
    let mut count = 0;
    while let Some(entry) = listing.next() {
        count += u32::from(!entry.ok()?.file_name().to_bytes().starts_with(b"."));
        if count >= DESCRIPTORS_MAX {
            break;
        }
    }
    Some(count)
}

const PATH_BYTES: usize = 32;

/// `1234/stat` with its closing nought.
fn path_of<'p>(pid: u32, file: &str, path: &'p mut [u8; PATH_BYTES]) -> &'p CStr {
    use std::io::Write as _;
    let mut rest = &mut path[..];
    // A name that does not fit is none of a process, and an empty path is found nowhere.
    if write!(rest, "{pid}/{file}\0").is_err() {
        return c"";
    }
    CStr::from_bytes_until_nul(path).unwrap_or(c"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proc() -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/proc", flags, Mode::empty()).unwrap()
    }

    #[test]
    fn pids_become_paths() {
        for pid in [0, 7, 42, 4_194_304, u32::MAX] {
            let mut buffer = [0; PATH_BYTES];
            assert_eq!(path_of(pid, "stat", &mut buffer).to_str().unwrap(), format!("{pid}/stat"));
        }
        assert_eq!(path_of(1, &"x".repeat(99), &mut [0; PATH_BYTES]), c"");
    }

    #[test]
    fn this_very_process_is_read() {
        let (dir, pid) = (proc(), std::process::id());
        let mut buffer = [0; STAT_BYTES];
        let stat = parse_stat(read(&dir, pid, "stat", &mut buffer).unwrap().unwrap()).unwrap();
        assert!(stat.threads >= 1 && stat.memory_pages > 0 && b"RS".contains(&stat.state));
        let files: Vec<_> = (0..300).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let open = open_files(&dir, pid).unwrap();
        assert!(open >= 300, "{open}");
        drop(files);
        assert!(io_bytes(&dir, pid).is_some(), "its own");
        assert_eq!(read(&dir, u32::MAX, "stat", &mut buffer), Ok(None));
        assert_eq!(open_files(&dir, u32::MAX), None);
    }

    #[test]
    fn io_is_what_reached_the_disks() {
        let text =
            b"rchar: 9\nwchar: 8\nsyscr: 7\nsyscw: 6\nread_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 1\n";
        assert_eq!(parse_io(text), Some(4608));
        assert_eq!(parse_io(b"read_bytes: 1\nwrite_bytes: x\n"), None);
        assert_eq!(parse_io(b"read_bytes: 18446744073709551615\nwrite_bytes: 1\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..STAT_BYTES)) {
            let _ = (parse_stat(&bytes), parse_io(&bytes));
        }

        #[test]
        fn any_name_is_told_from_the_numbers(name in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = [b"1 (", &name[..], b") S 1 7 7 0 -1 0 1 2 3 4 30 12 0 0 20 0 3 0 99 4096 55 0"].concat();
            let expected =
                Stat { name: &name, state: b'S', cpu_ticks: 42, threads: 3, start_ticks: 99, memory_pages: 55 };
            prop_assert_eq!(parse_stat(&text), Some(expected));
        }
    }
}
