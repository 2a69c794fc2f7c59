//! The collector's own certificate authority: its key and certificate on disk, and what it issues.
//!
//! Who may have a certificate is [`crate::agents`]' matter; how certificates are checked is
//! [`pitwatch_shared::identity::tls`]'s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pitwatch_shared::control::Issued;
use pitwatch_shared::identity::tls::{CLOCK_TOLERANCE_SECS, Credentials};
use pitwatch_shared::identity::{AgentName, COLLECTOR_NAME, Fingerprint};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// The file's name in the collector's data directory.
pub const FILE: &str = "authority.pem";
/// Life of the authority's own certificate: it is the anchor of every agent, and replaced by people, not by time.
const AUTHORITY_YEARS: i64 = 30;
/// Life of the certificate that the collector serves with; it is made anew at each start.
const COLLECTOR_YEARS: i64 = 10;
/// Life of the certificate that HTTP is served with, seconds: browsers take none that lives longer than 398 days.
pub const HTTP_LIFE_SECS: i64 = 397 * 24 * 3600;
const YEAR_SECS: i64 = 365 * 24 * 3600;

/// Why there is no authority, or no certificate from it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be read or written.
    #[error("authority file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what was written. Agents trust its certificate: bring it back from a backup.
    #[error("authority file {path} is damaged ({what}): every agent trusts it, so bring it back from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The request for a certificate is not one, or not signed by its own key.
    #[error("unusable certificate request: {0}")]
    Request(String),
    /// Cryptography failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Reads the authority in `dir`, or makes it if there is none.
    ///
    /// # Errors
    /// The disk's, or a damaged file.
    pub fn open(dir: &Path, now_secs: i64) -> Result<Self, AuthorityError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|what| AuthorityError::Damaged { path, what }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(dir, now_secs),
            Err(source) => Err(AuthorityError::Io { path, source }),
        }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What enrolment tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// A new key and certificate to serve agents with.
    ///
    /// # Errors
    /// Cryptography's.
    pub fn collector_credentials(&self, now_secs: i64) -> Result<Credentials, AuthorityError> {
        self.server_credentials(&[], now_secs, COLLECTOR_YEARS * YEAR_SECS)
    }

    /// A new key and certificate to serve HTTP with under these names and addresses, and under [`COLLECTOR_NAME`].
    ///
    /// # Errors
    /// A name that is none, or cryptography's.
    pub fn http_credentials(&self, names: &[String], now_secs: i64) -> Result<Credentials, AuthorityError> {
        self.server_credentials(names, now_secs, HTTP_LIFE_SECS)
    }

    /// What clients trust, in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.certificate.to_vec()))
    }

    fn server_credentials(
        &self,
        names: &[String],
        now_secs: i64,
        life_secs: i64,
    ) -> Result<Credentials, AuthorityError> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().cloned().chain([COLLECTOR_NAME.to_owned()]).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("Pitwatch collector");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        lifetime(&mut params, now_secs, now_secs + life_secs);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credentials {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// A certificate for an agent's key. Only the request's key is used: name, usage and life are set here.
    ///
    /// # Errors
    /// A request that is malformed or not signed by its key.
    pub fn issue(&self, csr: &[u8], name: &AgentName, life: Duration, now_secs: i64) -> Result<Issued, AuthorityError> {
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let not_after_secs = now_secs.saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX / 2));
        request.params = CertificateParams::default();
        request.params.distinguished_name = named(name.as_str());
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params.use_authority_key_identifier_extension = true;
        lifetime(&mut request.params, now_secs, not_after_secs);
        let certificate = request.signed_by(&self.issuer)?;
        Ok(Issued {
            certificate: certificate.der().to_vec(),
            authority: self.certificate.to_vec(),
            not_before_secs: now_secs,
            not_after_secs,
        })
    }

    fn make(dir: &Path, now_secs: i64) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Pitwatch authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lifetime(&mut params, now_secs, now_secs + AUTHORITY_YEARS * YEAR_SECS);
        let certificate = params.self_signed(&key)?.der().clone();
        let path = dir.join(FILE);
        let text = pem::encode_many(&[
            pem::Pem::new("PRIVATE KEY", key.serialize_der()),
            pem::Pem::new("CERTIFICATE", certificate.to_vec()),
        ]);
        save_private(dir, FILE, text.as_bytes()).map_err(|source| AuthorityError::Io { path, source })?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let blocks = pem::parse_many(bytes).map_err(|error| error.to_string())?;
        let [key, certificate] = &blocks[..] else { return Err("a key and a certificate are expected".into()) };
        let key = KeyPair::try_from(key.contents()).map_err(|error| error.to_string())?;
        let certificate = CertificateDer::from(certificate.contents().to_vec());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, certificate })
    }
}

/// Writes a file that only its owner may read, durably, replacing another.
///
/// # Errors
/// The system's.
pub fn save_private(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let new = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// The life of a certificate, begun early enough for hosts whose clocks are behind.
fn lifetime(params: &mut CertificateParams, from_secs: i64, to_secs: i64) {
    let date = |secs| OffsetDateTime::from_unix_timestamp(secs).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = date(from_secs.saturating_sub(CLOCK_TOLERANCE_SECS as i64));
    params.not_after = date(to_secs);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_795_000_000;

    fn csr(key: &KeyPair) -> Vec<u8> {
        CertificateParams::new(["somebody.else".to_owned()]).unwrap().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn the_authority_stays_the_same_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), NOW).unwrap().fingerprint();
        assert_eq!(Authority::open(dir.path(), NOW + 5).unwrap().fingerprint(), first);
        let file = dir.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "nonsense").unwrap();
        assert!(Authority::open(dir.path(), NOW).unwrap_err().to_string().contains("backup"));
    }

    #[test]
    fn a_certificate_has_our_name_and_usage_whatever_the_request_says() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let name = "db-1".parse().unwrap();
        let issued = authority.issue(&csr(&key), &name, Duration::from_secs(90), NOW).unwrap();
        assert_eq!((issued.not_before_secs, issued.not_after_secs), (NOW, NOW + 90));
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
        assert_eq!(parsed.subject().to_string(), "CN=db-1");
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(parsed.subject_alternative_name().unwrap().is_none());
    }

    #[test]
    fn a_request_must_be_signed_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let name = "db-1".parse().unwrap();
        let mut bytes = csr(&KeyPair::generate().unwrap());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(authority.issue(&bytes, &name, Duration::from_secs(90), NOW).is_err());
        assert!(authority.issue(b"", &name, Duration::from_secs(90), NOW).is_err());
    }
}
