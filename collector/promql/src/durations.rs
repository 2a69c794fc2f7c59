//! The value of duration expressions, once the query's own times are known.

use crate::ast::{BinaryOp, DurationExpr};
use crate::text::MAX_DURATION_MS;

/// The times of the query that `step()` and `range()` stand for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueryTimes {
    pub(crate) step_ms: i64,
    pub(crate) range_ms: i64,
}

impl DurationExpr {
    /// Whether the value depends on the query's times.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            DurationExpr::Seconds(_) => true,
            DurationExpr::Step | DurationExpr::Range => false,
            DurationExpr::Negative(inner) | DurationExpr::Paren(inner) => inner.is_constant(),
            DurationExpr::Binary(_, sides) | DurationExpr::Min(sides) | DurationExpr::Max(sides) => {
                sides.0.is_constant() && sides.1.is_constant()
            }
        }
    }

    /// The length in milliseconds, or what is wrong with it.
    pub(crate) fn ms(&self, times: QueryTimes) -> std::result::Result<i64, String> {
        let ms = (self.seconds(times)? * 1000.0).round();
        if ms.is_nan() || ms.abs() > MAX_DURATION_MS as f64 {
            return Err("duration out of range".to_owned());
        }
        Ok(ms as i64)
    }

    /// As [`DurationExpr::ms`], for a length that must not be zero or less.
    pub(crate) fn positive_ms(&self, times: QueryTimes) -> std::result::Result<i64, String> {
        match self.ms(times)? {
            ms if ms > 0 => Ok(ms),
            _ => Err("duration must be greater than 0".to_owned()),
        }
    }

    fn seconds(&self, times: QueryTimes) -> std::result::Result<f64, String> {
        Ok(match self {
            DurationExpr::Seconds(value) => *value,
            DurationExpr::Step => times.step_ms as f64 / 1000.0,
            DurationExpr::Range => times.range_ms as f64 / 1000.0,
            DurationExpr::Negative(inner) => -inner.seconds(times)?,
            DurationExpr::Paren(inner) => inner.seconds(times)?,
            DurationExpr::Min(sides) => sides.0.seconds(times)?.min(sides.1.seconds(times)?),
            DurationExpr::Max(sides) => sides.0.seconds(times)?.max(sides.1.seconds(times)?),
            DurationExpr::Binary(op, sides) => {
                let (a, b) = (sides.0.seconds(times)?, sides.1.seconds(times)?);
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div if b == 0.0 => return Err("division by zero".to_owned()),
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod if b == 0.0 => return Err("modulo by zero".to_owned()),
                    BinaryOp::Mod => a % b,
                    BinaryOp::Pow => a.powf(b),
                    _ => return Err(format!("operator {} is not allowed in a duration", op.as_str())),
                }
            }
        })
    }
}
