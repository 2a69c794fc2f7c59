//! Filesystems that turn read-only: the options of their superblocks, as mountinfo gives them.
//!
//! Not the options of a mount: a service may see every mount read-only by its own sandbox, and a bind mount may be so by
//! intent. The kernel sets the superblock's when it gives up writing (`errors=remount-ro`).

use std::collections::BTreeMap;

use super::{EventKind, Happening};

/// Most filesystems watched.
const FILESYSTEMS_MAX: usize = 4096;

/// What was last seen.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// By device number: whether it is read-only.
    readonly: BTreeMap<String, bool>,
}

/// A line of mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    device: &'a str,
    mountpoint: String,
    kind: &'a str,
    source: String,
    readonly: bool,
}

impl Mounts {
    /// Compares with what was seen before; what was not there before is only noted.
    pub(super) fn look(&mut self, mountinfo: &str, now_ms: i64, out: &mut Vec<Happening>) {
        let mut now = BTreeMap::new();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            if now.len() >= FILESYSTEMS_MAX || now.contains_key(mount.device) || !mount.source.starts_with('/') {
                continue;
            }
            if mount.readonly && self.readonly.get(mount.device) == Some(&false) {
                let summary = format!("{} turned read-only ({}, {})", mount.mountpoint, mount.kind, mount.source);
                let happening = Happening::new(EventKind::FilesystemReadonly, now_ms, summary)
                    .with("mountpoint", mount.mountpoint)
                    .with("device", mount.source)
                    .with("fstype", mount.kind);
                out.push(happening);
            }
            now.insert(mount.device.to_owned(), mount.readonly);
        }
        self.readonly = now;
    }
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (device, mountpoint) = (left.next()?, left.nth(1)?);
        let mut right = right.split(' ');
        let (kind, source, options) = (right.next()?, right.next()?, right.next()?);
        let readonly = options.split(',').any(|option| option == "ro");
        Some(Self { device, mountpoint: unescape(mountpoint), kind, source: unescape(source), readonly })
    }
}

/// Octal escapes of white space and backslashes.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RW: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      30 22 8:1 /b /mnt\\040b ro - ext4 /dev/sda1 rw\n\
                      40 22 8:17 / /data rw - xfs /dev/sdb1 rw,noquota\n\
                      41 22 0:5 / /run rw - tmpfs tmpfs rw\n";

    #[test]
    fn only_a_superblock_that_turns_is_told_once() {
        let (mut mounts, mut out) = (Mounts::default(), Vec::new());
        mounts.look(RW, 1, &mut out);
        let turned = RW.replace("xfs /dev/sdb1 rw", "xfs /dev/sdb1 ro").replace("tmpfs tmpfs rw", "tmpfs tmpfs ro");
        for now_ms in 2..4 {
            mounts.look(&turned, now_ms, &mut out);
        }
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].summary, "/data turned read-only (xfs, /dev/sdb1)");
        // Mounted read-only from the start.
        mounts.look("9 1 9:9 / /cd ro - iso9660 /dev/sr0 ro\n", 5, &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(Mount::parse(RW.lines().nth(1).unwrap()).unwrap().mountpoint, "/mnt b");
        assert_eq!(unescape("a\\134b\\9"), "a\\b\\9");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left(text in "(\\PC| - |,|\\\\[0-7]{0,3}|\n)*") {
            Mounts::default().look(&text, 0, &mut Vec::new());
        }
    }
}
