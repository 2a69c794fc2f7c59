//! The bytes of rows in the log (docs/formats/wal.md): each series by its number, a new one with its labels; each
//! timestamp as the change since the sample before it in the record; each value as the bytes that differ from the
//! series' last one.

use pitwatch_shared::model::{Labels, MetricType};

use crate::bytes::{Fields, Malformed, put_blob, put_i64, put_u64};

/// The record's first byte: its numbers go on, or begin anew.
const GOES_ON: u8 = 0;
const BEGINS: u8 = 1;
/// Bits of a sample's first byte. Above them: three for the equal bytes at the high end, three for those at the low end.
const SAME_TIME: u8 = 1;
const SAME_VALUE: u8 = 2;

/// Writes one record.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
    /// The number after the last series.
    next: u32,
    ts_ms: i64,
}

impl Writer {
    /// A record whose numbers go on from the last one's, or begin anew.
    pub(crate) fn new(begins: bool) -> Self {
        Self { out: vec![if begins { BEGINS } else { GOES_ON }], next: 0, ts_ms: 0 }
    }

    /// Begins a series with `samples` samples; `new` if it had no number before.
    pub(crate) fn series(&mut self, number: u32, samples: usize, new: Option<(&Labels, MetricType)>) {
        let step = i64::from(number) - i64::from(self.next);
        self.next = number + 1;
        // A number that steps on and one sample are what there is mostly: one byte.
        let folded = ((step << 1) ^ (step >> 63)) as u64;
        put_u64(&mut self.out, folded << 1 | u64::from(samples != 1));
        if samples != 1 {
            put_u64(&mut self.out, samples as u64);
        }
        if let Some((labels, kind)) = new {
            self.out.push(kind as u8);
            put_u64(&mut self.out, labels.iter().len() as u64);
            for (name, value) in labels.iter() {
                put_blob(&mut self.out, name.as_bytes());
                put_blob(&mut self.out, value.as_bytes());
            }
        }
    }

    /// A sample of the series; `before` is its last value.
    pub(crate) fn sample(&mut self, ts_ms: i64, before: u64, bits: u64) {
        let (same_time, xor) = (ts_ms == self.ts_ms, bits ^ before);
        let mut first = if same_time { SAME_TIME } else { 0 };
        let (high, low) = ((xor.leading_zeros() / 8) as u8, (xor.trailing_zeros() / 8) as u8);
        first |= if xor == 0 { SAME_VALUE } else { high << 2 | low << 5 };
        self.out.push(first);
        if !same_time {
            put_i64(&mut self.out, ts_ms.wrapping_sub(self.ts_ms));
            self.ts_ms = ts_ms;
        }
        if xor != 0 {
            self.out.extend_from_slice(&xor.to_le_bytes()[usize::from(low)..8 - usize::from(high)]);
        }
    }

    /// The record's bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// What a record says next.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    /// A series, and its labels if it is new.
    Series(u32, Option<(Labels, MetricType)>),
    /// A sample of it: time, and what its value's bits differ by from the last one's.
    Sample(i64, u64),
}

/// Reads one record.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    fields: Fields<'a>,
    pub(crate) begins: bool,
    next: u32,
    ts_ms: i64,
    /// Samples of the series that are to come.
    left: usize,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    pub(crate) fn new(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        let begins = match fields.byte()? {
            GOES_ON => false,
            BEGINS => true,
            _ => return Err(Malformed),
        };
        Ok(Self { fields, begins, next: 0, ts_ms: 0, left: 0 })
    }

    /// The next part; none at the end. `known` is how many numbers are given: the one after them is a new series'.
    pub(crate) fn next(&mut self, known: u32) -> Result<Option<Part>, Malformed> {
        if self.left > 0 {
            self.left -= 1;
            return self.sample().map(Some);
        }
        if self.fields.is_empty() {
            return Ok(None);
        }
        let head = self.fields.u64()?;
        let step = (head >> 2) as i64 ^ -((head >> 1 & 1) as i64);
        let number = i64::from(self.next).checked_add(step).ok_or(Malformed)?;
        let number = u32::try_from(number).ok().filter(|number| *number <= known).ok_or(Malformed)?;
        self.next = number.checked_add(1).ok_or(Malformed)?;
        self.left = if head & 1 == 0 { 1 } else { self.fields.usize()? };
        let new = if number == known { Some(self.labels()?) } else { None };
        Ok(Some(Part::Series(number, new)))
    }

    fn labels(&mut self) -> Result<(Labels, MetricType), Malformed> {
        let kind = MetricType::from_byte(self.fields.byte()?).ok_or(Malformed)?;
        let mut pairs = Vec::new();
        for _ in 0..self.fields.count(2)? {
            pairs.push((self.fields.text()?, self.fields.text()?));
        }
        Ok((Labels::new(pairs).map_err(|_| Malformed)?, kind))
    }

    fn sample(&mut self) -> Result<Part, Malformed> {
        let first = self.fields.byte()?;
        if first & SAME_TIME == 0 {
            self.ts_ms = self.ts_ms.wrapping_add(self.fields.i64()?);
        }
        let mut xor = [0; 8];
        if first & SAME_VALUE == 0 {
            let (high, low) = (usize::from(first >> 2 & 7), usize::from(first >> 5));
            let range = low..8_usize.checked_sub(high).filter(|end| *end > low).ok_or(Malformed)?;
            xor[range.clone()].copy_from_slice(self.fields.take(range.len())?);
        }
        Ok(Part::Sample(self.ts_ms, u64::from_le_bytes(xor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(nth: u32) -> Labels {
        Labels::new([("__name__", "up".to_owned()), ("i", nth.to_string())]).unwrap()
    }

    fn read(payload: &[u8], mut known: u32) -> Result<Vec<Part>, Malformed> {
        let mut reader = Reader::new(payload)?;
        let mut parts = Vec::new();
        while let Some(part) = reader.next(known)? {
            known += u32::from(matches!(&part, Part::Series(_, Some(_))));
            parts.push(part);
        }
        Ok(parts)
    }

    proptest! {
        #[test]
        fn records_come_back(
            begins: bool,
            series in proptest::collection::vec(
                (any::<bool>(), any::<u32>(), proptest::collection::vec((any::<i64>(), any::<u64>(), any::<u64>()), 0..4)),
                0..8,
            ),
        ) {
            let (mut writer, mut expected, mut known) = (Writer::new(begins), Vec::new(), 3);
            for (new, pick, samples) in &series {
                let number = if *new { known } else { pick % known };
                let labels = labels(number);
                let new = new.then_some((&labels, MetricType::Counter));
                writer.series(number, samples.len(), new);
                expected.push(Part::Series(number, new.map(|(labels, kind)| (labels.clone(), kind))));
                known += u32::from(new.is_some());
                for (ts, before, bits) in samples {
                    writer.sample(*ts, *before, *bits);
                    expected.push(Part::Sample(*ts, before ^ bits));
                }
            }
            let payload = writer.finish();
            prop_assert_eq!(Reader::new(&payload).unwrap().begins, begins);
            prop_assert_eq!(read(&payload, 3), Ok(expected));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, known in 0_u32..5) {
            let _ = read(&bytes, known);
        }
    }

    #[test]
    fn a_scrape_costs_two_bytes_for_a_sample_that_did_not_change() {
        let mut writer = Writer::new(false);
        for number in 0..1000 {
            writer.series(number, 1, None);
            writer.sample(1_700_000_000_000, 7, 7);
        }
        assert!(writer.finish().len() <= 2020);
    }
}
