//! Aligned windows of time. A window is open on the left and closed on the right, as PromQL's are, and its end is a
//! multiple of its span, so that windows of a multiple of the span hold whole ones of the span.

use std::time::Duration;

/// Windows of one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    span_ms: i64,
}

impl Windows {
    pub(crate) fn new(span: Duration) -> Self {
        Self { span_ms: i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1) }
    }

    /// Windows each of which holds `count` of these.
    pub(crate) fn times(self, count: i64) -> Self {
        Self { span_ms: self.span_ms.saturating_mul(count) }
    }

    pub(crate) fn span_ms(self) -> i64 {
        self.span_ms
    }

    /// The number of the window that an instant is in.
    pub(crate) fn of(self, ts_ms: i64) -> i64 {
        ts_ms.saturating_sub(1).div_euclid(self.span_ms)
    }

    /// The last instant before a window.
    pub(crate) fn begin(self, number: i64) -> i64 {
        number.saturating_mul(self.span_ms)
    }

    /// The last instant of a window.
    pub(crate) fn end(self, number: i64) -> i64 {
        number.saturating_add(1).saturating_mul(self.span_ms)
    }

    /// The window that holds both instants and all between, if there is one.
    pub(crate) fn around(self, min_ts: i64, max_ts: i64) -> Option<i64> {
        let number = self.of(min_ts);
        (self.of(max_ts) == number).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_on_the_left_and_nest() {
        let hours = Windows::new(Duration::from_secs(3600));
        let days = hours.times(24);
        assert_eq!((hours.of(0), hours.of(1), hours.of(3_600_000), hours.of(3_600_001)), (-1, 0, 0, 1));
        assert_eq!((hours.begin(2), hours.end(2)), (7_200_000, 10_800_000));
        assert_eq!((days.around(1, 86_400_000), days.around(0, 1)), (Some(0), None));
        for ts in [i64::MIN, i64::MAX] {
            let number = hours.of(ts);
            assert!(hours.begin(number) <= ts && ts <= hours.end(number));
        }
    }
}
