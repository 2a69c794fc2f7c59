//! The codec as a whole: round trips, restored snapshots, damaged payloads, refusals.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{METRIC_NAME, STALE_NAN_BITS};

/// A chain played through both ends beside a plain model of what they should say.
#[derive(Default)]
struct Play {
    encoder: Encoder,
    decoder: Decoder,
    groups: BTreeMap<GroupId, ModelGroup>,
    began: bool,
    named: usize,
}

#[derive(Default)]
struct ModelGroup {
    series: BTreeMap<Slot, (SeriesDef, Option<u64>)>,
    values: Vec<f64>,
    last_ts_ms: Option<i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Schema { reset: bool, group: GroupId, retire: Vec<prop::sample::Index>, add: usize },
    Tick { group: GroupId, after_ms: i64, edits: Vec<(prop::sample::Index, f64)> },
}

impl Play {
    /// Writes a step's payload, takes it into the model, and gives it with what it should be read as.
    fn write(&mut self, step: &Step) -> (Vec<u8>, Decoded) {
        let mut payload = Vec::new();
        match step {
            Step::Schema { reset, group, retire, add } => {
                let reset = *reset || !self.began;
                self.began = true;
                if reset {
                    self.groups.clear();
                }
                let known = self.groups.entry(*group).or_default();
                let live: Vec<Slot> = known.series.keys().copied().collect();
                let mut retire: Vec<Slot> =
                    retire.iter().filter(|_| !live.is_empty()).map(|index| *index.get(&live)).collect();
                retire.sort_unstable();
                retire.dedup();
                retire.iter().for_each(|slot| drop(known.series.remove(slot)));
                let free = (0..).filter(|slot| !known.series.contains_key(slot));
                let add: Vec<SeriesDef> =
                    free.take(*add).map(|slot| series(slot, self.named + slot as usize)).collect();
                self.named += add.len();
                self.encoder.schema(&mut payload, reset, *group, &retire, &add).unwrap();
                for begun in &add {
                    known.series.insert(begun.slot, (begun.clone(), None));
                    known.values.resize(known.values.len().max(begun.slot as usize + 1), 0.0);
                }
                (payload, Decoded::Schema { reset, group: *group, retire, add })
            }
            Step::Tick { group, after_ms, edits } => {
                let Some(known) = self.groups.get_mut(group) else {
                    return self.write(&Step::Schema { reset: false, group: *group, retire: Vec::new(), add: 3 });
                };
                let ts_ms = known.last_ts_ms.unwrap_or(1_790_000_000_000).wrapping_add(*after_ms);
                known.last_ts_ms = Some(ts_ms);
                for (index, value) in edits {
                    if !known.values.is_empty() {
                        let at = index.index(known.values.len());
                        known.values[at] = if value.fract() == 0.0 { known.values[at] + value } else { *value };
                    }
                }
                self.encoder.tick(&mut payload, *group, ts_ms, &known.values).unwrap();
                let mut changes = Vec::new();
                for (slot, (_, last)) in &mut known.series {
                    let bits = known.values[*slot as usize].to_bits();
                    if *last != Some(bits) {
                        *last = Some(bits);
                        changes.push((*slot, bits));
                    }
                }
                (payload, Decoded::Tick { group: *group, ts_ms, changes })
            }
        }
    }

    fn check_state(&self) {
        let state: Vec<_> = self
            .decoder
            .groups()
            .map(|group| {
                let series = group.series().map(|state| (state.series.clone(), state.value_bits));
                (group.group, group.last_ts_ms, series.collect::<Vec<_>>())
            })
            .collect();
        let expected: Vec<_> = self
            .groups
            .iter()
            .map(|(id, group)| (*id, group.last_ts_ms, group.series.values().cloned().collect::<Vec<_>>()))
            .collect();
        assert_eq!(state, expected);
    }
}

fn series(slot: Slot, number: usize) -> SeriesDef {
    let kind = if number.is_multiple_of(2) { MetricType::Counter } else { MetricType::Gauge };
    let long = "ü".repeat(200 * usize::from(number.is_multiple_of(7)));
    let labels = Labels::new([
        (METRIC_NAME, format!("metric_{}", number % 5)),
        ("device", format!("däv{}", number % 3)),
        ("id", number.to_string()),
        ("note", format!("{long}{number}")),
    ]);
    SeriesDef { slot, kind, labels: labels.unwrap() }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-3..300i32).prop_map(f64::from),
        3 => any::<i32>().prop_map(|cents| f64::from(cents) / 100.0),
        2 => (0..1_000_000u32).prop_map(|ms| f64::from(ms) * 1e-3),
        2 => any::<u16>().prop_map(|pages| f64::from(pages) * 4096.0),
        2 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![
            -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, f64::from_bits(STALE_NAN_BITS),
        ]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let after = prop_oneof![5 => Just(1000i64), 2 => 990..1010i64, 1 => any::<i64>()];
    prop_oneof![
        1 => (prop::bool::weighted(0.1), 0..3u16, prop::collection::vec(index(), 0..4), 0..90usize)
            .prop_map(|(reset, group, retire, add)| Step::Schema { reset, group, retire, add }),
        4 => (0..3u16, after, prop::collection::vec((index(), value()), 0..20))
            .prop_map(|(group, after_ms, edits)| Step::Tick { group, after_ms, edits }),
    ]
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_frame_comes_back_bit_by_bit(steps in steps(60)) {
        let mut play = Play::default();
        let mut decoded = Decoded::default();
        for step in &steps {
            let (payload, expected) = play.write(step);
            prop_assert_eq!(begins_chain(&payload), matches!(expected, Decoded::Schema { reset: true, .. }));
            play.decoder.decode(&payload, &mut decoded).unwrap();
            prop_assert_eq!(&decoded, &expected);
            play.check_state();
        }
    }

    #[test]
    fn a_restored_decoder_goes_on_as_the_one_it_was(steps in steps(30)) {
        let mut play = Play::default();
        let mut decoded = Decoded::default();
        let mut snapshot = Vec::new();
        for step in &steps {
            snapshot.clear();
            play.decoder.snapshot(&mut snapshot);
            let restored = Decoder::restore(&snapshot).unwrap();
            prop_assert_eq!(&restored, &play.decoder);
            play.decoder = restored;
            let (payload, expected) = play.write(step);
            play.decoder.decode(&payload, &mut decoded).unwrap();
            prop_assert_eq!(&decoded, &expected);
        }
    }

    #[test]
    fn damage_leaves_no_trace(steps in steps(12), flips in prop::collection::vec(any::<prop::sample::Index>(), 24)) {
        let mut play = Play::default();
        let mut decoded = Decoded::default();
        for step in &steps {
            let (payload, _) = play.write(step);
            let stride = (payload.len() / 64).max(1);
            let cuts = (0..payload.len()).step_by(stride).map(|len| payload[..len].to_vec());
            let longer = [payload.as_slice(), &[0]].concat();
            let flipped = flips.iter().map(|index| {
                let mut flipped = payload.clone();
                let bit = index.index(payload.len() * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
                flipped
            });
            for damaged in cuts.chain([longer]).chain(flipped) {
                let mut decoder = play.decoder.clone();
                match decoder.decode(&damaged, &mut decoded) {
                    Err(_) => prop_assert_eq!(&decoder, &play.decoder),
                    // What is read must be a state that can go on.
                    Ok(()) => {
                        let mut snapshot = Vec::new();
                        decoder.snapshot(&mut snapshot);
                        prop_assert_eq!(Decoder::restore(&snapshot), Ok(decoder));
                    }
                }
            }
            play.decoder.decode(&payload, &mut decoded).unwrap();
        }
    }
}

/// A small deterministic source of noise (Marsaglia's xorshift64).
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.below(256) as u8),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
    }
}

#[test]
fn mutated_payloads_and_snapshots_do_no_harm() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut play = Play::default();
    let mut decoded = Decoded::default();
    let mut refused = 0;
    for round in 0..300 {
        let group = noise.below(3) as GroupId;
        let step = if round % 40 == 0 {
            Step::Schema { reset: round == 0, group, retire: Vec::new(), add: 20 }
        } else {
            Step::Tick { group, after_ms: 1000, edits: Vec::new() }
        };
        if let Some(known) = play.groups.get_mut(&group) {
            known.values.iter_mut().for_each(|value| *value += noise.below(5) as f64 / 4.0);
        }
        let (payload, expected) = play.write(&step);
        for _ in 0..30 {
            let mut mutant = payload.clone();
            noise.mutate(&mut mutant);
            let mut decoder = play.decoder.clone();
            if decoder.decode(&mutant, &mut decoded).is_err() {
                assert_eq!(decoder, play.decoder, "round {round}");
                refused += 1;
            }
        }
        let mut snapshot = Vec::new();
        play.decoder.snapshot(&mut snapshot);
        for _ in 0..5 {
            // With a checksum that fits, so that the checks behind it are met.
            let mut mutant = snapshot[..snapshot.len() - 4].to_vec();
            noise.mutate(&mut mutant);
            let checksum = crc32fast::hash(&mutant);
            mutant.extend(checksum.to_le_bytes());
            if let Ok(mut decoder) = Decoder::restore(&mutant) {
                let mut again = Vec::new();
                decoder.snapshot(&mut again);
                assert_eq!(Decoder::restore(&again).as_ref(), Ok(&decoder), "round {round}");
                drop(decoder.decode(&payload, &mut decoded));
            }
        }
        play.decoder.decode(&payload, &mut decoded).unwrap();
        assert_eq!(decoded, expected, "round {round}");
    }
    assert!(refused > 5000, "only {refused} of 9000 mutants were refused");
}

fn begun(slots: std::ops::Range<Slot>) -> (Encoder, Decoder) {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let add: Vec<SeriesDef> = slots.map(|slot| series(slot, slot as usize)).collect();
    let mut payload = Vec::new();
    encoder.schema(&mut payload, true, 0, &[], &add).unwrap();
    decoder.decode(&payload, &mut Decoded::default()).unwrap();
    (encoder, decoder)
}

#[test]
fn the_encoder_refuses_what_breaks_the_chain_and_goes_on() {
    let (mut encoder, mut decoder) = begun(0..3);
    let before = encoder.clone();
    let mut out = vec![1, 2];
    let mut refuse = |group, retire: &[Slot], add: &[Slot]| {
        let add: Vec<SeriesDef> = add.iter().map(|slot| series(*slot, 0)).collect();
        encoder.schema(&mut out, false, group, retire, &add).unwrap_err()
    };
    let live = |slot| EncodeError::from(ChainError::SlotLive { group: 0, slot });
    let not_live = |slot| EncodeError::from(ChainError::SlotNotLive { group: 0, slot });
    assert_eq!(refuse(0, &[], &[2]), live(2));
    assert_eq!(refuse(0, &[], &[5, 5]), live(5));
    assert_eq!(refuse(0, &[3], &[]), not_live(3));
    assert_eq!(refuse(0, &[1, 1], &[]), not_live(1));
    assert_eq!(refuse(64, &[], &[]), ChainError::Group(64).into());
    let highest = SLOTS_AHEAD_MAX + 2 * 4;
    let high = ChainError::SlotTooHigh { group: 0, slot: u64::from(highest) + 1, highest };
    assert_eq!(refuse(0, &[], &[highest + 1]), high.into());
    let few = EncodeError::TooFewValues { group: 0, given: 2, last: 2 };
    assert_eq!(encoder.tick(&mut out, 0, 5, &[0.0; 2]), Err(few));
    assert_eq!(encoder.tick(&mut out, 1, 5, &[]), Err(ChainError::GroupUnknown(1).into()));
    assert_eq!(out, [1, 2], "nothing was appended");

    let mut payloads = [Vec::new(), Vec::new()];
    for (mut encoder, payload) in [encoder, before].into_iter().zip(&mut payloads) {
        encoder.tick(payload, 0, 5, &[1.0, 2.0, 3.0]).unwrap();
    }
    assert_eq!(payloads[0], payloads[1], "the refusals left a trace");
    decoder.decode(&payloads[0], &mut Decoded::default()).unwrap();
}

#[test]
fn frames_over_the_limit_leave_no_trace() {
    let long = "x".repeat(limits::LABEL_VALUE_MAX_BYTES);
    let add: Vec<SeriesDef> = (0..300)
        .map(|slot| SeriesDef {
            slot,
            kind: MetricType::Gauge,
            labels: Labels::new([(METRIC_NAME, format!("m{slot}")), ("long", format!("{slot:04}{}", &long[4..]))])
                .unwrap(),
        })
        .collect();
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let error = encoder.schema(&mut out, true, 0, &[], &add).unwrap_err();
    assert!(matches!(error, EncodeError::TooLarge { group: 0, .. }), "{error}");
    assert!(out.is_empty());
    encoder.schema(&mut out, true, 0, &[], &add[..200]).unwrap();
    let refused = out.len();
    assert!(encoder.schema(&mut out, false, 0, &[], &[add[200..].to_vec(), add[..200].to_vec()].concat()).is_err());
    assert_eq!(out.len(), refused);
    encoder.schema(&mut out, false, 0, &[], &add[200..]).unwrap();
    let mut decoder = Decoder::new();
    decoder.decode(&out[..refused], &mut Decoded::default()).unwrap();
    decoder.decode(&out[refused..], &mut Decoded::default()).unwrap();
}

#[test]
fn a_group_of_many_random_floats_is_refused_by_size_and_goes_on() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    let mut decoded = Decoded::default();
    let count = 140_000;
    for from in (0..count).step_by(limits::SERIES_PER_SCHEMA_FRAME_MAX) {
        let add: Vec<SeriesDef> = (from..from + limits::SERIES_PER_SCHEMA_FRAME_MAX as Slot)
            .map(|slot| SeriesDef {
                slot,
                kind: MetricType::Gauge,
                labels: Labels::new([("id", slot.to_string())]).unwrap(),
            })
            .collect();
        let mut payload = Vec::new();
        encoder.schema(&mut payload, from == 0, 0, &[], &add).unwrap();
        decoder.decode(&payload, &mut decoded).unwrap();
    }
    let mut noise = Noise(7);
    let wild: Vec<f64> = (0..count).map(|_| f64::from_bits(noise.below(usize::MAX) as u64)).collect();
    let mut payload = Vec::new();
    let error = encoder.tick(&mut payload, 0, 1, &wild).unwrap_err();
    assert!(matches!(error, EncodeError::TooLarge { group: 0, .. }), "{error}");
    assert!(payload.is_empty());
    encoder.tick(&mut payload, 0, 2, &vec![1.5; count as usize]).unwrap();
    decoder.decode(&payload, &mut decoded).unwrap();
    let Decoded::Tick { ts_ms: 2, changes, .. } = decoded else { panic!("{decoded:?}") };
    assert!(changes.iter().all(|(_, bits)| *bits == 1.5f64.to_bits()));
}

#[test]
fn a_chain_has_a_ceiling_of_memory() {
    let value = "x".repeat(250);
    let mut slot = 0;
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    loop {
        let add: Vec<SeriesDef> = (slot..slot + 5000)
            .map(|slot| SeriesDef {
                slot,
                kind: MetricType::Gauge,
                labels: Labels::new((0..16).map(|i| (format!("name{i}"), &*value))).unwrap(),
            })
            .collect();
        let mut payload = Vec::new();
        match encoder.schema(&mut payload, slot == 0, 0, &[], &add) {
            Ok(()) => decoder.decode(&payload, &mut Decoded::default()).unwrap(),
            Err(error) => {
                assert_eq!(error, ChainError::TooLarge.into());
                break;
            }
        }
        slot += 5000;
    }
    assert!(slot < 200_000);
    // Without the encoder's check the decoder refuses by itself, midway through the frame.
    let mut hostile = vec![KIND_SCHEMA, 0, 0, 0x88, 0x27];
    for i in 0..5000 {
        hostile.extend([if i == 0 { 0xff } else { 0 }, 1, 16]);
        hostile.extend((0..16).flat_map(|name| [name + 1, 1]));
    }
    let before = decoder.clone();
    assert!(decoder.decode(&hostile, &mut Decoded::default()).is_err());
    assert_eq!(decoder, before);
}

#[test]
fn refusals_name_what_was_wrong() {
    let (_, decoder) = begun(0..3);
    let refuse = |payload: &[u8]| decoder.clone().decode(payload, &mut Decoded::default()).unwrap_err();
    assert_eq!(refuse(&[]), DecodeError::Truncated { at: 0 });
    assert_eq!(refuse(&[0x21, 0]), DecodeError::UnknownKind(0x21));
    assert_eq!(refuse(&[KIND_TICK, 9, 0, 0, 0, 0]), ChainError::GroupUnknown(9).into());
    assert_eq!(refuse(&[KIND_TICK, 0x80, 0x80, 0x04]), ChainError::Group(0x10000).into());
    assert_eq!(refuse(&[KIND_SCHEMA, 64, 0, 0]), ChainError::Group(64).into());
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 1, 6, 0]), ChainError::SlotNotLive { group: 0, slot: 3 }.into());
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 0, 1, 0, 1, 0]), ChainError::SlotLive { group: 0, slot: 0 }.into());
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 0, 1, 6, 9, 0]), DecodeError::UnknownType { byte: 9, at: 5 });
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 0, 0, 0]), DecodeError::Trailing { at: 4 });
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 9, 0]), DecodeError::OutOfRange { what: "the number of retired slots", at: 2 });
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 0, 0x91, 0x4e]), ChainError::TooManySeries(10_001).into());
    let reference = DecodeError::OutOfRange { what: "a text reference", at: 8 };
    assert_eq!(refuse(&[KIND_SCHEMA, 0, 0, 1, 6, 1, 1, 99, 1]), reference);
    assert_eq!(refuse(&vec![KIND_TICK; limits::FRAME_PAYLOAD_MAX_BYTES + 1]), DecodeError::TooLarge(1024 * 1024 + 1));
    assert_eq!(Decoder::restore(&[1, 2]), Err(DecodeError::Truncated { at: 2 }));
    assert_eq!(Decoder::restore(&[0; 5]), Err(DecodeError::Checksum));
    let other = [&[9][..], &crc32fast::hash(&[9]).to_le_bytes()].concat();
    assert_eq!(Decoder::restore(&other), Err(DecodeError::UnknownSnapshot(9)));
}
