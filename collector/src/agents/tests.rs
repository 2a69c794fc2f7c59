//! Enrolment, renewal and revocation over a real state store.

use pitwatch_shared::control::VERSIONS;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::state::{Engine, open};

const NOW: i64 = 1_795_000_000_000;

fn agents(dir: &std::path::Path) -> Agents {
    let authority = Authority::open(dir, NOW / 1000).unwrap();
    let state = open(Engine::Redb, &dir.join("state")).unwrap();
    Agents::open(state, authority, Duration::from_secs(3600)).unwrap()
}

fn request(name: &str, token: &EnrollToken) -> Enroll {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    Enroll { versions: VERSIONS, name: name.into(), secret: token.secret, csr }
}

#[test]
fn a_token_serves_once_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let agents = agents(dir.path());
    let (token, _) = agents.create_token(None, 60, "admin", NOW).unwrap();
    agents.enroll(&request("db-1", &token), NOW).unwrap();
    let again = agents.enroll(&request("db-2", &token), NOW).unwrap_err();
    assert!(matches!(&again, AgentError::UsedToken { by } if by == "db-1"), "{again}");
    let unknown = EnrollToken { secret: [9; TOKEN_SECRET_BYTES], ..token };
    assert!(matches!(agents.enroll(&request("db-2", &unknown), NOW), Err(AgentError::UnknownToken)));
}

#[test]
fn tokens_expire_and_keep_to_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let agents = agents(dir.path());
    let (token, _) = agents.create_token(Some("db-1"), 60, "admin", NOW).unwrap();
    let late = agents.enroll(&request("db-1", &token), NOW + 90_000);
    assert!(matches!(late, Err(AgentError::ExpiredToken { ago_secs: 30 })));
    let other = agents.enroll(&request("db-2", &token), NOW).unwrap_err();
    assert!(other.to_string().contains("enrol with --name db-1"), "{other}");
    assert!(agents.enroll(&request("db-1", &token), NOW).is_ok(), "neither failure used it up");
    assert!(agents.create_token(Some("no good"), 60, "admin", NOW).is_err());
    assert!(agents.create_token(None, 0, "admin", NOW).is_err());
}

#[test]
fn a_name_belongs_to_one_agent_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let first = agents(dir.path());
    let enrol = |agents: &Agents| {
        let (token, _) = agents.create_token(None, 60, "admin", NOW).unwrap();
        agents.enroll(&request("db-1", &token), NOW)
    };
    let issued = enrol(&first).unwrap();
    assert!(matches!(enrol(&first), Err(AgentError::NameTaken(_))));
    drop(first);
    // A restart forgets nothing.
    let second = agents(dir.path());
    assert!(matches!(enrol(&second), Err(AgentError::NameTaken(_))));
    second.revoke("db-1", "admin", NOW).unwrap();
    assert!(matches!(second.revoke("db-1", "admin", NOW), Err(AgentError::Revoked(_))));
    let shown = Fingerprint::of(&issued.certificate);
    assert!(matches!(second.renew("db-1", shown, &[], NOW), Err(AgentError::Revoked(_))));
    enrol(&second).unwrap();
    assert!(matches!(second.revoke("nobody", "admin", NOW), Err(AgentError::NotFound(_))));
}

#[test]
fn a_renewal_keeps_the_certificate_in_use_and_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let agents = agents(dir.path());
    let (token, _) = agents.create_token(None, 60, "admin", NOW).unwrap();
    let request = request("db-1", &token);
    let mut shown = Fingerprint::of(&agents.enroll(&request, NOW).unwrap().certificate);
    for round in 1..4 {
        let issued = agents.renew("db-1", shown, &request.csr, NOW + round * 1000).unwrap();
        let new = Fingerprint::of(&issued.certificate);
        let held: Vec<_> = agents.list()[0].record.certificates.iter().map(|c| c.fingerprint).collect();
        assert_eq!(held, [shown, new]);
        assert_eq!(agents.lock().certificates.len(), 2);
        shown = new;
    }
}
