//! From a snapshot to a backup. A file is kept under the hash of its bytes, so that a new backup never touches what the
//! manifest of the one before names; when the new manifest is durable, what only the old one needed goes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pitwatch_disk::RealDisk;
use pitwatch_history::History;

use super::manifest::{Entry, FILES_DIR, Manifest, ManifestError, prune, to_hex};
use super::snapshot::{self, Kind, Listed};
use super::{BackupError, CHUNK_BYTES, HISTORY, at};
use crate::access::{LOCAL_FILE, LocalFile};
use crate::clock::unix_ms;
use crate::config::Config;
use crate::meter::Meter;
use crate::run;
use crate::state::{self, StateError};

/// Bytes at the end of an immutable file that are compared with the backup's: every format ends with its checksums.
const TAIL_BYTES: u64 = 4096;
/// A running collector makes a snapshot within this.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(60);
/// The name of a file while it is copied.
const NEW: &str = "new";

/// What a backup came to.
#[derive(Debug, Default)]
pub struct Copied {
    /// Files of the backup.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were copied this time; the others were there.
    pub copied_files: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// Backs the collector of `config` up into `to`, whether it runs or not.
///
/// # Errors
/// [`BackupError`]; an earlier backup in `to` stays as it is.
pub async fn backup(config: &Config, to: &Path, meter: &mut Meter) -> Result<Copied, BackupError> {
    let data_dir = &config.data_dir;
    let files_dir = to.join(FILES_DIR);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&files_dir).map_err(at("make the directory", &files_dir))?;
    let _lock = lock(to)?;
    let mut copied = Copied::default();
    let before = match Manifest::read(to) {
        Ok(manifest) => Some(manifest),
        Err(ManifestError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(ManifestError::Damaged(what)) => {
            copied.warnings.push(format!("the manifest that was there is damaged ({what}): everything is copied anew"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let created_ms = unix_ms();
    // Held until the end: nobody starts a collector under an offline backup.
    let _state = take_snapshot(config).await?;
    let listed = snapshot::list(data_dir)?;
    let total = listed.iter().map(|file| file.bytes).sum();
    let mut copier = Copier { from: data_dir.join(snapshot::DIR), to, known: known(before.as_ref()), meter, total };
    let mut files = Vec::with_capacity(listed.len());
    for file in &listed {
        files.push(copier.file(file, &mut copied)?);
    }
    sync_dir(&files_dir)?;
    let manifest = Manifest::new(created_ms, files);
    manifest.write(to)?;
    prune(to, &manifest)?;
    snapshot::remove(data_dir).map_err(at("remove the snapshot in", data_dir))?;
    Ok(copied)
}

/// Has a snapshot made: by the collector that runs, or here if none does; then its state store stays locked as long as
/// what is returned lives.
async fn take_snapshot(config: &Config) -> Result<Option<Arc<dyn state::State>>, BackupError> {
    let data_dir = &config.data_dir;
    if !data_dir.join(crate::authority::FILE).exists() {
        let none = io::Error::new(io::ErrorKind::NotFound, "there is no collector's data");
        return Err(at("back up", data_dir)(none));
    }
    match state::open(config.state, &data_dir.join("state")) {
        Ok(state) => {
            let (_history, mut appender, _) =
                History::open(Arc::new(RealDisk), &data_dir.join(HISTORY), run::history_config(config))?;
            let link =
                |to: &Path| appender.snapshot(to).map_err(|error| BackupError::Snapshot(crate::error_chain(&error)));
            snapshot::make(data_dir, &*state, link)?;
            Ok(Some(state))
        }
        Err(StateError::InUse { .. }) => ask(data_dir).await.map(|()| None),
        Err(error) => Err(error.into()),
    }
}

/// Asks the collector that runs on `data_dir`, as its local administrator.
async fn ask(data_dir: &Path) -> Result<(), BackupError> {
    let path = data_dir.join(LOCAL_FILE);
    let text = fs::read(&path).map_err(at("read", &path))?;
    let local: LocalFile = serde_json::from_slice(&text).map_err(io::Error::other).map_err(at("read", &path))?;
    let failed = |error: reqwest::Error| BackupError::Snapshot(crate::error_chain(&error));
    let mut client = reqwest::Client::builder().timeout(SNAPSHOT_PATIENCE).no_proxy();
    let mut url = reqwest::Url::parse(&local.url).map_err(io::Error::other).map_err(at("read", &path))?;
    url.set_path("/api/v1/pitwatch/snapshot");
    if let Some(tls) = &local.tls {
        let addresses = url.socket_addrs(|| None).map_err(at("read", &path))?;
        let authority = reqwest::Certificate::from_pem_bundle(tls.authority.as_bytes()).map_err(failed)?;
        client = client.tls_certs_only(authority).resolve_to_addrs(&tls.name, &addresses);
        url.set_host(Some(&tls.name)).map_err(io::Error::other).map_err(at("read", &path))?;
    }
    let request = client.build().map_err(failed)?.post(url).bearer_auth(local.token);
    let answer = request.send().await.map_err(failed)?;
    let good = answer.status().is_success();
    let text = answer.text().await.map_err(failed)?;
    if good {
        return Ok(());
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Err(BackupError::Snapshot(value["error"].as_str().unwrap_or(&text).to_owned()))
}

fn known(before: Option<&Manifest>) -> BTreeMap<&Path, &Entry> {
    before.iter().flat_map(|manifest| &manifest.files).map(|entry| (&*entry.path, entry)).collect()
}

struct Copier<'a> {
    from: PathBuf,
    to: &'a Path,
    /// What the backup has already.
    known: BTreeMap<&'a Path, &'a Entry>,
    meter: &'a mut Meter,
    total: u64,
}

impl Copier<'_> {
    fn file(&mut self, file: &Listed, copied: &mut Copied) -> Result<Entry, BackupError> {
        let path = self.from.join(&file.path);
        copied.files += 1;
        if let Some(known) = self.known.get(&*file.path)
            && self.is_kept(file, known).map_err(at("read", &path))?
        {
            if file.kind == Kind::Unopened {
                let name = file.path.display();
                copied.warnings.push(format!(
                    "{name} is not open here, damaged or being replaced: the backup keeps the copy that it has"
                ));
            }
            copied.bytes += known.bytes;
            self.meter.show(copied.bytes, self.total);
            return Ok((*known).clone());
        }
        let entry = self.copy(&path, file, copied.bytes)?;
        copied.bytes += file.bytes;
        copied.copied_files += 1;
        copied.copied_bytes += file.bytes;
        Ok(entry)
    }

    /// Whether the backup's copy stands for the file. Names of immutable files are only given anew by a store that
    /// was restored or begun again, and then the checksums at their ends differ.
    fn is_kept(&self, file: &Listed, known: &Entry) -> io::Result<bool> {
        let stored = known.stored(self.to);
        let Ok(metadata) = fs::metadata(&stored) else { return Ok(false) };
        if file.kind == Kind::Changing || metadata.len() != known.bytes {
            return Ok(false);
        }
        if file.kind == Kind::Unopened {
            return Ok(true);
        }
        let tail = |path: &Path, len: u64| -> io::Result<Vec<u8>> {
            let from = len.saturating_sub(TAIL_BYTES);
            let mut bytes = vec![0; (len - from) as usize];
            File::open(path)?.read_exact_at(&mut bytes, from)?;
            Ok(bytes)
        };
        Ok(known.bytes == file.bytes && tail(&stored, known.bytes)? == tail(&self.from.join(&file.path), file.bytes)?)
    }

    fn copy(&mut self, path: &Path, file: &Listed, done: u64) -> Result<Entry, BackupError> {
        let new = self.to.join(FILES_DIR).join(NEW);
        let mut from = File::open(path).map_err(at("open", path))?.take(file.bytes);
        let options = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let mut to = options.map_err(at("create", &new))?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut bytes = 0;
        loop {
            let read = from.read(&mut chunk).map_err(at("read", path))?;
            if read == 0 {
                break;
            }
            context.update(&chunk[..read]);
            to.write_all(&chunk[..read]).map_err(at("write", &new))?;
            bytes += read as u64;
            self.meter.show(done + bytes, self.total);
        }
        if bytes != file.bytes {
            return Err(at("read", path)(io::ErrorKind::UnexpectedEof.into()));
        }
        to.sync_all().map_err(at("sync", &new))?;
        let entry = Entry { path: file.path.clone(), bytes, sha256: to_hex(context.finish().as_ref()) };
        fs::rename(&new, entry.stored(self.to)).map_err(at("rename", &new))?;
        Ok(entry)
    }
}

fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at("sync", dir))
}

/// One backup at a time: let go when the file is closed.
fn lock(to: &Path) -> Result<File, BackupError> {
    let path = to.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(BackupError::Busy(to.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(at("lock", &path)(error)),
    }
}
