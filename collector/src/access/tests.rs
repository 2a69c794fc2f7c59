use super::*;
use crate::state::{Engine, open};
use std::os::unix::fs::PermissionsExt as _;

const HOUR_MS: i64 = 3_600_000;

fn access(dir: &Path) -> Access {
    Access::open(open(Engine::Redb, dir).unwrap()).unwrap()
}

fn request(name: &str, role: Role) -> TokenRequest<'_> {
    TokenRequest { name, role, expires_ms: None, created_by: "test" }
}

#[test]
fn a_token_works_until_it_is_revoked_or_ends_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let (text, info) = one.create(&request("grafana", Role::Viewer), 1000).unwrap();
    let short = TokenRequest { expires_ms: Some(5000), ..request("short", Role::Admin) };
    let (short, _) = one.create(&short, 1000).unwrap();
    assert!(text.starts_with("pwa1_") && text.len() == 5 + 32, "{text}");
    assert_eq!(one.check(&short, 4999).unwrap().role, Role::Admin);
    assert_eq!(one.check(&short, 5000), None);
    drop(one);

    let two = access(dir.path());
    let who = two.check(&text, 2000).unwrap();
    assert_eq!((&*who.name, who.role), ("grafana", Role::Viewer));
    assert_eq!(two.check("pwa1_00000000000000000000000000000000", 2000), None);
    assert_eq!(two.check("", 2000), None);
    two.revoke(&info.id).unwrap();
    assert_eq!(two.check(&text, 2000), None);
    assert!(matches!(two.revoke(&info.id), Err(AccessError::NotFound(_))));
    drop(two);
    assert_eq!(access(dir.path()).check(&text, 2000), None);
}

#[test]
fn the_secret_is_on_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let (text, _) = one.create(&request("grafana", Role::Viewer), 1000).unwrap();
    let (session, _) = one.begin_session(&text, 1000).unwrap().unwrap();
    for secret in [&text[5..], &session[5..]] {
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    assert!(!format!("{one:?}").contains(&text[5..]));
}

#[test]
fn sessions_end_with_their_token_and_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let (text, info) = one.create(&request("ann", Role::Operator), 0).unwrap();
    let (session, who) = one.begin_session(&text, 0).unwrap().unwrap();
    assert_eq!(who.role, Role::Operator);
    assert_eq!(one.check(&session, SESSION_TTL_MS - 1), Some(who));
    assert_eq!(one.check(&session, SESSION_TTL_MS), None);
    assert_eq!(one.list().len(), 1, "sessions are no tokens");
    assert!(one.begin_session(&session, 0).unwrap().is_none(), "a session begins no other");

    let (other, _) = one.begin_session(&text, 0).unwrap().unwrap();
    one.end_session(&other).unwrap();
    assert_eq!(one.check(&other, 1), None);
    assert!(one.check(&session, 1).is_some());
    one.end_session(&text).unwrap();
    assert!(one.check(&text, 1).is_some(), "signing out deletes no token");
    one.revoke(&info.id).unwrap();
    assert_eq!(one.check(&session, 1), None);
}

#[test]
fn there_are_only_so_many_sessions_and_the_oldest_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let (text, _) = one.create(&request("ann", Role::Viewer), 0).unwrap();
    let hash = hash_of(&text);
    let who = one.check(&text, 0).unwrap();
    for i in 0..SESSIONS_MAX {
        let record = Record::session(&who, hash, 0, 1000 + i as i64);
        one.write().tokens.insert(hash_of(&format!("s{i}")), record);
    }
    let (session, _) = one.begin_session(&text, 1).unwrap().unwrap();
    assert!(one.check(&session, 2).is_some());
    assert_eq!(one.read().tokens.len(), SESSIONS_MAX + 1);
    assert!(!one.read().tokens.contains_key(&hash_of("s0")));
}

#[test]
fn the_local_token_is_private_and_of_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let text = one.write_local_file(dir.path(), "http://127.0.0.1:4718", None).unwrap();
    let path = dir.path().join(LOCAL_FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(file, serde_json::json!({ "url": "http://127.0.0.1:4718", "token": text }));
    assert_eq!(one.check(&text, 0).unwrap().role, Role::Admin);
    let (session, _) = one.begin_session(&text, 0).unwrap().unwrap();
    assert!(one.check(&session, 1).is_some());

    drop(one);
    let two = access(dir.path());
    let again = two.write_local_file(dir.path(), "http://127.0.0.1:4718", None).unwrap();
    assert_ne!(text, again);
    assert_eq!(two.check(&text, 0), None);
    assert_eq!(two.check(&session, 1), None);
}

#[test]
fn last_use_is_written_once_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let (text, _) = one.create(&request("ann", Role::Viewer), 0).unwrap();
    assert_eq!(one.list()[0].last_used_ms, None);
    one.check(&text, 1000).unwrap();
    assert!(one.has_uses_to_save());
    one.save_uses().unwrap();
    one.check(&text, 1000 + HOUR_MS - 1).unwrap();
    assert!(!one.has_uses_to_save());
    drop(one);
    let two = access(dir.path());
    assert_eq!(two.list()[0].last_used_ms, Some(1000));
    two.check(&text, 1000 + HOUR_MS).unwrap();
    assert!(two.has_uses_to_save());
}

#[test]
fn names_are_bounded_and_roles_are_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let one = access(dir.path());
    let long = "x".repeat(TOKEN_NAME_MAX_BYTES + 1);
    for bad in ["", "a\nb", &long] {
        assert!(matches!(one.create(&request(bad, Role::Viewer), 0), Err(AccessError::Name)));
    }
    let covered = |role: Role| Role::ALL.map(|needed| role.covers(needed));
    assert_eq!(covered(Role::Writer), [true, false, false, false]);
    assert_eq!(covered(Role::Viewer), [false, true, false, false]);
    assert_eq!(covered(Role::Operator), [false, true, true, false]);
    assert_eq!(covered(Role::Admin), [true; 4]);
    assert!("root".parse::<Role>().unwrap_err().to_string().contains("\"viewer\""));
}
