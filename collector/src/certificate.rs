//! The certificates that HTTP over TLS is served with: the operator's own, read again when its files change, or one of
//! the collector's authority, made anew in time. Programs of this host always find one of the authority, under
//! [`COLLECTOR_NAME`], whatever the operator's says.
//!
//! Leaves connections to [`crate::api`], and what the configuration may say to [`crate::config`].

use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pitwatch_shared::identity::COLLECTOR_NAME;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tracing::{info, warn};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::agents::Agents;
use crate::authority::{AuthorityError, HTTP_LIFE_SECS};
use crate::clock::unix_ms;

/// Largest file of a certificate or a key, in bytes.
pub const FILE_MAX_BYTES: u64 = 256 * 1024;
/// Most certificates of a chain.
pub const CHAIN_MAX: usize = 10;
/// The files are looked at this often, seconds.
const LOOK_SECS: u64 = 2;
/// A certificate that ends within this is told of at the start, seconds.
const ENDS_SOON_SECS: i64 = 14 * 24 * 3600;

/// Where the certificate for people and programs comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Of the collector's own authority, for these names and addresses.
    Authority(Vec<String>),
    /// The operator's.
    Files(Files),
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why a certificate cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file has not in it what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificate and key are good, though not together.
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// None can be made.
    #[error("the authority makes no certificate for HTTP")]
    Make(#[from] AuthorityError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// A certificate with its key, and when it ends.
#[derive(Clone, Debug)]
struct Held {
    key: Arc<CertifiedKey>,
    not_after_secs: i64,
}

impl Files {
    /// Reads both and checks that they belong together; says when the certificate ends, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn check(&self) -> Result<i64, CertificateError> {
        Ok(self.load()?.not_after_secs)
    }

    fn load(&self) -> Result<Held, CertificateError> {
        let content = |path: &Path, what: String| CertificateError::Content { path: path.to_owned(), what };
        let text = read(&self.certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text).take(CHAIN_MAX + 1).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| content(&self.certificate, format!("no PEM: {error}")))?;
        let Some(first) = chain.first().filter(|_| chain.len() <= CHAIN_MAX) else {
            let what = format!("{} certificates in PEM; there must be 1 to {CHAIN_MAX}", chain.len());
            return Err(content(&self.certificate, what));
        };
        let not_after_secs = not_after_secs(first).map_err(|what| content(&self.certificate, what))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| content(&self.key, format!("no private key in PEM: {error}")))?;
        let pair = || CertificateError::Pair { certificate: self.certificate.clone(), key: self.key.clone() };
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => pair(),
            other => content(&self.key, other.to_string()),
        })?;
        Ok(Held { key: Arc::new(key), not_after_secs })
    }

    /// What changes when either file does.
    fn fingerprint(&self) -> Option<[(u64, i64, i64, u64); 2]> {
        let of = |about: &Metadata| (about.ino(), about.mtime(), about.mtime_nsec(), about.len());
        Some([of(&fs::metadata(&self.certificate).ok()?), of(&fs::metadata(&self.key).ok()?)])
    }
}

/// What is served at the moment.
#[derive(Debug)]
pub struct Served {
    agents: Arc<Agents>,
    origin: Origin,
    /// Of the authority: for programs of this host, and for everybody where there is no other.
    own: RwLock<Held>,
    /// The operator's.
    given: Option<RwLock<Held>>,
}

impl Served {
    /// Reads or makes what `origin` says.
    ///
    /// # Errors
    /// What is wrong with the files, or cryptography's.
    pub fn open(origin: Origin, agents: Arc<Agents>, now_secs: i64) -> Result<Arc<Self>, CertificateError> {
        let own = RwLock::new(make(&agents, &origin, now_secs)?);
        let given = match &origin {
            Origin::Authority(_) => None,
            Origin::Files(files) => Some(RwLock::new(told(files, files.load()?, now_secs))),
        };
        Ok(Arc::new(Self { agents, origin, own, given }))
    }

    /// How connections are served: TLS 1.3 and HTTP/1.1.
    ///
    /// # Errors
    /// The provider's.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// When the certificate that people see ends, in seconds since the Unix epoch.
    #[must_use]
    pub fn not_after_secs(&self) -> i64 {
        held(self.given.as_ref().unwrap_or(&self.own)).not_after_secs
    }

    /// Takes the operator's files anew when they change, and makes the own certificate anew in time, until `stop`.
    pub async fn watch(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let look = |this: Arc<Self>| tokio::task::spawn_blocking(move || this.fingerprint());
        let mut taken = look(self.clone()).await.ok().flatten();
        let mut before = taken;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(Duration::from_secs(LOOK_SECS)) => {}
            }
            let Ok(now) = look(self.clone()).await else { continue };
            // Certificate and key are two files: both are in place when a second look finds the same.
            let has_settled = now.is_some() && now != taken && now == before;
            before = now;
            if has_settled {
                taken = now;
            }
            let this = self.clone();
            let _ = tokio::task::spawn_blocking(move || this.refresh(has_settled, unix_ms() / 1000)).await;
        }
    }

    fn fingerprint(&self) -> Option<[(u64, i64, i64, u64); 2]> {
        match &self.origin {
            Origin::Authority(_) => None,
            Origin::Files(files) => files.fingerprint(),
        }
    }

    fn refresh(&self, have_files_changed: bool, now_secs: i64) {
        if held(&self.own).not_after_secs - now_secs < HTTP_LIFE_SECS / 3 {
            match make(&self.agents, &self.origin, now_secs) {
                Ok(made) => *self.own.write().unwrap_or_else(PoisonError::into_inner) = made,
                Err(error) => warn!("the certificate of HTTP is not renewed: {}", crate::error_chain(&error)),
            }
        }
        let (Origin::Files(files), Some(given)) = (&self.origin, &self.given) else { return };
        if !have_files_changed {
            return;
        }
        match files.load() {
            Ok(loaded) => {
                *given.write().unwrap_or_else(PoisonError::into_inner) = told(files, loaded, now_secs);
                info!("the certificate of HTTP was taken anew from {}", files.certificate.display());
            }
            Err(error) => {
                warn!("HTTP goes on with the certificate from before: {}", crate::error_chain(&error));
            }
        }
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wants_own = hello.server_name() == Some(COLLECTOR_NAME);
        let which = self.given.as_ref().filter(|_| !wants_own).unwrap_or(&self.own);
        Some(held(which).key)
    }
}

fn held(which: &RwLock<Held>) -> Held {
    which.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn make(agents: &Agents, origin: &Origin, now_secs: i64) -> Result<Held, CertificateError> {
    let names: &[String] = match origin {
        Origin::Authority(names) => names,
        Origin::Files(_) => &[],
    };
    let made = agents.authority().http_credentials(names, now_secs)?;
    let key = CertifiedKey::from_der(made.chain, made.key, &ring::default_provider())?;
    Ok(Held { key: Arc::new(key), not_after_secs: now_secs + HTTP_LIFE_SECS })
}

/// Warns of an end that is near: a collector that would not start for it could not say so.
fn told(files: &Files, loaded: Held, now_secs: i64) -> Held {
    let path = files.certificate.display();
    match loaded.not_after_secs - now_secs {
        ..=0 => warn!("{path} has ended: clients refuse it; put a new one there, it is taken by itself"),
        1..ENDS_SOON_SECS => warn!("{path} ends within 14 days: put a new one there, it is taken by itself"),
        _ => {}
    }
    loaded
}

fn not_after_secs(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| format!("no certificate: {error}"))?;
    Ok(parsed.validity().not_after.timestamp())
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(failed)?.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let what = format!("larger than {FILE_MAX_BYTES} bytes, no certificate or key is");
        return Err(CertificateError::Content { path: path.to_owned(), what });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn files(dir: &Path) -> Files {
        Files { certificate: dir.join("a.crt"), key: dir.join("a.key") }
    }

    fn write(files: &Files, name: &str) {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(&files.certificate, made.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
    }

    #[test]
    fn files_are_read_and_what_is_wrong_with_them_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let good = files(dir.path());
        let told = |files: &Files| crate::error_chain(&files.check().unwrap_err());
        assert!(told(&good).contains("cannot read") && told(&good).contains("a.crt"), "{}", told(&good));
        write(&good, "watch.example");
        assert!(good.check().unwrap() > 0);
        let other = Files { certificate: dir.path().join("b.crt"), key: dir.path().join("b.key") };
        write(&other, "watch.example");
        let mixed = Files { certificate: good.certificate.clone(), key: other.key.clone() };
        assert!(told(&mixed).contains("b.key is not the key of"), "{}", told(&mixed));
        let swapped = Files { certificate: good.key.clone(), key: good.certificate.clone() };
        assert!(told(&swapped).contains("0 certificates in PEM"), "{}", told(&swapped));
        fs::write(&other.key, "nonsense").unwrap();
        assert!(told(&other).contains("b.key: no private key in PEM"), "{}", told(&other));
        let one = fs::read_to_string(&good.certificate).unwrap();
        fs::write(&other.certificate, one.repeat(CHAIN_MAX + 1)).unwrap();
        assert!(told(&other).contains("there must be 1 to 10"), "{}", told(&other));
        fs::write(&other.certificate, vec![b'x'; 300 * 1024]).unwrap();
        assert!(told(&other).contains("larger than"), "{}", told(&other));
        fs::write(&other.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(told(&other).contains("no certificate"), "{}", told(&other));
    }
}
