//! One series' values in a block as bytes, and back, bit for bit.
//!
//! Most values that machines export are short decimals: they are scaled to integers, and those are a constant, a
//! slope, or go through pco. What is no such decimal (stale markers, other NaNs, -0.0, long fractions) is listed
//! apart if it is rare; else the column is pco over the floats, or the plain bits.

mod integers;

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec};

use crate::bytes::{Fields, Malformed, put_blob, put_i64, put_u64};
pub(crate) use integers::Integers;

/// Most values of a column.
pub(crate) const COLUMN_VALUES_MAX: usize = 1 << 16;

/// pco's effort; 8 of 12 (docs/formats/block.md).
const PCO_LEVEL: usize = 8;
/// Numbers that are decoded at once: a multiple of pco's batches of 256.
const PCO_READ: usize = 1024;
/// Largest power of ten that values are scaled by.
const EXPONENT_MAX: u8 = 15;
/// A value in so many may be an exception before the column is not one of decimals.
const EXCEPTION_EVERY: usize = 16;
/// A column that changes at most at one value in so many is kept as its steps.
const STEP_EVERY: usize = 8;
/// Integers beyond this are not all floats.
const INTEGER_MAX: f64 = (1_i64 << 53) as f64;

const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

const KIND_CONSTANT: u8 = 0;
const KIND_SLOPE: u8 = 1;
const KIND_PCO_U16: u8 = 2;
const KIND_PCO_U32: u8 = 3;
const KIND_PCO_I64: u8 = 4;
const KIND_PCO_F64: u8 = 5;
const KIND_PLAIN: u8 = 6;
const KIND_STEPS: u8 = 7;
const KIND_MASK: u8 = 7;
const HAS_EXCEPTIONS: u8 = 8;

/// How a file's pco parts are read: its version of pco's format.
#[derive(Clone, Debug)]
pub(crate) struct PcoFormat {
    file: FileDecompressor,
    bytes: [u8; Self::BYTES],
}

impl PcoFormat {
    /// Bytes that name a version.
    pub(crate) const BYTES: usize = 2;

    /// The version of the bytes in a file.
    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Result<Self, Malformed> {
        FileDecompressor::new(&bytes[..]).map(|(file, _)| Self { file, bytes }).map_err(|_| Malformed)
    }

    /// Whether columns of this version may stand beside those that [`encode`] writes.
    pub(crate) fn is_current(&self) -> bool {
        self.bytes == Self::current()
    }

    /// The bytes of the version that [`encode`] writes.
    pub(crate) fn current() -> [u8; Self::BYTES] {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = FileCompressor::default().write_header(&mut bytes);
        [bytes.first().copied().unwrap_or(0), bytes.get(1).copied().unwrap_or(0)]
    }
}

/// The runs (first and count) of ticks that have a value.
pub(crate) fn ranges(has: impl Iterator<Item = bool>) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (tick, _) in has.enumerate().filter(|(_, has)| *has) {
        match ranges.last_mut() {
            Some((from, count)) if *from + *count == tick => *count += 1,
            _ => ranges.push((tick, 1)),
        }
    }
    ranges
}

/// Appends the column of `values`, which are bits of floats.
pub(crate) fn encode(values: &[u64], out: &mut Vec<u8>) {
    let begin = out.len();
    if encode_decimal(values, out) {
        return;
    }
    out.truncate(begin);
    let floats: Vec<f64> = values.iter().copied().map(f64::from_bits).collect();
    out.push(KIND_PCO_F64);
    if put_pco(&floats, out).is_some() && out.len() - begin <= values.len() * 8 && is_same(values, &out[begin..]) {
        return;
    }
    out.truncate(begin);
    out.push(KIND_PLAIN);
    out.extend(values.iter().flat_map(|bits| bits.to_le_bytes()));
}

/// Appends the `count` values of a column to `out`.
pub(crate) fn decode(pco: &PcoFormat, column: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    if count > COLUMN_VALUES_MAX {
        return Err(Malformed);
    }
    let mut fields = Fields::new(column);
    let tag = fields.byte()?;
    let power = POWERS[usize::from(tag >> 4)];
    let begin = out.len();
    let exceptions = take_exceptions(&mut fields, tag, count)?;
    match tag & KIND_MASK {
        KIND_PCO_F64 => take_pco::<f64>(pco, &mut fields, count, |part| out.extend_from_slice(part))?,
        KIND_PCO_U16 => {
            let least = fields.i64()? as f64;
            take_pco::<u16>(pco, &mut fields, count, |part| put_scaled(part, least, power, out))?;
        }
        KIND_PCO_U32 => {
            let least = fields.i64()? as f64;
            take_pco::<u32>(pco, &mut fields, count, |part| put_scaled(part, least, power, out))?;
        }
        KIND_PLAIN => {
            for _ in 0..count {
                out.push(f64::from_bits(fields.fixed_u64()?));
            }
        }
        kind => take_integers(pco, kind, &mut fields, count, |integer| integer as f64 / power, out)?,
    }
    for (at, bits) in exceptions {
        out[begin + at] = f64::from_bits(bits);
    }
    if fields.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// Appends integers that were scaled by `power`, as floats. What was scaled has no integer that is no float, nor is a sum of
/// two such; adding floats is what a processor does by the handful, and dividing what it is slowest at.
fn put_scaled<T: Copy + Into<f64>>(offsets: &[T], least: f64, power: f64, out: &mut Vec<f64>) {
    if power == 1.0 {
        out.extend(offsets.iter().map(|offset| least + (*offset).into()));
    } else {
        out.extend(offsets.iter().map(|offset| (least + (*offset).into()) / power));
    }
}

/// Appends integers, as a block keeps its timestamps.
pub(crate) fn encode_integers(integers: &[i64], out: &mut Vec<u8>) {
    let begin = out.len();
    // Without steps: a column of steps has such a part, which is not to nest.
    if put_integers(integers, 0, &[], false, out).is_some() {
        return;
    }
    out.truncate(begin);
    out.push(KIND_PLAIN);
    out.extend(integers.iter().flat_map(|integer| integer.to_le_bytes()));
}

/// As [`decode_integers`], with constants and slopes as what they are.
pub(crate) fn decode_lines(pco: &PcoFormat, column: &[u8], count: usize) -> Result<Integers, Malformed> {
    if count > COLUMN_VALUES_MAX {
        return Err(Malformed);
    }
    let mut fields = Fields::new(column);
    let (first, step) = match fields.byte()? {
        KIND_CONSTANT => (fields.i64()?, 0),
        KIND_SLOPE => (fields.i64()?, fields.i64()?),
        _ => return Ok(Integers::Listed(decode_integers(pco, column, count)?)),
    };
    if fields.is_empty() { Ok(Integers::Line { first, step, count }) } else { Err(Malformed) }
}

/// The `count` integers of [`encode_integers`].
pub(crate) fn decode_integers(pco: &PcoFormat, column: &[u8], count: usize) -> Result<Vec<i64>, Malformed> {
    if count > COLUMN_VALUES_MAX {
        return Err(Malformed);
    }
    let mut fields = Fields::new(column);
    let mut integers = Vec::with_capacity(count);
    match fields.byte()? {
        KIND_PLAIN => {
            for _ in 0..count {
                integers.push(fields.fixed_u64()? as i64);
            }
        }
        KIND_STEPS => return Err(Malformed),
        kind => take_integers(pco, kind, &mut fields, count, |integer| integer, &mut integers)?,
    }
    if fields.is_empty() { Ok(integers) } else { Err(Malformed) }
}

/// Whether the column is one of decimals, and comes back bit for bit.
fn encode_decimal(values: &[u64], out: &mut Vec<u8>) -> bool {
    let Some(exponent) = common_exponent(values) else { return false };
    let mut integers = Vec::with_capacity(values.len());
    let mut exceptions = Vec::new();
    for (at, bits) in values.iter().enumerate() {
        match scaled(*bits, exponent) {
            Some(integer) => integers.push(integer),
            None => {
                exceptions.push((at, *bits));
                // Repeats what came before, so that it costs nothing.
                integers.push(integers.last().copied().unwrap_or(0));
            }
        }
    }
    if exceptions.len() * EXCEPTION_EVERY > values.len().max(EXCEPTION_EVERY) {
        return false;
    }
    if let Some((first, _)) = exceptions.first()
        && *first == 0
        && let Some(integer) = values.iter().find_map(|bits| scaled(*bits, exponent))
    {
        // Exceptions at the begin repeat the first value after them.
        let leading = exceptions.iter().enumerate().take_while(|(nth, (at, _))| nth == at).count();
        integers[..leading].fill(integer);
    }
    let begin = out.len();
    put_integers(&integers, exponent, &exceptions, true, out).is_some() && is_same(values, &out[begin..])
}

fn put_integers(
    integers: &[i64],
    exponent: u8,
    exceptions: &[(usize, u64)],
    may_step: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (&first, &second) = (integers.first()?, integers.get(1).unwrap_or(integers.first()?));
    let tag = exponent << 4 | if exceptions.is_empty() { 0 } else { HAS_EXCEPTIONS };
    let step = second.wrapping_sub(first);
    if integers.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
        out.push(tag | if step == 0 { KIND_CONSTANT } else { KIND_SLOPE });
        put_exceptions(exceptions, out);
        put_i64(out, first);
        if step != 0 {
            put_i64(out, step);
        }
        return Some(());
    }
    let steps = integers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if may_step && steps * STEP_EVERY <= integers.len() {
        out.push(tag | KIND_STEPS);
        put_exceptions(exceptions, out);
        return put_steps(integers, out);
    }
    let (least, most) = integers.iter().fold((first, first), |(least, most), i| (least.min(*i), most.max(*i)));
    // The smaller the type, the smaller pco's tables.
    match most.wrapping_sub(least) as u64 {
        0..=0xffff => {
            out.push(tag | KIND_PCO_U16);
            put_exceptions(exceptions, out);
            put_i64(out, least);
            put_pco_delta(&offsets::<u16>(integers, least, |offset| offset as u16), out)
        }
        0x1_0000..=0xffff_ffff => {
            out.push(tag | KIND_PCO_U32);
            put_exceptions(exceptions, out);
            put_i64(out, least);
            put_pco_delta(&offsets::<u32>(integers, least, |offset| offset as u32), out)
        }
        _ => {
            out.push(tag | KIND_PCO_I64);
            put_exceptions(exceptions, out);
            put_pco_delta(integers, out)
        }
    }
}

/// The first integer, and how far apart and how high its steps are.
fn put_steps(integers: &[i64], out: &mut Vec<u8>) -> Option<()> {
    let (mut gaps, mut heights) = (Vec::new(), Vec::new());
    let mut last = 0;
    for (at, pair) in integers.windows(2).enumerate().filter(|(_, pair)| pair[0] != pair[1]) {
        gaps.push((at - last) as i64);
        heights.push(pair[1].wrapping_sub(pair[0]));
        last = at + 1;
    }
    put_i64(out, *integers.first()?);
    put_u64(out, gaps.len() as u64);
    for part in [gaps, heights] {
        let mut bytes = Vec::new();
        encode_integers(&part, &mut bytes);
        put_blob(out, &bytes);
    }
    Some(())
}

/// Appends to `out` what `convert` makes of the integers of [`put_integers`], after its tag and exceptions. By whole
/// runs, not value by value: most columns are one run, and the others' loops are the compiler's to unroll.
fn take_integers<T: Copy>(
    pco: &PcoFormat,
    kind: u8,
    fields: &mut Fields<'_>,
    count: usize,
    convert: impl Fn(i64) -> T,
    out: &mut Vec<T>,
) -> Result<(), Malformed> {
    match kind {
        KIND_CONSTANT => {
            let integer = fields.i64()?;
            out.resize(out.len() + count, convert(integer));
        }
        KIND_SLOPE => {
            let (first, step) = (fields.i64()?, fields.i64()?);
            out.extend((0..count as i64).map(|at| convert(first.wrapping_add(at.wrapping_mul(step)))));
        }
        KIND_PCO_U16 => {
            let least = fields.i64()?;
            let convert = |offset: &u16| convert(least.wrapping_add(i64::from(*offset)));
            take_pco(pco, fields, count, |part| out.extend(part.iter().map(convert)))?;
        }
        KIND_PCO_U32 => {
            let least = fields.i64()?;
            let convert = |offset: &u32| convert(least.wrapping_add(i64::from(*offset)));
            take_pco(pco, fields, count, |part| out.extend(part.iter().map(convert)))?;
        }
        KIND_PCO_I64 => {
            let convert = |integer: &i64| convert(*integer);
            take_pco(pco, fields, count, |part| out.extend(part.iter().map(convert)))?;
        }
        KIND_STEPS => {
            let mut integer = fields.i64()?;
            let steps = fields.usize()?;
            if steps >= count {
                return Err(Malformed);
            }
            let gaps = decode_integers(pco, fields.blob()?, steps)?;
            let heights = decode_integers(pco, fields.blob()?, steps)?;
            let mut left = count;
            for (gap, height) in gaps.into_iter().zip(heights) {
                let run = usize::try_from(gap).ok().and_then(|gap| gap.checked_add(1)).ok_or(Malformed)?;
                left = left.checked_sub(run).ok_or(Malformed)?;
                out.resize(out.len() + run, convert(integer));
                integer = integer.wrapping_add(height);
            }
            out.resize(out.len() + left, convert(integer));
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

fn offsets<T>(integers: &[i64], least: i64, narrow: impl Fn(i64) -> T) -> Vec<T> {
    integers.iter().map(|integer| narrow(integer.wrapping_sub(least))).collect()
}

fn put_exceptions(exceptions: &[(usize, u64)], out: &mut Vec<u8>) {
    if exceptions.is_empty() {
        return;
    }
    put_u64(out, exceptions.len() as u64);
    let mut next = 0;
    for (at, bits) in exceptions {
        put_u64(out, (at - next) as u64);
        out.extend_from_slice(&bits.to_le_bytes());
        next = at + 1;
    }
}

fn take_exceptions(fields: &mut Fields<'_>, tag: u8, count: usize) -> Result<Vec<(usize, u64)>, Malformed> {
    let mut exceptions = Vec::new();
    if tag & HAS_EXCEPTIONS == 0 {
        return Ok(exceptions);
    }
    let mut next = 0_usize;
    for _ in 0..fields.count(9)? {
        let at = next.checked_add(fields.usize()?).filter(|at| *at < count).ok_or(Malformed)?;
        exceptions.push((at, fields.fixed_u64()?));
        next = at + 1;
    }
    Ok(exceptions)
}

/// The least power of ten that makes integers of nearly all values.
fn common_exponent(values: &[u64]) -> Option<u8> {
    let mut exponent = 0;
    let mut failed = 0;
    let mut previous = None;
    for bits in values.iter().copied() {
        // Runs of one value are common.
        if previous == Some(bits) {
            continue;
        }
        previous = Some(bits);
        match (exponent..=EXPONENT_MAX).find(|exponent| scaled(bits, *exponent).is_some()) {
            Some(needed) => exponent = needed,
            None => {
                failed += 1;
                if failed * EXCEPTION_EVERY > values.len().max(EXCEPTION_EVERY) {
                    return None;
                }
            }
        }
    }
    Some(exponent)
}

/// The integer that, divided by the power of ten, is the value again, by its bits.
fn scaled(bits: u64, exponent: u8) -> Option<i64> {
    let value = f64::from_bits(bits);
    let power = POWERS[usize::from(exponent)];
    let integer = (value * power).round_ties_even();
    if integer.abs() > INTEGER_MAX || !integer.is_finite() {
        return None;
    }
    (((integer as i64) as f64 / power).to_bits() == bits).then_some(integer as i64)
}

fn is_same(values: &[u64], column: &[u8]) -> bool {
    let mut back = Vec::with_capacity(values.len());
    let Ok(pco) = PcoFormat::from_bytes(PcoFormat::current()) else { return false };
    decode(&pco, column, values.len(), &mut back).is_ok()
        && back.iter().map(|value| value.to_bits()).eq(values.iter().copied())
}

/// pco's own choice of deltas, or first differences if they are smaller: it often misses those of a stepping gauge.
fn put_pco_delta<T: pco::data_types::Number>(numbers: &[T], out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    put_pco_with(numbers, DeltaSpec::Auto, out)?;
    let mut other = Vec::new();
    put_pco_with(numbers, DeltaSpec::TryConsecutive(1), &mut other)?;
    if other.len() < out.len() - begin {
        out.truncate(begin);
        out.extend_from_slice(&other);
    }
    Some(())
}

fn put_pco<T: pco::data_types::Number>(numbers: &[T], out: &mut Vec<u8>) -> Option<()> {
    put_pco_with(numbers, DeltaSpec::Auto, out)
}

fn put_pco_with<T: pco::data_types::Number>(numbers: &[T], delta: DeltaSpec, out: &mut Vec<u8>) -> Option<()> {
    let config = ChunkConfig::default().with_compression_level(PCO_LEVEL).with_delta_spec(delta);
    let mut chunk = FileCompressor::default().chunk_compressor(numbers, &config).ok()?;
    chunk.write_meta(&mut *out).ok()?;
    chunk.write_page(0, &mut *out).ok()?;
    Some(())
}

/// Hands `each` the `count` numbers of the rest of a column, so many at a time that they are still in the cache.
fn take_pco<T>(
    pco: &PcoFormat,
    fields: &mut Fields<'_>,
    count: usize,
    mut each: impl FnMut(&[T]),
) -> Result<(), Malformed>
where
    T: pco::data_types::Number + Default,
{
    let bytes = fields.take(fields.rest().len())?;
    let (mut chunk, rest) = pco.file.chunk_decompressor::<T, _>(bytes).map_err(|_| Malformed)?;
    let mut page = chunk.page_decompressor(rest, count).map_err(|_| Malformed)?;
    let mut part = [T::default(); PCO_READ];
    let mut left = count;
    while left > 0 {
        let part = &mut part[..left.min(PCO_READ)];
        let progress = page.read(part).map_err(|_| Malformed)?;
        if progress.n_processed != part.len() {
            return Err(Malformed);
        }
        each(part);
        left -= part.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_shared::model::STALE_NAN_BITS;
    use proptest::prelude::*;

    fn pco() -> PcoFormat {
        PcoFormat::from_bytes(PcoFormat::current()).unwrap()
    }

    fn round_trip(values: &[u64]) -> usize {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut back = Vec::new();
        decode(&pco(), &out, values.len(), &mut back).unwrap();
        assert_eq!(back.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), values);
        out.len()
    }

    fn bits(values: impl IntoIterator<Item = f64>) -> Vec<u64> {
        values.into_iter().map(f64::to_bits).collect()
    }

    #[test]
    fn constants_and_slopes_cost_a_few_bytes() {
        assert!(round_trip(&bits([0.25; 720])) <= 3);
        assert!(round_trip(&bits((0..720).map(|i| f64::from(i) / 10.0))) <= 4);
        let mut ending = bits([42.0; 720]);
        ending.push(STALE_NAN_BITS);
        assert!(round_trip(&ending) <= 16);
        let mut starting = bits([f64::NAN, -0.0]);
        starting.extend(bits([42.0; 720]));
        assert!(round_trip(&starting) <= 24);
    }

    #[test]
    fn odd_values_come_back() {
        round_trip(&bits([
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            f64::INFINITY,
            -0.0,
            0.1 + 0.2,
            1e300,
            9007199254740993.0,
        ]));
        round_trip(&[STALE_NAN_BITS, 0x7ff8_0000_0000_0001, 0xfff0_0000_0000_0001, u64::MAX]);
        round_trip(&bits([0.0]));
        round_trip(&(0..5000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn any_bits_come_back(values in proptest::collection::vec(any::<u64>(), 1..200)) {
            round_trip(&values);
        }

        #[test]
        fn decimals_come_back(
            values in proptest::collection::vec((-1_000_000_i64..1_000_000, 0_u8..4, 0_u8..40), 1..400)
        ) {
            let values: Vec<u64> = values.iter().map(|(integer, exponent, odd)| match odd {
                0 => STALE_NAN_BITS,
                1 => (-0.0_f64).to_bits(),
                _ => (*integer as f64 / POWERS[usize::from(*exponent)]).to_bits(),
            }).collect();
            round_trip(&values);
        }

        #[test]
        fn integers_come_back(
            integers in proptest::collection::vec(any::<i64>(), 1..100),
            small in proptest::collection::vec(0_i64..3000, 1..300),
            (first, step, count) in (-1_000_000_i64..1_000_000, -70_000_i64..70_000, 1_i64..300),
        ) {
            let line: Vec<i64> = (0..count).map(|at| first + at * step).collect();
            for integers in [integers, small, line] {
                let mut out = Vec::new();
                encode_integers(&integers, &mut out);
                let lines = decode_lines(&pco(), &out, integers.len()).unwrap();
                prop_assert!((0..integers.len()).all(|at| lines.at(at) == integers[at]) && lines.len() == integers.len());
                let (least, most) = (*integers.iter().min().unwrap(), *integers.iter().max().unwrap());
                prop_assert!(lines.are_within(least, most) || least < most && most.checked_sub(least).is_none());
                prop_assert!(!lines.are_within(least.saturating_add(1), most) || least == i64::MAX);
                prop_assert_eq!(lines.sum(0..integers.len()), integers.iter().fold(0, |sum, one| one.wrapping_add(sum)));
                prop_assert_eq!(decode_integers(&pco(), &out, integers.len()), Ok(integers));
            }
        }

        #[test]
        fn any_bytes_decode_to_something(column: Vec<u8>, count in 0_usize..3000) {
            let _ = decode(&pco(), &column, count, &mut Vec::new());
            let integers = decode_integers(&pco(), &column, count);
            let lines = decode_lines(&pco(), &column, count);
            prop_assert_eq!(integers.map(|all| all.len()), lines.map(|lines| lines.len()));
        }
    }
}
