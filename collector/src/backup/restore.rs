//! From a backup to an empty data directory. Every byte of the backup is read before the first is written, and a
//! directory in which a restore did not come to its end is one that no collector starts in.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::dump::{self, parse};
use super::manifest::{self, Entry, Manifest};
use super::{BackupError, HISTORY, STATE_DUMP, at};
use crate::authority::save_private;
use crate::config::Config;
use crate::meter::Meter;
use crate::state;

/// The file in a data directory whose restore did not come to its end.
pub const UNFINISHED: &str = "restore.unfinished";

/// What was restored.
#[derive(Debug, Default)]
pub struct Restored {
    /// When the backup's snapshot was made, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damaged files of history that were left out.
    pub left_out: Vec<PathBuf>,
}

/// Restores the backup in `from` into the data directory of `config`, which must be empty or not there. With
/// `leave_out_damaged` it does without damaged files of history.
///
/// # Errors
/// [`BackupError`]
pub fn restore(
    from: &Path,
    config: &Config,
    leave_out_damaged: bool,
    meter: &mut Meter,
) -> Result<Restored, BackupError> {
    let manifest = Manifest::read(from)?;
    let data_dir = &config.data_dir;
    match fs::read_dir(data_dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(BackupError::NotEmpty(data_dir.clone())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("list", data_dir)(error)),
        _ => {}
    }
    meter.phase("checking");
    let damaged: Vec<PathBuf> =
        manifest::check(from, &manifest, meter).damaged.into_iter().map(|(path, _)| path).collect();
    let is_damaged = |entry: &&Entry| damaged.contains(&entry.path);
    let fatal = manifest.files.iter().filter(is_damaged).any(|entry| !(leave_out_damaged && entry.is_dispensable()));
    if fatal {
        return Err(BackupError::Damaged(damaged));
    }
    let dump_entry = manifest.files.iter().find(|entry| entry.path == Path::new(STATE_DUMP));
    let dump_path = dump_entry.map(|entry| entry.stored(from)).unwrap_or_default();
    let records = parse(&fs::read(&dump_path).map_err(at("read", &dump_path))?)?;

    meter.phase("restoring");
    make_dir(data_dir)?;
    save_private(data_dir, UNFINISHED, b"").map_err(at("write", &data_dir.join(UNFINISHED)))?;
    let mut restored = Restored { created_ms: manifest.created_ms, left_out: damaged.clone(), ..Restored::default() };
    let total = manifest.bytes();
    // A store is there even if it holds nothing.
    make_dir(&data_dir.join(HISTORY))?;
    for entry in manifest.files.iter().filter(|entry| !is_damaged(entry)) {
        if entry.path != Path::new(STATE_DUMP) {
            put(&entry.stored(from), &data_dir.join(&entry.path))?;
        }
        restored.files += 1;
        restored.bytes += entry.bytes;
        meter.show(restored.bytes, total);
    }
    let state_dir = data_dir.join("state");
    dump::load(records, &*state::open(config.state, &state_dir)?)?;
    own(data_dir, data_dir)?;
    let marker = data_dir.join(UNFINISHED);
    fs::remove_file(&marker).map_err(at("remove", &marker))?;
    sync(data_dir)?;
    Ok(restored)
}

fn put(from: &Path, to: &Path) -> Result<(), BackupError> {
    let dir = to.parent().unwrap_or(Path::new("/"));
    make_dir(dir)?;
    fs::copy(from, to).map_err(at("write", to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).map_err(at("set the mode of", to))?;
    sync(to)?;
    sync(dir)
}

fn make_dir(dir: &Path) -> Result<(), BackupError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at("make the directory", dir))?;
    sync(dir.parent().unwrap_or(Path::new("/")))
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at("sync", path))
}

/// Gives everything in `dir` to the owner of `data_dir`: who restores is often root, who serves is not.
fn own(dir: &Path, data_dir: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(data_dir).map_err(at("open", data_dir))?;
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let path = entry.map_err(at("list", dir))?.path();
        let found = fs::symlink_metadata(&path).map_err(at("open", &path))?;
        if (found.uid(), found.gid()) != (owner.uid(), owner.gid()) {
            chown(&path, Some(owner.uid()), Some(owner.gid())).map_err(at("change the owner of", &path))?;
        }
        if found.is_dir() {
            own(&path, data_dir)?;
        }
    }
    Ok(())
}
