//! The control messages' bytes, frozen per version: `tests/golden/control-v1.txt`; what version 2 adds stands here.
//!
//! A change of these bytes breaks agents in the field: add a version instead. A line is a name and hexadecimal bytes.

use std::fmt::Write as _;

use pitwatch_shared::control::{
    Enroll, EnrollAnswer, HELLO_MAGIC, Hello, Issued, LaneResume, ToAgent, ToCollector, VersionRange, Welcome,
    decode_hello,
};
use pitwatch_shared::identity::to_hex;
use pitwatch_shared::wire;

const FROZEN: &str = include_str!("golden/control-v1.txt");

fn issued() -> Issued {
    Issued {
        certificate: vec![0x30, 0x82],
        authority: vec![0x30, 0x81, 0xff],
        not_before_secs: 1_795_000_000,
        not_after_secs: 1_802_776_000,
    }
}

#[test]
fn version_1_keeps_its_bytes() {
    let hello = Hello {
        magic: HELLO_MAGIC,
        versions: VersionRange { min: 1, max: 1 },
        software: "0.1.0".into(),
        clock_ms: 1_795_337_611_000,
        labels: vec![("role".into(), "game".into()), ("env".into(), "prod".into())],
    };
    let welcome = Welcome {
        version: 1,
        clock_ms: -1,
        lanes: vec![
            LaneResume { lane: 0, durable: Some((300, 70_000)), chain_known: true },
            LaneResume { lane: 2, durable: None, chain_known: false },
        ],
        reconnect_spread_ms: 10_000,
    };
    let enroll = Enroll {
        versions: VersionRange { min: 1, max: 300 },
        name: "db-eu-3".into(),
        secret: [7; 16],
        csr: vec![1, 2, 3],
    };
    let messages = [
        ("hello", wire::encode(&hello)),
        ("welcome", wire::encode(&welcome)),
        ("ack", wire::encode(&ToAgent::Ack { lane: 0, epoch: 5, seq: 1_000_000_000_000 })),
        ("renew", wire::encode(&ToCollector::Renew { csr: vec![9; 3] })),
        ("renewed", wire::encode(&ToAgent::Renewed(issued()))),
        ("renew-refused", wire::encode(&ToAgent::RenewRefused { reason: "revoked".into() })),
        ("enroll", wire::encode(&enroll)),
        ("enrolled", wire::encode(&EnrollAnswer::Enrolled(issued()))),
        ("enroll-refused", wire::encode(&EnrollAnswer::Refused { reason: "used".into() })),
    ];
    let mut now = String::new();
    for (name, bytes) in messages {
        writeln!(now, "{name} {}", to_hex(&bytes.unwrap())).unwrap();
    }
    assert_eq!(now, FROZEN, "bytes of version 1 changed");

    let bytes = wire::encode(&hello).unwrap();
    assert_eq!(decode_hello(&bytes).unwrap(), hello);
    let bytes = wire::encode(&welcome).unwrap();
    assert_eq!(wire::decode::<Welcome>(&bytes).unwrap(), welcome);
    let bytes = wire::encode(&enroll).unwrap();
    assert_eq!(wire::decode::<Enroll>(&bytes).unwrap(), enroll);
}

#[test]
fn version_2_adds_settings() {
    let settings = ToAgent::Settings { text: "[labels]\nenv = \"a\"\n".into() };
    let bytes = wire::encode(&settings).unwrap();
    assert_eq!(to_hex(&bytes), "03135b6c6162656c735d0a656e76203d202261220a");
    assert_eq!(wire::decode::<ToAgent>(&bytes).unwrap(), settings);
}
