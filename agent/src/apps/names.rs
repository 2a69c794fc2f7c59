//! Names of metrics and labels that come from outside.

use pitwatch_shared::limits;
use pitwatch_shared::model::{INSTANCE, MetricType};

use crate::signals::Metric;

/// Longest name of a metric, bytes: as long as a label's value may be that holds it.
const NAME_MAX_BYTES: usize = 512;
const _: () = assert!(NAME_MAX_BYTES <= limits::LABEL_VALUE_MAX_BYTES);

/// Keeps the labels of applications and the host's own apart.
#[derive(Clone, Debug, Default)]
pub struct Namer {
    host: Vec<String>,
}

impl Namer {
    /// Beside these labels of the host.
    #[must_use]
    pub fn new(host: &[(String, String)]) -> Self {
        Self { host: host.iter().map(|(name, _)| name.clone()).collect() }
    }

    /// A label's name: plain, and `exported_` before it where the host has one of that name, as Prometheus does.
    #[must_use]
    pub fn label(&self, name: &str) -> String {
        let plain = plain(name, false);
        let taken = plain == INSTANCE || plain.starts_with("__") || self.host.contains(&plain);
        if taken { format!("exported_{plain}") } else { plain }
    }
}

/// A metric's name with `_` for what no name may have; none if nothing is left or it is too long.
#[must_use]
pub fn metric_name(name: &str) -> Option<String> {
    let has_any = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (has_any && name.len() < NAME_MAX_BYTES).then(|| plain(name, true))
}

fn plain(name: &str, of_metric: bool) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    for c in name.chars() {
        let fits = c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':');
        if out.is_empty() && c.is_ascii_digit() {
            out.push('_');
        }
        out.push(if fits { c } else { '_' });
    }
    out
}

/// A metric of which only the type is known.
pub(crate) fn of_kind(kind: MetricType) -> &'static Metric {
    static KINDS: [Metric; 5] = [
        Metric::untyped("", "", "", ""),
        Metric::counter("", "", "", ""),
        Metric::gauge("", "", "", ""),
        Metric { kind: MetricType::Histogram, ..Metric::untyped("", "", "", "") },
        Metric { kind: MetricType::Summary, ..Metric::untyped("", "", "", "") },
    ];
    &KINDS[kind as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_plain() {
        assert_eq!(metric_name("web.api-v2/hits").as_deref(), Some("web_api_v2_hits"));
        assert_eq!(metric_name("9lives").as_deref(), Some("_9lives"));
        assert_eq!(metric_name("größe").as_deref(), Some("gr__e"));
        assert_eq!((metric_name("..."), metric_name(&"x".repeat(600))), (None, None));
        let namer = Namer::new(&[("job".into(), "node".into())]);
        assert_eq!(namer.label("job"), "exported_job");
        assert_eq!(namer.label("instance"), "exported_instance");
        assert_eq!(namer.label("a.b"), "a_b");
        for kind in [MetricType::Unknown, MetricType::Counter, MetricType::Histogram, MetricType::Summary] {
            assert_eq!(of_kind(kind).kind, kind);
        }
    }
}
