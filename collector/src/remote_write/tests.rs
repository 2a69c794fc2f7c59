//! Messages as senders write them, and as nobody should.

use super::*;
use proptest::prelude::*;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn sample(ts_ms: i64, value: f64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&value.to_bits().to_le_bytes());
    varint(&mut out, 2 << 3);
    varint(&mut out, ts_ms.cast_unsigned());
    out
}

/// A series of version 1.0.
fn series_1(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut series, 1, &label);
    }
    samples.iter().for_each(|(ts_ms, value)| field(&mut series, 2, &sample(*ts_ms, *value)));
    let mut out = Vec::new();
    field(&mut out, 1, &series);
    out
}

/// A request of version 2.0 with one series, its texts after it.
fn request_2(symbols: &[&str], refs: &[u64], kind: u64, samples: &[(i64, f64)]) -> Vec<u8> {
    let (mut series, mut packed) = (Vec::new(), Vec::new());
    refs.iter().for_each(|one| varint(&mut packed, *one));
    field(&mut series, 1, &packed);
    samples.iter().for_each(|(ts_ms, value)| field(&mut series, 2, &sample(*ts_ms, *value)));
    field(&mut series, 5, &[1 << 3, kind as u8]);
    let mut out = Vec::new();
    field(&mut out, 5, &series);
    symbols.iter().for_each(|text| field(&mut out, 4, text.as_bytes()));
    out
}

fn read(version: Version, bytes: &[u8]) -> Result<Request, DecodeError> {
    decode(version, bytes, &|name| name == "db-1")
}

#[test]
fn both_versions_say_the_same() {
    let samples = [(1_700_000_000_000, 1.5), (-7, f64::NAN)];
    let one = read(Version::One, &series_1(&[("job", "x"), ("__name__", "up")], &samples)).unwrap();
    let symbols = ["", "__name__", "up", "job", "x"];
    let two = read(Version::Two, &request_2(&symbols, &[1, 2, 3, 4], 1, &samples)).unwrap();
    assert_eq!(one.series[0].labels.to_string(), "up{job=\"x\"}");
    assert_eq!(one.series[0].labels, two.series[0].labels);
    assert_eq!((one.series[0].kind, two.series[0].kind), (MetricType::Unknown, MetricType::Counter));
    for request in [one, two] {
        let bits = |samples: &[(i64, f64)]| samples.iter().map(|(ts, v)| (*ts, v.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(&request.series[0].samples), bits(&samples));
        assert_eq!((request.refused_samples, request.histograms, request.reason), (0, 0, None));
    }
}

#[test]
fn bad_series_are_left_out_and_the_rest_is_taken() {
    let bad: [&[(&str, &str)]; 6] = [
        &[("job", "x")],
        &[("__name__", "up"), ("job", "a"), ("job", "b")],
        &[("__name__", "up"), ("", "a")],
        &[("__name__", "up"), ("job", "")],
        &[("__name__", "up"), ("instance", "db-1")],
        &[("__name__", "")],
    ];
    for labels in bad {
        let mut bytes = series_1(labels, &[(1, 1.0), (2, 2.0)]);
        bytes.extend(series_1(&[("__name__", "good"), ("instance", "db-1:9100")], &[(1, 1.0)]));
        let request = read(Version::One, &bytes).unwrap();
        assert_eq!((request.series.len(), request.refused_samples), (1, 2), "{labels:?}");
        assert!(request.reason.is_some());
    }
    let agents = read(Version::One, &series_1(bad[4], &[(1, 1.0)])).unwrap();
    assert!(agents.reason.unwrap().contains("\"db-1\" is an agent's"));
}

#[test]
fn histograms_are_counted_and_not_taken() {
    let mut series = Vec::new();
    let mut label = Vec::new();
    field(&mut label, 1, b"__name__");
    field(&mut label, 2, b"h");
    field(&mut series, 1, &label);
    field(&mut series, 4, b"");
    let mut bytes = Vec::new();
    field(&mut bytes, 1, &series);
    let request = read(Version::One, &bytes).unwrap();
    assert_eq!((request.series.len(), request.histograms), (0, 1));
    assert_eq!(request.reason.as_deref(), Some("native histograms are not stored"));
}

#[test]
fn what_is_malformed_or_too_large_is_refused_whole() {
    let good = series_1(&[("__name__", "up")], &[(1, 1.0)]);
    for cut in 1..good.len() {
        assert!(read(Version::One, &good[..cut]).is_err(), "cut at {cut}");
    }
    for refs in [&[1_u64, 9][..], &[1], &[1, u64::MAX]] {
        assert!(read(Version::Two, &request_2(&["", "a"], refs, 0, &[])).is_err(), "{refs:?}");
    }
    let many = SYMBOLS_MAX + 1;
    let symbols: Vec<u8> = (0..many).flat_map(|_| [4 << 3 | 2, 0]).collect();
    assert!(matches!(read(Version::Two, &symbols), Err(DecodeError::TooLarge { .. })));
    // Two bytes of the request would become dozens in memory, each time.
    let labels: Vec<u8> = (0..UNPACKED_MAX_BYTES / 2).flat_map(|_| [1 << 3 | 2, 0]).collect();
    let mut bomb = Vec::new();
    field(&mut bomb, 1, &labels);
    assert!(matches!(read(Version::One, &bomb), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let mut packed = Vec::new();
    varint(&mut packed, u64::from(u32::MAX));
    packed.extend([0xfe, 0x01, 0x00].repeat(10));
    assert!(matches!(unpack(&packed), Err(DecodeError::TooLarge { .. })));
    assert!(matches!(unpack(b"\x05"), Err(DecodeError::Snappy(_))));
    let zeros = vec![0; UNPACKED_MAX_BYTES + 1];
    let packed = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert!(packed.len() < 1_000_000 && matches!(unpack(&packed), Err(DecodeError::TooLarge { .. })));
    let good = series_1(&[("__name__", "up")], &[(1, 1.0)]);
    assert_eq!(unpack(&snap::raw::Encoder::new().compress_vec(&good).unwrap()).unwrap(), good);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = read(Version::One, &bytes);
        let _ = read(Version::Two, &bytes);
        let _ = unpack(&bytes);
    }

    #[test]
    fn any_change_of_a_request_is_read_or_refused(at: prop::sample::Index, with: u8) {
        let mut bytes = series_1(&[("__name__", "up"), ("job", "x")], &[(1, 1.0)]);
        bytes.extend(request_2(&["", "__name__", "up"], &[1, 2], 1, &[(5, 5.0)]));
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = read(Version::One, &bytes);
        let _ = read(Version::Two, &bytes);
    }
}
