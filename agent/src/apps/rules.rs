//! Which metrics of an application are taken, and under which names: patterns with `*`.

/// What to do with the metrics of one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Only metrics that one of these means; all if there are none.
    pub keep: Vec<Pattern>,
    /// Of those, not these.
    pub drop: Vec<Pattern>,
    /// New names: the first pattern that means a metric; its `*` stands in the new name for what it stood for.
    pub rename: Vec<(Pattern, String)>,
    /// Labels that are left out. Series that are then the same are refused but for the first.
    pub drop_labels: Vec<String>,
}

/// A text in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern; `None` if it is empty or has more than one `*`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = !text.is_empty() && text.matches('*').count() <= 1;
        good.then(|| Self(text.to_owned()))
    }

    /// What `*` stands for, if the pattern means `name`.
    fn capture<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self.0.split_once('*') {
            None => (self.0 == name).then_some(""),
            Some((head, tail)) => name.strip_prefix(head)?.strip_suffix(tail),
        }
    }
}

impl Rules {
    /// The name under which a metric is taken; none if it is not.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<String> {
        let means = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.capture(name).is_some());
        if (!self.keep.is_empty() && !means(&self.keep)) || means(&self.drop) {
            return None;
        }
        let renamed = self.rename.iter().find_map(|(pattern, to)| Some(to.replacen('*', pattern.capture(name)?, 1)));
        Some(renamed.unwrap_or_else(|| name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_kept_dropped_and_renamed() {
        let list = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text).unwrap()).collect();
        let rules = Rules {
            keep: list(&["http_*", "up_*_total", "exact"]),
            drop: list(&["*_bucket"]),
            rename: vec![(Pattern::new("http_*").unwrap(), "web_*".into())],
            drop_labels: Vec::new(),
        };
        for (name, taken) in [
            ("http_requests_total", Some("web_requests_total")),
            ("http_seconds_bucket", None),
            ("up_x_total", Some("up_x_total")),
            ("up__total", Some("up__total")),
            ("up_total", None),
            ("exact", Some("exact")),
            ("exactly", None),
        ] {
            assert_eq!(rules.name(name).as_deref(), taken, "{name}");
        }
        assert_eq!(Rules::default().name("any").as_deref(), Some("any"));
        assert_eq!((Pattern::new(""), Pattern::new("a*b*")), (None, None));
    }
}
