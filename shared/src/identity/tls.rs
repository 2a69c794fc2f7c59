//! rustls configurations for both sides: TLS 1.3 only, ring, certificates of the collector's own authority.
//!
//! An agent with an identity trusts exactly its authority; an agent that enrols trusts exactly the authority whose
//! fingerprint its token holds. Hosts' clocks are often wrong before NTP is up, so a certificate that is out of its
//! time by at most [`CLOCK_TOLERANCE_SECS`] still passes; revocation does not depend on clocks.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::{self, cipher_suite};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::{COLLECTOR_NAME, Fingerprint};

/// How far outside its life a certificate still passes, in seconds.
pub const CLOCK_TOLERANCE_SECS: u64 = 24 * 3600;

/// AES-128 first: its key schedule uses SHA-256, for which processors have instructions, and not SHA-384, for which few
/// have; in a fleet's return that is a tenth of the cryptography.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
});

/// Which authority an agent trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// This one: the agent is enrolled.
    Authority(CertificateDer<'static>),
    /// The one with this fingerprint, presented in the chain: the agent enrols.
    Fingerprint(Fingerprint),
}

/// A certificate and its key, and the chain to present.
#[derive(Debug)]
pub struct Credentials {
    /// The own certificate, then its authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The own key.
    pub key: PrivateKeyDer<'static>,
}

/// The agent's side. Without credentials only enrolment is possible.
///
/// # Errors
/// Credentials that do not belong together.
pub fn agent_config(trust: Trust, credentials: Option<Credentials>, alpn: &[u8]) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CollectorVerifier { trust, algorithms: algorithms() }));
    let mut config = match credentials {
        Some(own) => builder.with_client_auth_cert(own.chain, own.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session would restore the chain without checking it again (docs/decisions/transport.md).
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The collector's side: serves agents with and without certificates; who may do what is decided after the handshake.
///
/// Under the ALPN `session` it presents its own certificate alone, under `enroll` the authority's as well: only who
/// enrols has to be shown that one, and without it the answer to a first packet fits into one.
///
/// # Errors
/// Credentials that do not belong together, or an authority that is no certificate.
pub fn collector_config(
    authority: &CertificateDer<'static>,
    own: Credentials,
    session: &[u8],
    enroll: &'static [u8],
) -> Result<ServerConfig, Error> {
    let verifier = AgentVerifier::new(authority)?;
    let whole = CertifiedKey::from_der(own.chain, own.key, &PROVIDER)?;
    let mut alone = whole.clone();
    alone.cert.truncate(1);
    let presented = Presented { enroll, whole: Arc::new(whole), alone: Arc::new(alone) };
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(presented));
    config.alpn_protocols = vec![session.to_vec(), enroll.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What the collector shows of its chain.
#[derive(Debug)]
struct Presented {
    enroll: &'static [u8],
    whole: Arc<CertifiedKey>,
    alone: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let enrols = hello.alpn().is_some_and(|mut names| names.any(|name| name == self.enroll));
        Some(if enrols { self.whole.clone() } else { self.alone.clone() })
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    PROVIDER.signature_verification_algorithms
}

fn roots(authority: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    Ok(Arc::new(roots))
}

/// Runs a check at `now`, and once more at the nearer edge of the tolerance if only the time was wrong.
fn forgiving<T>(now: UnixTime, check: impl Fn(UnixTime) -> Result<T, Error>) -> Result<T, Error> {
    let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
    match check(now) {
        Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            check(at(now.as_secs().saturating_sub(CLOCK_TOLERANCE_SECS)))
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })) => {
            check(at(now.as_secs().saturating_add(CLOCK_TOLERANCE_SECS)))
        }
        result => result,
    }
}

#[derive(Debug)]
struct CollectorVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for CollectorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = match &self.trust {
            Trust::Authority(authority) => authority,
            Trust::Fingerprint(wanted) => {
                intermediates.iter().find(|der| Fingerprint::of(der) == *wanted).ok_or_else(|| {
                    let found = intermediates.last().map(|der| Fingerprint::of(der).to_string());
                    Error::General(format!(
                        "the collector's authority is {}, the token's is {wanted}: the token is for another collector, \
                         or somebody stands between",
                        found.as_deref().unwrap_or("not presented"),
                    ))
                })?
            }
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority)?, PROVIDER.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let name = ServerName::try_from(COLLECTOR_NAME).map_err(|error| Error::General(error.to_string()))?;
        forgiving(now, |now| verifier.verify_server_cert(end_entity, intermediates, &name, &[], now))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AgentVerifier(Arc<dyn ClientCertVerifier>);

impl AgentVerifier {
    fn new(authority: &CertificateDer<'static>) -> Result<Self, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, PROVIDER.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self(verifier))
    }
}

impl ClientCertVerifier for AgentVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Agents hold one certificate; a hint would only cost bytes in each handshake.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        forgiving(now, |now| self.0.verify_client_cert(end_entity, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 1_800_000_000;

    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let der = params.self_signed(&key).unwrap().der().clone();
        (der, Issuer::new(params, key))
    }

    fn leaf(
        issuer: &Issuer<'_, KeyPair>,
        usage: ExtendedKeyUsagePurpose,
        from: u64,
        to: u64,
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([COLLECTOR_NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = date(from);
        params.not_after = date(to);
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn date(secs: u64) -> time::OffsetDateTime {
        time::OffsetDateTime::from_unix_timestamp(secs as i64).unwrap()
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    #[test]
    fn clocks_may_be_off_by_a_day_and_no_more() {
        let (ca, issuer) = authority();
        let agent = leaf(&issuer, ExtendedKeyUsagePurpose::ClientAuth, NOW, NOW + 10 * DAY);
        let verifier = AgentVerifier::new(&ca).unwrap();
        let passes = |secs| verifier.verify_client_cert(&agent, &[], at(secs)).is_ok();
        assert!(passes(NOW + DAY));
        assert!(passes(NOW - DAY + 60) && !passes(NOW - DAY - 60));
        assert!(passes(NOW + 11 * DAY - 60) && !passes(NOW + 11 * DAY + 60));
    }

    #[test]
    fn an_agent_cannot_pose_as_the_collector_nor_the_other_way_round() {
        let (ca, issuer) = authority();
        let agent = leaf(&issuer, ExtendedKeyUsagePurpose::ClientAuth, NOW, NOW + DAY);
        let collector = leaf(&issuer, ExtendedKeyUsagePurpose::ServerAuth, NOW, NOW + DAY);
        let server_side = AgentVerifier::new(&ca).unwrap();
        assert!(server_side.verify_client_cert(&collector, &[], at(NOW + 1)).is_err());
        let client_side = CollectorVerifier { trust: Trust::Authority(ca), algorithms: algorithms() };
        let name = ServerName::try_from("any.host").unwrap();
        assert!(client_side.verify_server_cert(&collector, &[], &name, &[], at(NOW + 1)).is_ok());
        assert!(client_side.verify_server_cert(&agent, &[], &name, &[], at(NOW + 1)).is_err());
    }

    #[test]
    fn enrolment_trusts_only_the_fingerprint_of_the_token() {
        let (ca, issuer) = authority();
        let (other, _) = authority();
        let collector = leaf(&issuer, ExtendedKeyUsagePurpose::ServerAuth, NOW, NOW + DAY);
        let name = ServerName::try_from("any.host").unwrap();
        let check = |trusted: &CertificateDer<'_>, presented: &CertificateDer<'static>| {
            let trust = Trust::Fingerprint(Fingerprint::of(trusted));
            let verifier = CollectorVerifier { trust, algorithms: algorithms() };
            verifier.verify_server_cert(&collector, std::slice::from_ref(presented), &name, &[], at(NOW + 1))
        };
        assert!(check(&ca, &ca).is_ok());
        let wrong = check(&other, &ca).unwrap_err().to_string();
        assert!(wrong.contains("the token is for another collector"), "{wrong}");
        // Presenting the trusted authority does not help a certificate that it did not sign.
        assert!(check(&other, &other).is_err());
    }
}
