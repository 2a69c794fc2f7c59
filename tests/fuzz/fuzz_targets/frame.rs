//! Lane payloads. The input is cut into payloads, each behind its length in two bytes, which are read one after another
//! in a chain that has begun: a payload is taken wholly or leaves no trace, and what was taken survives a snapshot.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_shared::codec::{Decoded, Decoder, Encoder, SeriesDef};
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType};

fuzz_target!(|input: &[u8]| {
    let Some(mut decoder) = begun() else { return };
    let mut decoded = Decoded::default();
    let mut rest = input;
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (payload, after) = more.split_at(usize::from(u16::from_le_bytes(*length)).min(more.len()));
        rest = after;
        let before = decoder.clone();
        if decoder.decode(payload, &mut decoded).is_err() {
            assert!(decoder == before, "a refused payload left a trace");
        }
    }
    let mut snapshot = Vec::new();
    decoder.snapshot(&mut snapshot);
    assert!(Decoder::restore(&snapshot).as_ref() == Ok(&decoder), "a snapshot lost something");
});

/// A decoder in a chain of 70 series with two ticks.
fn begun() -> Option<Decoder> {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut add = Vec::new();
    for slot in 0..70 {
        let labels = Labels::new([(METRIC_NAME, "metric".to_owned()), ("id", slot.to_string())]).ok()?;
        add.push(SeriesDef { slot, kind: MetricType::Gauge, labels });
    }
    let mut payloads = [Vec::new(), Vec::new(), Vec::new()];
    encoder.schema(&mut payloads[0], true, 0, &[], &add).ok()?;
    for (payload, tick) in payloads[1..].iter_mut().zip(0u8..) {
        let values: Vec<f64> = (0..70).map(|slot| f64::from(slot % 9) * f64::from(tick) / 4.0).collect();
        encoder.tick(payload, 0, i64::from(tick) * 1000, &values).ok()?;
    }
    let mut decoded = Decoded::default();
    payloads.iter().try_for_each(|payload| decoder.decode(payload, &mut decoded)).ok()?;
    Some(decoder)
}
