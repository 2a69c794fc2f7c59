//! Durations and sizes as people write them: `500ms`, `24h`, `8MiB`.

use std::time::Duration;

const DURATIONS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 3600 * 1000), ("d", 24 * 3600 * 1000)];
const SIZES_BYTES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// `24h`; a whole number and one unit.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS_MS).map(Duration::from_millis)
}

/// `8MiB`; a whole number and one unit.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    scaled(text, &SIZES_BYTES)
}

/// A duration in the largest unit that it is a whole number of.
#[must_use]
pub fn of_duration(duration: Duration) -> String {
    written(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS_MS)
}

/// A size in the largest unit that it is a whole number of.
#[must_use]
pub fn of_bytes(bytes: u64) -> String {
    written(bytes, &SIZES_BYTES)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn written(amount: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().rev().find(|(_, scale)| amount >= *scale && amount.is_multiple_of(*scale));
    let (unit, scale) = fitting.unwrap_or(&units[0]);
    format!("{}{unit}", amount / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(bytes("8MiB"), Some(8 << 20));
        for bad in ["", "s", "1", "-1s", "1.5s", "1 s", "1sec", "1MB", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(bytes("8MB"), None);
        assert_eq!(of_duration(Duration::from_secs(240)), "4m");
        assert_eq!(of_duration(Duration::from_millis(100)), "100ms");
        assert_eq!(of_bytes(1 << 40), "1TiB");
        assert_eq!(of_bytes(3 << 19), "1536KiB");
    }
}
