//! What a backup consists of: the list of its files with their hashes, and whether they are still what was written.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{BackupError, CHUNK_BYTES, HISTORY, STATE_DUMP, at};
use crate::authority;
use crate::listen::keys;
use crate::meter::Meter;

/// The file's name.
const FILE: &str = "manifest.json";
/// Where a backup's files are, by the hash of what is in them.
pub(super) const FILES_DIR: &str = "files";
/// The format that this program writes, and the latest that it reads.
const FORMAT: u32 = 1;
/// Largest manifest that is read, in bytes: some million files.
const FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// The list of a backup's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// When its snapshot was made, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// The version of the program that wrote it.
    pub version: String,
    /// Its files.
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it belongs under the data directory.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes in hexadecimal digits: its name in the backup.
    pub sha256: String,
}

/// Why a directory is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It cannot be read.
    #[error("cannot read {path}: is this a backup that was finished?")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not the text that was written.
    #[error("the manifest is damaged ({0}): use another backup")]
    Damaged(String),
    /// A later version's.
    #[error(
        "the backup has format {found}, this program knows up to {FORMAT}: use the version that wrote it, or newer"
    )]
    Newer {
        /// Its format.
        found: u64,
    },
}

/// What reading every byte of a backup found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are not what was written, by where they belong, with what is wrong.
    pub damaged: Vec<(PathBuf, String)>,
}

impl Manifest {
    pub(super) fn new(created_ms: i64, files: Vec<Entry>) -> Self {
        Self { format: FORMAT, created_ms, version: env!("CARGO_PKG_VERSION").to_owned(), files }
    }

    /// The manifest of the backup in `dir`.
    ///
    /// # Errors
    /// [`ManifestError`]
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(FILE);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(FILE_MAX_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| ManifestError::Read { path: path.clone(), source })?;
        parse(&bytes)
    }

    /// Puts it in the place of an earlier one, durably.
    pub(super) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other).map_err(at("write", &dir.join(FILE)))?;
        authority::save_private(dir, FILE, &text).map_err(at("write", &dir.join(FILE)))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }
}

impl Entry {
    /// Where its bytes are in the backup.
    pub(super) fn stored(&self, backup: &Path) -> PathBuf {
        backup.join(FILES_DIR).join(&self.sha256)
    }

    /// Whether history goes on without it.
    pub(super) fn is_dispensable(&self) -> bool {
        self.path.starts_with(HISTORY)
    }
}

/// A manifest's text.
///
/// # Errors
/// Not one, one of a later version, or one that names files where a backup has none.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let damaged = |what: String| ManifestError::Damaged(what);
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    match value["format"].as_u64() {
        Some(found) if found > u64::from(FORMAT) => return Err(ManifestError::Newer { found }),
        Some(1..) => {}
        _ => return Err(damaged("it has no format number".to_owned())),
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    let mut paths = BTreeSet::new();
    for entry in &manifest.files {
        if !is_allowed(&entry.path) || !paths.insert(&entry.path) {
            return Err(damaged(format!("{:?} is no file of a backup, or there twice", entry.path)));
        }
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if entry.sha256.len() != 64 || !entry.sha256.bytes().all(is_hex) {
            return Err(damaged(format!("{:?} has no hash", entry.path)));
        }
    }
    for needed in [authority::FILE, STATE_DUMP] {
        if !paths.contains(&PathBuf::from(needed)) {
            return Err(damaged(format!("{needed} is not in it")));
        }
    }
    Ok(manifest)
}

/// A manifest may come from anywhere: it names nothing outside the data directory, and nothing else in it.
fn is_allowed(path: &Path) -> bool {
    let mut parts = path.components();
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    let first = parts.next().and_then(|part| part.as_os_str().to_str());
    let alone = parts.next().is_none();
    normal
        && match first {
            Some(HISTORY) => !alone,
            Some(authority::FILE | keys::FILE | STATE_DUMP) => alone,
            _ => false,
        }
}

/// Reads every byte of a backup.
///
/// # Errors
/// The manifest cannot be used.
pub fn check(dir: &Path, manifest: &Manifest, meter: &mut Meter) -> Checked {
    let mut checked = Checked::default();
    let total = manifest.bytes();
    for entry in &manifest.files {
        let path = entry.stored(dir);
        let before = checked.bytes;
        let hashed = hash(&path, |bytes| meter.show(before + bytes, total));
        let wrong = match hashed {
            Ok((bytes, sha256)) if bytes == entry.bytes && sha256 == entry.sha256 => None,
            Ok((bytes, _)) if bytes != entry.bytes => Some(format!("{bytes} bytes, not {}", entry.bytes)),
            Ok(_) => Some("its bytes are not what was written".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some("it is missing".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        checked.files += 1;
        checked.bytes += entry.bytes;
        checked.damaged.extend(wrong.map(|wrong| (entry.path.clone(), wrong)));
    }
    checked
}

/// Length and SHA-256 of a file.
fn hash(path: &Path, mut progress: impl FnMut(u64)) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, to_hex(context.finish().as_ref())));
        }
        context.update(&chunk[..read]);
        bytes += read as u64;
        progress(bytes);
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes files of the backup that no manifest needs any more.
pub(super) fn prune(dir: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let needed: BTreeSet<&str> = manifest.files.iter().map(|entry| &*entry.sha256).collect();
    let files = dir.join(FILES_DIR);
    for found in fs::read_dir(&files).map_err(at("list", &files))? {
        let found = found.map_err(at("list", &files))?;
        if !found.file_name().to_str().is_some_and(|name| needed.contains(name)) {
            fs::remove_file(found.path()).map_err(at("remove", &found.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, format: u32) -> String {
        let entry = |path: &str| format!(r#"{{"path":{path:?},"bytes":1,"sha256":"{}"}}"#, "ab".repeat(32));
        let files = [entry("authority.pem"), entry("state.dump"), entry(path)].join(",");
        format!(r#"{{"format":{format},"created_ms":5,"version":"0.1.0","files":[{files}]}}"#)
    }

    #[test]
    fn a_manifest_names_only_files_of_a_collector() {
        assert_eq!(parse(text("history/wal/00000001.wal", 1).as_bytes()).unwrap().files.len(), 3);
        for path in
            ["/etc/passwd", "../x", "history", "history/../../x", "cli.json", "state.dump", "endpoint.key/x", ""]
        {
            assert!(matches!(parse(text(path, 1).as_bytes()), Err(ManifestError::Damaged(_))), "{path}");
        }
    }

    #[test]
    fn a_newer_manifest_is_refused_as_such_and_a_cut_one_as_damaged() {
        let good = text("endpoint.key", 1);
        assert!(matches!(parse(text("endpoint.key", 2).as_bytes()), Err(ManifestError::Newer { found: 2 })));
        assert!(matches!(parse(text("endpoint.key", 0).as_bytes()), Err(ManifestError::Damaged(_))));
        for len in 0..good.len() {
            assert!(matches!(parse(&good.as_bytes()[..len]), Err(ManifestError::Damaged(_))), "{len}");
        }
    }
}
