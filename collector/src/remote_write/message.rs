//! The two messages. Field numbers are those of Prometheus' `prompb/remote.proto`, `prompb/types.proto` and
//! `prompb/io/prometheus/write/v2/types.proto`.

use pitwatch_shared::model::MetricType;

use super::protobuf::{Fields, Malformed, Value};
use super::{DecodeError, Gather, SAMPLE_COST_BYTES, SYMBOLS_MAX};

/// `WriteRequest`: timeseries = 1, metadata = 3 (of whole metrics, and not kept).
pub(super) fn version_1(bytes: &[u8], gather: &mut Gather<'_>) -> Result<(), DecodeError> {
    let mut fields = Fields::new(bytes);
    let mut labels = Vec::new();
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            series_1(message(value, &fields)?, &mut labels, gather)?;
        }
    }
    Ok(())
}

/// `TimeSeries`: labels = 1, samples = 2, exemplars = 3 (not kept), histograms = 4.
fn series_1<'a>(
    bytes: &'a [u8],
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    gather: &mut Gather<'_>,
) -> Result<(), DecodeError> {
    let (mut samples, mut histograms) = (Vec::new(), 0);
    labels.clear();
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                gather.pay(size_of::<(&[u8], &[u8])>())?;
                labels.push(label(message(value, &fields)?)?);
            }
            2 => {
                gather.pay(SAMPLE_COST_BYTES)?;
                samples.push(sample(message(value, &fields)?)?);
            }
            4 => histograms += 1,
            _ => {}
        }
    }
    gather.series(labels, MetricType::Unknown, samples, histograms)
}

/// `Label`: name = 1, value = 2.
fn label(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut fields = Fields::new(bytes);
    let mut label: (&[u8], &[u8]) = (&[], &[]);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => label.0 = message(value, &fields)?,
            2 => label.1 = message(value, &fields)?,
            _ => {}
        }
    }
    Ok(label)
}

/// `Sample` of both versions: value = 1, timestamp = 2.
fn sample(bytes: &[u8]) -> Result<(i64, f64), Malformed> {
    let mut fields = Fields::new(bytes);
    let mut sample = (0, 0.0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => sample.1 = value.double().ok_or(fields.malformed())?,
            2 => sample.0 = value.varint().ok_or(fields.malformed())?.cast_signed(),
            _ => {}
        }
    }
    Ok(sample)
}

/// `Request`: symbols = 4, timeseries = 5; in any order, so that texts are read first.
pub(super) fn version_2(bytes: &[u8], gather: &mut Gather<'_>) -> Result<(), DecodeError> {
    let mut symbols: Vec<&[u8]> = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        if number == 4 {
            if symbols.len() == SYMBOLS_MAX {
                return Err(DecodeError::TooLarge {
                    what: "the list of symbols",
                    limit: format!("{SYMBOLS_MAX} texts"),
                });
            }
            symbols.push(message(value, &fields)?);
        }
    }
    let mut fields = Fields::new(bytes);
    let mut labels = Vec::new();
    while let Some((number, value)) = fields.next()? {
        if number == 5 {
            series_2(message(value, &fields)?, &symbols, &mut labels, gather)?;
        }
    }
    Ok(())
}

/// `TimeSeries`: labels_refs = 1, samples = 2, histograms = 3, exemplars = 4 (not kept), metadata = 5.
fn series_2<'a>(
    bytes: &[u8],
    symbols: &[&'a [u8]],
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    gather: &mut Gather<'_>,
) -> Result<(), DecodeError> {
    let (mut samples, mut histograms, mut kind) = (Vec::new(), 0, MetricType::Unknown);
    labels.clear();
    // The name whose value is to come: packed or not, references come one by one.
    let mut name = None;
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(packed)) => {
                let mut refs = Fields::new(packed);
                while !refs.is_empty() {
                    reference(refs.varint()?, symbols, &mut name, labels, gather)?;
                }
            }
            (1, Value::Varint(one)) => reference(one, symbols, &mut name, labels, gather)?,
            (2, _) => {
                gather.pay(SAMPLE_COST_BYTES)?;
                samples.push(sample(message(value, &fields)?)?);
            }
            (3, _) => histograms += 1,
            (5, _) => kind = metadata(message(value, &fields)?)?,
            _ => {}
        }
    }
    if name.is_some() {
        return Err(fields.malformed().into());
    }
    gather.series(labels, kind, samples, histograms)
}

fn reference<'a>(
    number: u64,
    symbols: &[&'a [u8]],
    name: &mut Option<&'a [u8]>,
    labels: &mut Vec<(&'a [u8], &'a [u8])>,
    gather: &mut Gather<'_>,
) -> Result<(), DecodeError> {
    let found = usize::try_from(number).ok().and_then(|at| symbols.get(at));
    let text = *found.ok_or(DecodeError::Symbol(number, symbols.len()))?;
    match name.take() {
        None => *name = Some(text),
        Some(name) => {
            gather.pay(size_of::<(&[u8], &[u8])>())?;
            labels.push((name, text));
        }
    }
    Ok(())
}

/// `Metadata`: type = 1.
fn metadata(bytes: &[u8]) -> Result<MetricType, Malformed> {
    let mut fields = Fields::new(bytes);
    let mut kind = 0;
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            kind = value.varint().ok_or(fields.malformed())?;
        }
    }
    Ok(match kind {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        5 => MetricType::Summary,
        _ => MetricType::Unknown,
    })
}

fn message<'a>(value: Value<'a>, fields: &Fields<'_>) -> Result<&'a [u8], Malformed> {
    value.bytes().ok_or(fields.malformed())
}
