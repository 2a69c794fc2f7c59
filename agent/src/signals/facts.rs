//! What a host is, and what seldom changes: the kernel's name and release, the distribution, SELinux, a pending reboot.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
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

/// What says that the host should be started anew.
pub(super) static REBOOT: [Metric; 1] = [Metric::gauge(
    "node_reboot_required",
    "",
    "/run/reboot-required, /lib/modules",
    "1 if an update waits for a reboot: the package manager says so, or the running kernel's modules are gone.",
)];

/// Whether a reboot is pending.
pub(super) struct Reboot {
    flag: PathBuf,
    modules: PathBuf,
    handle: Handle,
}

impl Reboot {
    pub(super) fn new(root: &Path) -> Self {
        Self { flag: root.join("run/reboot-required"), modules: root.join("lib/modules"), handle: Handle::default() }
    }
}

impl Source for Reboot {
    fn name(&self) -> &'static str {
        "reboot"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let uname = rustix::system::uname();
        let release = OsStr::from_bytes(uname.release().to_bytes());
        // A kernel without modules has no directory of its own, and where there is none at all nothing was removed.
        let others = std::fs::read_dir(&self.modules).is_ok_and(|mut kernels| kernels.next().is_some());
        let removed = others && !self.modules.join(release).exists();
        let required = self.flag.exists() || removed;
        pass.sink.set(&mut self.handle, &REBOOT[0], &[], Some(f64::from(u8::from(required))));
        Ok(())
    }
}

/// What SELinux says of itself.
pub(super) static SELINUX: [Metric; 3] = [
    Metric::gauge("node_selinux_enabled", "", "/sys/fs/selinux", "Whether SELinux is in the kernel and on."),
    Metric::gauge("node_selinux_current_mode", "", "/sys/fs/selinux", "1 if it enforces, 0 if it only reports."),
    Metric::gauge(
        "node_selinux_config_mode",
        "",
        "/etc/selinux/config",
        "The same as the next boot will have it; -1 if off.",
    ),
];

/// Whether SELinux is on.
pub(super) struct Selinux {
    enforce: PathBuf,
    config: PathBuf,
    handles: [Handle; SELINUX.len()],
}

impl Selinux {
    pub(super) fn new(sys_root: &Path, root: &Path) -> Self {
        let (enforce, config) = (sys_root.join("fs/selinux/enforce"), root.join("etc/selinux/config"));
        Self { enforce, config, handles: Default::default() }
    }
}

impl Source for Selinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let [enabled, mode, configured] = &mut self.handles;
        let text = pass.buffer.read_small(&self.enforce);
        pass.sink.set(enabled, &SELINUX[0], &[], Some(f64::from(u8::from(text.is_some()))));
        if let Some(text) = text {
            pass.sink.set(mode, &SELINUX[1], &[], parse::count(text));
            let text = pass.buffer.read_small(&self.config).unwrap_or_default();
            let line = parse::lines(text).find_map(|line| parse::trim(line).strip_prefix(b"SELINUX="));
            if let Some(word) = line {
                pass.sink.set(configured, &SELINUX[2], &[], configured_mode(parse::trim(word)));
            }
        }
        Ok(())
    }
}

fn configured_mode(word: &[u8]) -> Option<f64> {
    match word {
        b"enforcing" => Some(1.0),
        b"permissive" => Some(0.0),
        b"disabled" => Some(-1.0),
        _ => None,
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
    fn a_reboot_is_pending_when_the_package_manager_or_the_modules_say_so() {
        let mut bench = Bench::new(|root| Box::new(Reboot::new(root)));
        let required = |bench: &mut Bench| {
            bench.tick().unwrap();
            bench.value("node_reboot_required").unwrap()
        };
        assert_eq!(required(&mut bench), 0.0);
        bench.file("lib/modules/0.0.1-other/modules.dep", b"");
        assert_eq!(required(&mut bench), 1.0, "the running kernel's modules are not there");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        bench.file(&format!("lib/modules/{}/modules.dep", release.trim()), b"");
        assert_eq!(required(&mut bench), 0.0);
        bench.file("run/reboot-required", b"*** System restart required ***\n");
        assert_eq!(required(&mut bench), 1.0);
    }

    #[test]
    fn selinux_has_a_mode_only_where_it_is_on() {
        let mut bench = Bench::new(|root| Box::new(Selinux::new(root, root)));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!((bench.value("node_selinux_enabled"), bench.len()), (Some(0.0), 1));
        bench.file("fs/selinux/enforce", b"1");
        bench.file("etc/selinux/config", b"# SELINUX=disabled\nSELINUX=permissive\nSELINUXTYPE=targeted\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_selinux_current_mode"), Some(1.0));
        assert_eq!(bench.value("node_selinux_config_mode"), Some(0.0));
        bench.file("fs/selinux/enforce", b"maybe");
        bench.file("etc/selinux/config", b"SELINUX=off\n");
        assert_eq!(bench.tick(), Ok(2));
    }

    #[test]
    fn mutated_files_are_survived() {
        let real = b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";
        survives_mutation("etc/os-release", real, |root| Box::new(Os::new(root)));
    }
}
