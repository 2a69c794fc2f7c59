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
/// How fast a probability follows, by the number of decisions seen: a shift.
const RATES: [u8; 32] =
    [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6];

/// The chance that the next decision of a context is "yes", learnt from those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probability {
    /// In 1/65536.
    pub(super) yes: u16,
    /// Decisions seen, up to the last of `RATES`.
    pub(super) seen: u16,
}

impl Probability {
    /// Nothing seen yet.
    pub(super) const EVEN: Self = Self { yes: 1 << 15, seen: 0 };

    /// A probability read from outside, if it can be one of ours.
    pub(super) fn checked(yes: u16, seen: u16) -> Option<Self> {
        let margins = PROBABILITY_MARGIN..=u16::MAX - PROBABILITY_MARGIN;
        (margins.contains(&yes) && usize::from(seen) < RATES.len()).then_some(Self { yes, seen })
    }

    #[inline]
    fn learn(&mut self, yes: bool) {
        let rate = RATES[usize::from(self.seen) % RATES.len()];
        self.seen += u16::from(usize::from(self.seen) + 1 < RATES.len());
        let goal = if yes { u16::MAX - PROBABILITY_MARGIN } else { PROBABILITY_MARGIN };
        let step = (i32::from(goal) - i32::from(self.yes)) >> rate;
        self.yes = (i32::from(self.yes) + step) as u16;
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
        let bound = (self.range >> 16) * u64::from(probability.yes);
        if yes {
            self.range = bound;
        } else {
            self.advance(bound);
            self.range -= bound;
        }
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
        let bound = (self.range >> 16) * u64::from(probability.yes);
        let yes = self.offset < bound;
        if yes {
            self.range = bound;
        } else {
            self.offset -= bound;
            self.range -= bound;
        }
        probability.learn(yes);
        if self.range < RANGE_MIN {
            self.word();
            self.range <<= 32;
        }
        yes
    }
}
