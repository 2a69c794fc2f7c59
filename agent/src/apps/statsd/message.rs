//! The lines of StatsD and DogStatsD: `name:value|type|@rate|#tag:value,…`.

/// What a line does to its series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Adds to a counter.
    Count,
    /// Sets a gauge, or moves it if the value has a sign.
    Gauge,
    /// A measurement; of milliseconds if it is a timer.
    Sample {
        /// The unit of the value is the millisecond.
        is_timer: bool,
    },
    /// One of a set of different values.
    Set,
}

/// A line, taken apart but not copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message<'a> {
    /// The metric's name as it is written.
    pub name: &'a str,
    /// One or several values, `:` between them.
    pub values: &'a str,
    /// What they are.
    pub kind: Kind,
    /// Each stands for so many: one over the sample rate.
    pub weight: f64,
    /// `name:value` pairs, `,` between them.
    pub tags: &'a str,
}

/// The smallest sample rate that is believed.
const RATE_MIN: f64 = 1e-6;

impl<'a> Message<'a> {
    /// Reads a line; none if it is no metric.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        // Events and service checks of DogStatsD are no metrics.
        if line.starts_with("_e{") || line.starts_with("_sc|") {
            return None;
        }
        let (head, rest) = line.split_once('|')?;
        let (name, values) = head.split_once(':')?;
        let mut parts = rest.split('|');
        let kind = match parts.next()? {
            "c" => Kind::Count,
            "g" => Kind::Gauge,
            "ms" => Kind::Sample { is_timer: true },
            "h" | "d" => Kind::Sample { is_timer: false },
            "s" => Kind::Set,
            _ => return None,
        };
        let (mut weight, mut tags) = (1.0, "");
        for part in parts {
            if let Some(rate) = part.strip_prefix('@') {
                let rate: f64 = rate.parse().ok()?;
                if !(RATE_MIN..=1.0).contains(&rate) {
                    return None;
                }
                weight = 1.0 / rate;
            } else if let Some(list) = part.strip_prefix('#') {
                tags = list;
            }
            // Containers (`c:`) and times (`T`) of later protocols say nothing here.
        }
        (!name.is_empty() && !values.is_empty()).then_some(Self { name, values, kind, weight, tags })
    }

    /// The tags that have a value.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.tags.split(',').filter_map(|tag| tag.split_once(':'))
    }
}

/// A finite number, or none.
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_both_protocols_are_read() {
        let message = Message::parse("web.requests:3|c|@0.1|#route:/a,code:200,bare").unwrap();
        assert_eq!((message.name, message.values, message.kind), ("web.requests", "3", Kind::Count));
        assert!((message.weight - 10.0).abs() < 1e-9);
        assert_eq!(message.tags().collect::<Vec<_>>(), [("route", "/a"), ("code", "200")]);
        let message = Message::parse("t:1:2:3|d|c:abc|T1656581400").unwrap();
        assert_eq!((message.values, message.kind), ("1:2:3", Kind::Sample { is_timer: false }));
        assert_eq!(Message::parse("t:320|ms").unwrap().kind, Kind::Sample { is_timer: true });
        for wrong in [
            "",
            "a",
            "a:1",
            "a|c",
            ":1|c",
            "a:|c",
            "a:1|x",
            "a:1|c|@0",
            "a:1|c|@2",
            "a:1|c|@x",
            "_e{1,1}:a|b",
            "_sc|a|0",
        ] {
            assert_eq!(Message::parse(wrong), None, "{wrong}");
        }
        assert_eq!((number("1e3"), number("NaN"), number("inf"), number("")), (Some(1000.0), None, None, None));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "(\\PC|[:|@#,0-9]|ms|c|g)*") {
            if let Some(message) = Message::parse(&line) {
                message.tags().for_each(drop);
            }
        }
    }
}
