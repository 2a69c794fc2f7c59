//! What an endpoint asks of who scrapes it, and what is asked of it: credentials and TLS, both from files.
//!
//! Files are read when they are needed, so that a password or an authority that is replaced is taken with the next scrape.
//! TLS is 1.3. Reading happens beside the run loop: a file may lie on a disk that hangs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::http::HttpError;

/// Largest file of authorities: a distribution's has a quarter of that.
const AUTHORITIES_MAX_BYTES: u64 = 1024 * 1024;
/// Largest file of a token or a password.
const SECRET_MAX_BYTES: u64 = 4096;

/// Whose certificates an endpoint may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those signed by an authority of this PEM file, for the endpoint's name.
    Authorities(PathBuf),
    /// Any: it is encrypted, to nobody knows whom.
    Anyone,
}

/// How the agent says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The token in this file.
    Bearer(PathBuf),
    /// A name, and the password in this file.
    Basic {
        /// The name.
        username: String,
        /// Where the password is.
        password_file: PathBuf,
    },
}

/// What an endpoint needs, as the configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// With TLS.
    pub trust: Option<Trust>,
    /// With credentials.
    pub credentials: Option<Credentials>,
}

impl AccessConfig {
    /// Whether it reads a file of the host.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.credentials.is_some() || matches!(self.trust, Some(Trust::Authorities(_)))
    }
}

/// Whether what is sent to this host stays on this one.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// One endpoint's access, with what was made of its files.
pub struct Access {
    config: AccessConfig,
    connector: Option<Made>,
}

/// A connector, with the time at which the file of its authorities was written.
type Made = (Option<SystemTime>, TlsConnector);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl Access {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(config: AccessConfig) -> Self {
        Self { config, connector: None }
    }

    /// The value of the request's `Authorization`, if it has one.
    ///
    /// # Errors
    /// The file cannot be read, or holds no line that may be sent.
    pub async fn authorization(&self) -> Result<Option<String>, HttpError> {
        Ok(match &self.config.credentials {
            None => None,
            Some(Credentials::Bearer(path)) => Some(format!("Bearer {}", secret(path).await?)),
            Some(Credentials::Basic { username, password_file }) => {
                let password = secret(password_file).await?;
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
        })
    }

    /// What makes a stream a TLS stream, if this endpoint's is to be one.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub async fn connector(&mut self) -> Result<Option<TlsConnector>, HttpError> {
        let Some(trust) = self.config.trust.clone() else { return Ok(None) };
        let known = self.connector.clone();
        let made = beside(move || connector(&trust, known)).await?;
        self.connector = Some(made.clone());
        Ok(Some(made.1))
    }
}

fn connector(trust: &Trust, known: Option<Made>) -> Result<Made, HttpError> {
    let written = match trust {
        Trust::Authorities(path) => std::fs::metadata(path).and_then(|data| data.modified()).ok(),
        Trust::Anyone => None,
    };
    match known {
        Some(known) if known.0 == written => Ok(known),
        _ => Ok((written, TlsConnector::from(Arc::new(client(trust)?)))),
    }
}

fn client(trust: &Trust) -> Result<ClientConfig, HttpError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| HttpError::Io("set up TLS", io::Error::other(error)))?;
    Ok(match trust {
        Trust::Authorities(path) => builder.with_root_certificates(authorities(path)?).with_no_client_auth(),
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
        }
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, HttpError> {
    let unread = |source| HttpError::File { path: path.to_owned(), source };
    let text = bounded(path, AUTHORITIES_MAX_BYTES).map_err(unread)?;
    let blocks = pem::parse_many(&text).map_err(|error| unread(io::Error::other(error)))?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.map(|block| CertificateDer::from(block.into_contents())));
    if store.is_empty() {
        return Err(unread(io::Error::other("it holds no certificate in PEM")));
    }
    Ok(store)
}

/// The one line of a file.
async fn secret(path: &Path) -> Result<String, HttpError> {
    let path = path.to_owned();
    beside(move || {
        let unread = |source| HttpError::File { path: path.clone(), source };
        let text = bounded(&path, SECRET_MAX_BYTES).map_err(unread)?;
        let line = String::from_utf8(text).map(|text| text.trim().to_owned()).unwrap_or_default();
        // A line feed would begin a header of its own.
        if line.is_empty() || line.chars().any(char::is_control) {
            return Err(unread(io::Error::other("it does not hold one line of text")));
        }
        Ok(line)
    })
    .await
}

fn bounded(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("it is larger than {max_bytes} bytes")));
    }
    Ok(bytes)
}

async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, HttpError> + Send + 'static,
) -> Result<T, HttpError> {
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|error| HttpError::Io("read its files", io::Error::other(error)))?
}

/// Takes every certificate, but only from who has its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn secrets_are_one_line_of_a_file_as_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let access = Access::new(AccessConfig { credentials: Some(Credentials::Bearer(path.clone())), trust: None });
        assert!(matches!(access.authorization().await, Err(HttpError::File { .. })));
        for (text, said) in [("one\n", Some("Bearer one")), (" two ", Some("Bearer two")), ("a\nb", None), ("\n", None)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(access.authorization().await.ok().flatten().as_deref(), said);
        }
        std::fs::write(&path, vec![b'x'; SECRET_MAX_BYTES as usize + 1]).unwrap();
        assert!(access.authorization().await.is_err());
        std::fs::write(&path, "word\n").unwrap();
        let basic = Credentials::Basic { username: "me".into(), password_file: path };
        let access = Access::new(AccessConfig { credentials: Some(basic), trust: None });
        assert_eq!(access.authorization().await.unwrap().as_deref(), Some("Basic bWU6d29yZA=="));
    }

    #[tokio::test]
    async fn authorities_are_read_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let mut access = Access::new(AccessConfig { trust: Some(Trust::Authorities(path.clone())), credentials: None });
        let error = access.connector().await.err().unwrap();
        assert!(matches!(error, HttpError::File { .. }), "{error}");
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        std::fs::write(&path, own.pem()).unwrap();
        assert!(access.connector().await.unwrap().is_some());
        let mut anyone = Access::new(AccessConfig { trust: Some(Trust::Anyone), credentials: None });
        assert!(anyone.connector().await.unwrap().is_some());
        assert!(Access::new(AccessConfig::default()).connector().await.unwrap().is_none());
    }
}
