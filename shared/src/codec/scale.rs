//! Values as integers: the scales under which a series' values become small, and the search for one.
//!
//! A scale is used for a value only where it gives the value back bit by bit, so every float survives: what fits no
//! arithmetic scale is carried as its own bits.

/// Integers of an arithmetic scale are below this: those that floats have exactly.
const INTEGER_MAX: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
const DECIMALS_MAX: u8 = 18;
const PRODUCT_DECIMALS_MAX: u8 = 9;
/// Below this an integer's trailing zero bits are more likely chance than its unit.
const POWER_MIN: u8 = 9;
const POWER_MAX: u8 = 30;

const BITS: u8 = 0;
const QUOTIENT: u8 = 1;
const PRODUCT: u8 = QUOTIENT + DECIMALS_MAX + 1;
const THOUSAND_TWICE: u8 = PRODUCT + PRODUCT_DECIMALS_MAX;
const POWER: u8 = THOUSAND_TWICE + 1;
const END: u8 = POWER + POWER_MAX;

/// Wide enough for every code.
pub(super) const SCALE_BITS: u32 = 6;
const _: () = assert!(END <= 1 << SCALE_BITS);

const TENS: [f64; DECIMALS_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
const TENTHS: [f64; PRODUCT_DECIMALS_MAX as usize + 1] = [1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];

/// How a series' integers become its values; the number is the wire's.
///
/// | code | value |
/// |---|---|
/// | 0 | the float whose place in the order of floats the integer is |
/// | 1 + e, e ≤ 18 | integer / 10^e |
/// | 19 + e, 1 ≤ e ≤ 9 | integer × 10^-e, as kernels' milliseconds become seconds in other programs |
/// | 29 | integer / 1000 / 1000, likewise |
/// | 29 + k, 1 ≤ k ≤ 30 | integer × 2^k: pages, sectors, kibibytes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale(u8);

impl Scale {
    /// The scale that every float has.
    pub(super) const BITS: Self = Self(BITS);

    /// [`Scale::BITS`] and a value's integer under it.
    pub(super) fn bits(value: f64) -> (Self, i64) {
        (Self::BITS, order_of(value))
    }

    /// The scale of the wire's code, if there is one.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        (code < END).then_some(Self(code))
    }

    /// The wire's code.
    pub(super) fn code(self) -> u8 {
        self.0
    }

    /// The value of an integer.
    #[inline]
    pub(super) fn value(self, integer: i64) -> f64 {
        match self.0 {
            BITS => f64::from_bits((integer ^ ((integer >> 63) & i64::MAX)) as u64),
            QUOTIENT..PRODUCT => integer as f64 / TENS[usize::from(self.0 - QUOTIENT)],
            PRODUCT..THOUSAND_TWICE => integer as f64 * TENTHS[usize::from(self.0 - PRODUCT) + 1],
            THOUSAND_TWICE => integer as f64 / 1000.0 / 1000.0,
            _ => integer as f64 * (1u64 << (self.0 - POWER + 1)) as f64,
        }
    }

    /// The integer that gives `value` back bit by bit, if there is one.
    #[inline]
    pub(super) fn integer(self, value: f64) -> Option<i64> {
        let guess = match self.0 {
            BITS => return Some(order_of(value)),
            QUOTIENT..PRODUCT => value * TENS[usize::from(self.0 - QUOTIENT)],
            PRODUCT..THOUSAND_TWICE => value * TENS[usize::from(self.0 - PRODUCT) + 1],
            THOUSAND_TWICE => value * 1e6,
            _ => value / (1u64 << (self.0 - POWER + 1)) as f64,
        };
        if guess.abs() < INTEGER_MAX {
            let integer = (guess + 0.5f64.copysign(guess)) as i64;
            (self.value(integer).to_bits() == value.to_bits()).then_some(integer)
        } else {
            None
        }
    }

    /// Whether this is the scale of plain integers and `integer` looks like so many pages, sectors or kibibytes.
    #[inline]
    pub(super) fn misses_unit(self, integer: i64) -> bool {
        self.0 == QUOTIENT && integer != 0 && integer.trailing_zeros() >= u32::from(POWER_MIN)
    }

    /// The scale that makes `value` shortest, and its integer; `None` if only its bits will do.
    pub(super) fn find(value: f64) -> Option<(Self, i64)> {
        if let Some(integer) = Self(QUOTIENT).integer(value) {
            let zeros = integer.trailing_zeros() as u8;
            if integer == 0 || zeros < POWER_MIN {
                return Some((Self(QUOTIENT), integer));
            }
            let power = zeros.min(POWER_MAX);
            return Some((Self(POWER + power - 1), integer >> power));
        }
        (QUOTIENT + 1..POWER)
            .map(Self)
            .filter_map(|scale| Some((scale, scale.integer(value)?)))
            .min_by_key(|(_, integer)| integer.unsigned_abs())
    }
}

/// A float's place in the order of floats.
fn order_of(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) & i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code_of(value: f64) -> Option<u8> {
        Scale::find(value).map(|(scale, _)| scale.code())
    }

    #[test]
    fn scales_are_the_documented_ones() {
        assert_eq!(code_of(7.0), Some(1));
        assert_eq!(code_of(0.25), Some(1 + 2));
        assert_eq!(code_of(6118324.0 * 1e-3), Some(19 + 3));
        assert_eq!(Scale(THOUSAND_TWICE).code(), 29);
        assert_eq!(Scale(THOUSAND_TWICE).value(484_234_340), 484.23434 + f64::EPSILON * 256.0);
        assert_eq!(code_of(4096.0 * 3.0), Some(29 + 12));
        assert_eq!(Scale::from_code(END - 1).map(|scale| scale.value(1)), Some((1u64 << 30) as f64));
        assert_eq!(Scale::from_code(END), None);
        for value in [-0.0, f64::NAN, f64::INFINITY, 1e300, std::f64::consts::TAU.sqrt(), crate::model::stale_nan()] {
            assert_eq!(code_of(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_scale_gives_back_the_value_bit_by_bit(bits: u64, code in 0..END, decimals in 0..12u32, small: i32) {
            for value in [f64::from_bits(bits), f64::from(small) / 10f64.powi(decimals as i32), f64::from(small)] {
                for scale in [Scale(code), Scale::BITS] {
                    if let Some(integer) = scale.integer(value) {
                        prop_assert_eq!(scale.value(integer).to_bits(), value.to_bits());
                    }
                }
                if let Some((scale, integer)) = Scale::find(value) {
                    prop_assert_eq!(scale.value(integer).to_bits(), value.to_bits());
                }
                let (scale, integer) = Scale::bits(value);
                prop_assert_eq!(scale.value(integer).to_bits(), value.to_bits());
            }
        }

        #[test]
        fn the_order_of_floats_is_kept(a: f64, b: f64) {
            prop_assert_eq!(a < b, order_of(a) < order_of(b) && a != b);
        }
    }
}
