//! What a host is, and what seldom changes: the kernel's name and release, the distribution.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::parse;
use super::source::{Pass, Source, SourceError};
use super::table::Handle;

/// Longest text taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;

/// What the kernel says of itself.
pub(super) static UNAME: [Metric; 1] =
    [Metric::gauge("node_uname_info", "", "uname(2)", "The kernel and the host's name; always 1.").by(&[
        "domainname",
        "machine",
        "nodename",
        "release",
        "sysname",
        "version",
    ])];

/// uname(2).
#[derive(Default)]
pub(super) struct Uname {
    texts: [String; 6],
    handle: Handle,
}

impl Source for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let uname = rustix::system::uname();
        let text = |field: &CStr| parse::text(field.to_bytes(), TEXT_MAX_BYTES);
        let texts = [
            text(uname.domainname()),
            text(uname.machine()),
            text(uname.nodename()),
            text(uname.release()),
            text(uname.sysname()),
            text(uname.version()),
        ];
        if texts != self.texts {
            // A host that was renamed is another series.
            self.texts = texts;
            self.handle = Handle::default();
        }
        let labels: Vec<_> = UNAME[0].labels.iter().copied().zip(self.texts.iter().map(String::as_str)).collect();
        pass.sink.set(&mut self.handle, &UNAME[0], &labels, Some(1.0));
        Ok(())
    }
}

/// What the distribution says of itself.
pub(super) static OS: [Metric; 2] = [
    Metric::gauge("node_os_info", "", "/etc/os-release", "The distribution; always 1.").by(&OS_LABELS),
    Metric::gauge("node_os_version", "", "/etc/os-release", "The distribution's version, major.minor.")
        .by(&["id", "id_like", "name"]),
];

const OS_LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];
const ID: usize = 1;
const ID_LIKE: usize = 2;
const NAME: usize = 5;
const VERSION_ID: usize = 11;

/// /etc/os-release, else /usr/lib/os-release.
pub(super) struct Os {
    paths: [PathBuf; 2],
    texts: [String; OS_LABELS.len()],
    info: Handle,
    version: Handle,
}

impl Os {
    pub(super) fn new(root: &Path) -> Self {
        let paths = ["etc/os-release", "usr/lib/os-release"].map(|path| root.join(path));
        Self { paths, texts: Default::default(), info: Handle::default(), version: Handle::default() }
    }
}

impl Source for Os {
    fn name(&self) -> &'static str {
        "os"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let Some(path) = self.paths.iter().find(|path| path.exists()) else { return Ok(()) };
        let Some(text) = pass.buffer.read_once(path)? else { return Ok(()) };
        let texts = texts_of(text);
        if texts.iter().all(String::is_empty) {
            return Err(SourceError::Malformed { path: path.clone() });
        }
        if texts != self.texts {
            self.texts = texts;
            self.info = Handle::default();
            self.version = Handle::default();
        }
        let texts = &self.texts;
        let labels: Vec<_> = OS_LABELS.into_iter().zip(texts.iter().map(String::as_str)).collect();
        pass.sink.set(&mut self.info, &OS[0], &labels, Some(1.0));
        if let Some(version) = parse::decimal(major_minor(&texts[VERSION_ID]).as_bytes()) {
            pass.sink.set(&mut self.version, &OS[1], &[labels[ID], labels[ID_LIKE], labels[NAME]], Some(version));
        }
        Ok(())
    }
}

/// The first two numbers of `1.2.3`.
fn major_minor(version: &str) -> &str {
    let second_dot = version.match_indices('.').nth(1);
    second_dot.map_or(version, |(at, _)| &version[..at])
}

/// The values of `NAME="Debian GNU/Linux"` lines, by [`OS_LABELS`].
fn texts_of(text: &[u8]) -> [String; OS_LABELS.len()] {
    let mut texts: [String; OS_LABELS.len()] = Default::default();
    for line in parse::lines(text) {
        let Some((key, value)) = parse::split_at_byte(parse::trim(line), b'=') else { continue };
        let place = OS_LABELS.iter().position(|label| key.eq_ignore_ascii_case(label.as_bytes()));
        if let Some(place) = place {
            texts[place] = parse::text(unquoted(value), TEXT_MAX_BYTES);
        }
    }
    texts
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        bare => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn the_kernel_names_itself() {
        let mut bench = Bench::new(|_| Box::new(Uname::default()));
        assert_eq!(bench.tick(), Ok(0));
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(bench.len(), 1);
        assert!(bench.names()[0].contains(&format!("release=\"{}\"", release.trim())));
    }

    #[test]
    fn the_distribution_names_itself() {
        let mut bench = Bench::new(|root| Box::new(Os::new(root)));
        assert_eq!(bench.tick(), Ok(0));
        bench.file("etc/os-release", b"# c\nID=ubuntu\nID_LIKE=debian\nNAME='Ubuntu'\nVERSION_ID=\"22.04.3\"\nURL=x\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(
            bench.names(),
            [
                "node_os_info{id=\"ubuntu\",id_like=\"debian\",name=\"Ubuntu\",version_id=\"22.04.3\"}",
                "node_os_version{id=\"ubuntu\",id_like=\"debian\",name=\"Ubuntu\"}"
            ]
        );
        assert_eq!(bench.value(&bench.names()[1]), Some(22.04));
        bench.file("etc/os-release", b"\xff\xff");
        assert_eq!(bench.tick(), Err("etc/os-release holds nothing of what it should".to_owned()));
    }

    #[test]
    fn mutated_files_are_survived() {
        let real = b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";
        survives_mutation("etc/os-release", real, |root| Box::new(Os::new(root)));
    }
}
