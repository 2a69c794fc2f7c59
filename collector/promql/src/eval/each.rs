//! Functions of single values: arithmetic, rounding, parts of a date.

use crate::functions::{CalendarCode, EachCode};

/// Computes a function of one number; `limit` is the argument of the clamps.
pub(super) fn each(code: EachCode, v: f64, limit: f64) -> f64 {
    match code {
        EachCode::Abs => v.abs(),
        EachCode::Acos => v.acos(),
        EachCode::Acosh => v.acosh(),
        EachCode::Asin => v.asin(),
        EachCode::Asinh => v.asinh(),
        EachCode::Atan => v.atan(),
        EachCode::Atanh => v.atanh(),
        EachCode::Ceil => v.ceil(),
        EachCode::ClampMax => smaller(limit, v),
        EachCode::ClampMin => larger(limit, v),
        EachCode::Cos => v.cos(),
        EachCode::Cosh => v.cosh(),
        EachCode::Deg => v * 180.0 / std::f64::consts::PI,
        EachCode::Exp => v.exp(),
        EachCode::Floor => v.floor(),
        EachCode::Ln => v.ln(),
        EachCode::Log10 => v.log10(),
        EachCode::Log2 => v.log2(),
        EachCode::Rad => v * std::f64::consts::PI / 180.0,
        EachCode::Sgn if v < 0.0 => -1.0,
        EachCode::Sgn if v > 0.0 => 1.0,
        EachCode::Sgn => v,
        EachCode::Sin => v.sin(),
        EachCode::Sinh => v.sinh(),
        EachCode::Sqrt => v.sqrt(),
        EachCode::Tan => v.tan(),
        EachCode::Tanh => v.tanh(),
    }
}

/// The smaller of two numbers as Go has it: NaN if either is, unless the other is -Inf.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    let least = a == f64::NEG_INFINITY || b == f64::NEG_INFINITY;
    if !least && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.min(b) }
}

/// The larger of two numbers as Go has it: NaN if either is, unless the other is +Inf.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    let most = a == f64::INFINITY || b == f64::INFINITY;
    if !most && (a.is_nan() || b.is_nan()) { f64::NAN } else { a.max(b) }
}

/// Rounds to a multiple of `nearest`; halves go up.
pub(super) fn round(v: f64, nearest: f64) -> f64 {
    // By the inverse, for 0.1 and its like are not exact but 10 is.
    let inverse = 1.0 / nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// A part of the date that `seconds` after 1970 fall on, in UTC.
pub(super) fn calendar(code: CalendarCode, seconds: f64) -> f64 {
    /// Further away the year does not fit the arithmetic, and says nothing.
    const MAX_SECONDS: f64 = 1e15;
    if seconds.is_nan() {
        return f64::NAN;
    }
    let seconds = seconds.clamp(-MAX_SECONDS, MAX_SECONDS) as i64;
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    (match code {
        CalendarCode::Minute => of_day / 60 % 60,
        CalendarCode::Hour => of_day / 3600,
        CalendarCode::DayOfWeek => (days + 4).rem_euclid(7),
        CalendarCode::DayOfMonth => day,
        CalendarCode::DayOfYear => days - days_before(year, 1) + 1,
        CalendarCode::DaysInMonth => {
            let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            days_before(next_year, next) - days_before(year, month)
        }
        CalendarCode::Month => month,
        CalendarCode::Year => year,
    }) as f64
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day, counted from 1970-01-01, on which a month begins.
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_around_leap_days() {
        let part = |code, s: i64| calendar(code, s as f64);
        assert_eq!(part(CalendarCode::Year, 1_230_767_999), 2008.0);
        assert_eq!(part(CalendarCode::DayOfYear, 1_483_191_420), 366.0);
        assert_eq!(part(CalendarCode::DaysInMonth, 1_454_284_800), 29.0);
        assert_eq!(part(CalendarCode::DayOfMonth, -1), 31.0);
        assert_eq!(part(CalendarCode::DayOfWeek, 0), 4.0);
        assert!(calendar(CalendarCode::Year, f64::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn every_day_has_a_date_that_leads_back(days in -4_000_000i64..4_000_000) {
            let (year, month, day) = civil(days);
            prop_assert_eq!(days_before(year, month) + day - 1, days);
        }
    }
}
