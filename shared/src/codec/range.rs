//! A binary range coder with adaptive probabilities, and the trait that lets one body of code write and read.
//!
//! It owns how decisions become 32-bit words; what is decided, and in which context, is `tick`'s matter.
//! After G. N. N. Martin's range coding (1979) with binary decisions: 64-bit interval, 32-bit output steps.

use super::DecodeError;

const WORD_BYTES: usize = 4;
/// The interval is never narrower than this between two decisions.
const RANGE_MIN: u64 = 1 << 32;
/// From this width on, one word names a point of the interval whatever bytes follow it.
const RANGE_ONE_WORD: u64 = 1 << 33;
/// How far a probability stays from 0 and 1, in 1/65536.
const PROBABILITY_MARGIN: u16 = 48;
/// How far a probability moves with each decision: 1/2^RATE of the way.
const PROBABILITY_RATE: u32 = 5;

/// The chance that the next decision of a context is "yes", in 1/65536, learnt from those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probability(u16);

impl Probability {
    /// Nothing known.
    pub(super) const EVEN: Self = Self(1 << 15);

    /// In 1/65536.
    pub(super) fn yes(self) -> u16 {
        self.0
    }

    /// A probability from outside, if a chain can come to it.
    pub(super) fn checked(yes: u16) -> Option<Self> {
        (PROBABILITY_MARGIN..=u16::MAX - PROBABILITY_MARGIN).contains(&yes).then_some(Self(yes))
    }

    #[inline]
    fn learn(&mut self, yes: bool) {
        let goal = if yes { u16::MAX - PROBABILITY_MARGIN } else { PROBABILITY_MARGIN };
        let way = i32::from(goal) - i32::from(self.0);
        self.0 = (i32::from(self.0) + (way >> PROBABILITY_RATE)) as u16;
    }
}

/// Writes or reads decisions: the writer takes `yes` and gives it back, the reader ignores it and gives what it read.
pub(super) trait Decisions {
    /// One decision in the context of `probability`, which learns from it.
    fn decide(&mut self, probability: &mut Probability, yes: bool) -> bool;
}

/// Writes decisions to the end of a buffer.
pub(super) struct RangeWriter<'a> {
    out: &'a mut Vec<u8>,
    low: u64,
    range: u64,
}

impl<'a> RangeWriter<'a> {
    /// Appends to `out`.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, low: 0, range: u64::MAX }
    }

    /// Writes what is left of the interval's name.
    pub(super) fn finish(mut self) {
        if self.range >= RANGE_ONE_WORD {
            self.advance(u64::from(u32::MAX));
            self.word();
        } else {
            self.word();
            self.word();
        }
    }

    /// Moves the interval's low end up; a carry goes into the words already written.
    #[inline]
    fn advance(&mut self, by: u64) {
        let (low, carry) = self.low.overflowing_add(by);
        self.low = low;
        if carry {
            for byte in self.out.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
    }

    fn word(&mut self) {
        self.out.extend_from_slice(&((self.low >> 32) as u32).to_be_bytes());
        self.low <<= 32;
    }
}

impl Decisions for RangeWriter<'_> {
    #[inline]
    fn decide(&mut self, probability: &mut Probability, yes: bool) -> bool {
        let bound = (self.range >> 16) * u64::from(probability.0);
        self.advance(if yes { 0 } else { bound });
        self.range = if yes { bound } else { self.range - bound };
        probability.learn(yes);
        if self.range < RANGE_MIN {
            self.word();
            self.range <<= 32;
        }
        yes
    }
}

/// Reads decisions from the front of a payload. Reads as if zeros followed the payload; `finish` tells whether they were needed.
pub(super) struct RangeReader<'a> {
    payload: &'a [u8],
    at: usize,
    /// Where the written point lies above the interval's low end.
    offset: u64,
    range: u64,
    last_word: u32,
}

impl<'a> RangeReader<'a> {
    /// Begins at byte `at` of `payload`.
    pub(super) fn new(payload: &'a [u8], at: usize) -> Self {
        let mut reader = Self { payload, at, offset: 0, range: u64::MAX, last_word: 0 };
        reader.word();
        reader.word();
        reader
    }

    /// Where the decisions end and the rest of the payload begins.
    pub(super) fn finish(self) -> Result<usize, DecodeError> {
        let (end, slack, bound) = if self.range >= RANGE_ONE_WORD {
            (self.at - WORD_BYTES, u64::from(self.last_word), RANGE_MIN)
        } else {
            (self.at, 0, 1)
        };
        if end > self.payload.len() {
            return Err(DecodeError::Truncated { at: self.payload.len() });
        }
        // The writer names the first point it can: any other is damage.
        match self.offset.checked_sub(slack) {
            Some(offset) if offset < bound => Ok(end),
            _ => Err(DecodeError::Damaged { at: end }),
        }
    }

    #[inline]
    fn word(&mut self) {
        let word = match self.payload.get(self.at..self.at + WORD_BYTES) {
            Some(bytes) => u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            None => self.short_word(),
        };
        self.at += WORD_BYTES;
        self.last_word = word;
        self.offset = self.offset << 32 | u64::from(word);
    }

    #[cold]
    fn short_word(&self) -> u32 {
        let mut bytes = [0; WORD_BYTES];
        let rest = self.payload.get(self.at..).unwrap_or_default();
        bytes[..rest.len()].copy_from_slice(rest);
        u32::from_be_bytes(bytes)
    }
}

impl Decisions for RangeReader<'_> {
    #[inline]
    fn decide(&mut self, probability: &mut Probability, _: bool) -> bool {
        let bound = (self.range >> 16) * u64::from(probability.0);
        let yes = self.offset < bound;
        self.offset -= if yes { 0 } else { bound };
        self.range = if yes { bound } else { self.range - bound };
        probability.learn(yes);
        if self.range < RANGE_MIN {
            self.word();
            self.range <<= 32;
        }
        yes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decisions_come_back_whatever_follows(
            decisions in prop::collection::vec((0..3usize, prop::bool::weighted(0.1)), 0..400),
            tail in prop::collection::vec(any::<u8>(), 0..12),
            head in prop::collection::vec(Just(0xff), 0..3),
        ) {
            let mut out = head.clone();
            let mut models = [Probability::EVEN; 3];
            let mut writer = RangeWriter::new(&mut out);
            for (context, yes) in &decisions {
                writer.decide(&mut models[*context], *yes ^ (*context == 1));
            }
            writer.finish();
            let end = out.len();
            out.extend(tail);
            let mut learnt = [Probability::EVEN; 3];
            let mut reader = RangeReader::new(&out, head.len());
            for (context, yes) in &decisions {
                prop_assert_eq!(reader.decide(&mut learnt[*context], false), *yes ^ (*context == 1));
            }
            prop_assert_eq!(reader.finish(), Ok(end));
            prop_assert_eq!(learnt, models);
            prop_assert_eq!(&out[..head.len()], &head[..]);
        }
    }

    #[test]
    fn a_missing_word_is_noticed() {
        let mut out = Vec::new();
        let mut writer = RangeWriter::new(&mut out);
        for i in 0..100 {
            writer.decide(&mut Probability::EVEN.clone(), i % 3 == 0);
        }
        writer.finish();
        for len in 0..out.len() {
            let mut reader = RangeReader::new(&out[..len], 0);
            for _ in 0..100 {
                reader.decide(&mut Probability::EVEN.clone(), false);
            }
            assert_eq!(reader.finish(), Err(DecodeError::Truncated { at: len }));
        }
    }
}
