//! Remote write as messages: what a request's bytes say, in versions 1.0 and 2.0 of the protocol, as rows for history.
//!
//! Owns the two messages, their bounds, and which series are no good. Leaves headers and status codes to [`crate::api`].
//! A request is read wholly or not at all; a series that is no good is left out, counted, and the rest is taken.
//!
//! `protobuf` reads fields, `message` the two messages; `compression` is the way to their bytes.

mod message;
mod protobuf;

use pitwatch_history::SeriesRows;
use pitwatch_shared::model::{INSTANCE, Labels, METRIC_NAME, MetricType};

pub use protobuf::Malformed;

/// Largest request, unpacked, in bytes. Prometheus sends some 0.5 MB, vmagent up to 8 MiB.
pub const UNPACKED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most memory that the series of a request may need.
pub const DECODED_MAX_BYTES: usize = 48 * 1024 * 1024;
/// Most texts of a request of version 2.0.
pub const SYMBOLS_MAX: usize = 256 * 1024;
/// What a label counts against [`DECODED_MAX_BYTES`] besides its text; and a series; and a sample.
const LABEL_COST_BYTES: usize = 64;
const SERIES_COST_BYTES: usize = 96;
const SAMPLE_COST_BYTES: usize = 16;

/// Which message a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    One,
    /// `io.prometheus.write.v2.Request`.
    Two,
}

/// What a request holds.
#[derive(Debug, Default)]
pub struct Request {
    /// The good series.
    pub series: Vec<SeriesRows>,
    /// Samples of series that are left out.
    pub refused_samples: u64,
    /// Native histograms; none is stored.
    pub histograms: u64,
    /// Why the first series that is left out is no good.
    pub reason: Option<String>,
}

/// Why nothing of a request is taken.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not snappy's block format.
    #[error("the body is not snappy's block format")]
    Snappy(#[from] snap::Error),
    /// Over a limit of size.
    #[error("{what} is over {limit}: send less at once")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, with its unit.
        limit: String,
    },
    /// Not the message that the content type names.
    #[error("the body is not the message that its content type names")]
    Malformed(#[from] Malformed),
    /// A reference to a text that is not there.
    #[error("a label refers to text {0}, there are {1}")]
    Symbol(u64, usize),
}

/// Unpacks a body.
///
/// # Errors
/// Not snappy's block format, or more than [`UNPACKED_MAX_BYTES`]; nothing is allocated then.
pub fn unpack(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if snap::raw::decompress_len(body)? > UNPACKED_MAX_BYTES {
        return Err(too_large("the request, unpacked,", UNPACKED_MAX_BYTES));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(body)?)
}

/// Reads an unpacked body. `is_agent` answers whether an agent has that name: its `instance` is its own.
///
/// # Errors
/// Not the message, or over a limit.
pub fn decode(version: Version, bytes: &[u8], is_agent: &dyn Fn(&str) -> bool) -> Result<Request, DecodeError> {
    let mut gather = Gather { request: Request::default(), cost_bytes: 0, is_agent };
    match version {
        Version::One => message::version_1(bytes, &mut gather)?,
        Version::Two => message::version_2(bytes, &mut gather)?,
    }
    Ok(gather.request)
}

fn too_large(what: &'static str, limit_bytes: usize) -> DecodeError {
    DecodeError::TooLarge { what, limit: format!("{limit_bytes} bytes") }
}

/// A request as far as it is read.
struct Gather<'a> {
    request: Request,
    cost_bytes: usize,
    is_agent: &'a dyn Fn(&str) -> bool,
}

impl Gather<'_> {
    /// Notes that memory is about to be needed.
    fn pay(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.cost_bytes += bytes;
        if self.cost_bytes <= DECODED_MAX_BYTES {
            Ok(())
        } else {
            Err(too_large("the decoded request", DECODED_MAX_BYTES))
        }
    }

    /// Takes one series, its labels in any order: vmagent does not sort them.
    fn series(
        &mut self,
        labels: &[(&[u8], &[u8])],
        kind: MetricType,
        samples: Vec<(i64, f64)>,
        histograms: u64,
    ) -> Result<(), DecodeError> {
        let text: usize = labels.iter().map(|(name, value)| name.len() + value.len() + LABEL_COST_BYTES).sum();
        self.pay(SERIES_COST_BYTES + text)?;
        self.request.histograms += histograms;
        if histograms > 0 {
            self.refuse(0, || "native histograms are not stored".to_owned());
        }
        match self.labels(labels) {
            Ok(_) if samples.is_empty() => {}
            Ok(labels) => self.request.series.push(SeriesRows { labels, kind, samples }),
            Err(reason) => self.refuse(samples.len(), || reason),
        }
        Ok(())
    }

    fn refuse(&mut self, samples: usize, reason: impl FnOnce() -> String) {
        self.request.refused_samples += samples as u64;
        self.request.reason.get_or_insert_with(reason);
    }

    fn labels(&self, pairs: &[(&[u8], &[u8])]) -> Result<Labels, String> {
        let mut texts = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                return Err("a label is not UTF-8".to_owned());
            };
            if name.is_empty() || value.is_empty() {
                return Err(format!("label {name:?} of {:?} is empty", shown(pairs)));
            }
            texts.push((name, value));
        }
        let labels = Labels::new(texts).map_err(|error| format!("{}: {error}", shown(pairs)))?;
        if labels.value(METRIC_NAME).is_none() {
            return Err(format!("{labels} has no {METRIC_NAME}"));
        }
        match labels.value(INSTANCE) {
            Some(instance) if (self.is_agent)(instance) => Err(format!(
                "{labels}: {INSTANCE} {instance:?} is an agent's: relabel it at the sender, or revoke and rename the agent"
            )),
            _ => Ok(labels),
        }
    }
}

/// The metric's name, for messages about labels that are none.
fn shown(pairs: &[(&[u8], &[u8])]) -> String {
    const SHOWN_MAX_CHARS: usize = 128;
    let name =
        pairs.iter().find(|(name, _)| *name == METRIC_NAME.as_bytes()).map_or(&b"a series"[..], |(_, value)| value);
    String::from_utf8_lossy(name).chars().take(SHOWN_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests;
