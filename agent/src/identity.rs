//! The agent's identity on disk: one file with the key, the certificate, its authority and how they came to be.
//!
//! One file, replaced by a rename, so that key and certificate always belong together. It begins with lines of TOML
//! for people and for [`Identity::renew_at_secs`], then PEM blocks that any TLS tool reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pitwatch_shared::control::Issued;
use pitwatch_shared::identity::tls::Credentials;
use pitwatch_shared::identity::{AgentName, Fingerprint};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// The file's name in the agent's data directory.
pub const FILE: &str = "identity.pem";
const FILE_MAX_BYTES: u64 = 64 * 1024;
const KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// An enrolled agent's key and certificate.
#[derive(Debug)]
pub struct Identity {
    head: Head,
    key: Vec<u8>,
    certificate: Vec<u8>,
    authority: Vec<u8>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    collector: String,
    not_before_secs: i64,
    not_after_secs: i64,
}

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No file: the agent was never enrolled here.
    #[error(
        "this host is not enrolled: {path} does not exist\n  on the collector:  pitwatch token create\n  \
         here:              pitwatch-agent enroll --collector HOST:4717 --token TOKEN"
    )]
    NotEnrolled {
        /// Where the file should be.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("identity file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("identity file {path} is damaged ({what}): move it away and enrol again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
}

/// A new key and the request to have it signed. The key never leaves the host.
#[derive(Debug)]
pub struct Request {
    key: KeyPair,
    /// A PKCS#10 request in DER.
    pub csr: Vec<u8>,
}

impl Request {
    /// Makes a P-256 key and a request for it.
    ///
    /// # Errors
    /// The cryptography's.
    pub fn new() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { key, csr })
    }

    /// The identity made of this key and what the collector issued for it.
    #[must_use]
    pub fn granted(self, name: &AgentName, collector: &str, issued: Issued) -> Identity {
        Identity {
            head: Head {
                name: name.to_string(),
                collector: collector.to_owned(),
                not_before_secs: issued.not_before_secs,
                not_after_secs: issued.not_after_secs,
            },
            key: self.key.serialize_der(),
            certificate: issued.certificate,
            authority: issued.authority,
        }
    }
}

impl Identity {
    /// Reads the identity in `dir`.
    ///
    /// # Errors
    /// No file, an unreadable or a damaged one.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(FILE);
        let read = || -> io::Result<String> {
            if fs::metadata(&path)?.len() > FILE_MAX_BYTES {
                return Err(io::Error::other("too large"));
            }
            fs::read_to_string(&path)
        };
        let text = match read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::NotEnrolled { path }),
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        Self::parse(&text).map_err(|what| IdentityError::Damaged { path, what })
    }

    /// Writes the identity into `dir`, replacing another durably; readable by the owner only.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join(FILE);
        let write = || -> io::Result<()> {
            fs::create_dir_all(dir)?;
            let new = dir.join("identity.pem.new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|source| IdentityError::Io { path: path.clone(), source })
    }

    /// The agent's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The address that the agent enrolled at.
    #[must_use]
    pub fn collector(&self) -> &str {
        &self.head.collector
    }

    /// The certificate's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The authority that the collector must be of.
    #[must_use]
    pub fn authority(&self) -> CertificateDer<'static> {
        self.authority.clone().into()
    }

    /// Seconds since the Unix epoch from which a new certificate is asked for: at two thirds of this one's life.
    #[must_use]
    pub fn renew_at_secs(&self) -> i64 {
        let life = self.head.not_after_secs.saturating_sub(self.head.not_before_secs);
        self.head.not_before_secs.saturating_add(life / 3 * 2)
    }

    /// The key and the chain to present.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials {
            chain: vec![self.certificate.clone().into()],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone())),
        }
    }

    /// The name as checked when it was enrolled.
    ///
    /// # Errors
    /// A file that was edited by hand.
    pub fn agent_name(&self) -> Result<AgentName, IdentityError> {
        self.name().parse().map_err(|error: pitwatch_shared::identity::AgentNameError| IdentityError::Damaged {
            path: PathBuf::from(FILE),
            what: error.to_string(),
        })
    }

    fn text(&self) -> String {
        let block = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
        let Head { name, collector, not_before_secs, not_after_secs } = &self.head;
        format!(
            "name = {name:?}\ncollector = {collector:?}\nnot_before_secs = {not_before_secs}\n\
             not_after_secs = {not_after_secs}\n\n{}{}{}",
            block(KEY, &self.key),
            block(CERTIFICATE, &self.certificate),
            block(CERTIFICATE, &self.authority),
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let at = text.find("-----BEGIN").ok_or("no PEM block")?;
        let head = toml::from_str(&text[..at]).map_err(|error| error.message().to_owned())?;
        let mut blocks = pem::parse_many(&text[at..]).map_err(|error| error.to_string())?.into_iter();
        let mut next = |tag: &str| {
            let block = blocks.next().filter(|block| block.tag() == tag);
            block.map(pem::Pem::into_contents).ok_or(format!("a block {tag:?} is missing"))
        };
        Ok(Self { head, key: next(KEY)?, certificate: next(CERTIFICATE)?, authority: next(CERTIFICATE)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let issued =
            Issued { certificate: vec![1; 40], authority: vec![2; 50], not_before_secs: 1000, not_after_secs: 4000 };
        Request::new().unwrap().granted(&"db-1".parse().unwrap(), "watch:4717", issued)
    }

    #[test]
    fn an_identity_survives_the_file_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        identity().save(dir.path()).unwrap();
        let back = Identity::load(dir.path()).unwrap();
        assert_eq!((back.name(), back.collector(), back.renew_at_secs()), ("db-1", "watch:4717", 3000));
        assert_eq!(back.fingerprint(), Fingerprint::of(&[1; 40]));
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_missing_or_damaged_file_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Identity::load(dir.path()).unwrap_err().to_string().contains("pitwatch token create"));
        identity().save(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        for cut in [0, 10, text.len() / 2, text.len() - 40] {
            fs::write(&path, &text[..cut]).unwrap();
            assert!(Identity::load(dir.path()).unwrap_err().to_string().contains("enrol again"), "cut at {cut}");
        }
    }
}
