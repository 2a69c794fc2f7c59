//! What both ends know of one series' values, and the guess at the next one that follows from it.

use super::DecodeError;
use super::bytes::{Bytes, put_varint, unzigzag, zigzag};
use super::scale::Scale;

/// Most bits of a residual.
pub(super) const SIZE_MAX: u8 = 64;
/// Mean sizes are kept in 1/16 bit.
const MEAN_ONE: u16 = 16;
const MEAN_MAX: u16 = MEAN_ONE * SIZE_MAX as u16;
/// The mean of a series that had no residual yet.
const MEAN_NONE: u16 = u16::MAX;
/// What a residual's size is expected to be before the first.
const SIZE_FIRST: u8 = 8;
/// What a value that is not sent as a residual adds to the count of escapes; one that is takes 1 off.
const ESCAPE_WEIGHT: u8 = 2;
/// From this count on a series is taken for one of floats without a unit.
const ESCAPES_MAX: u8 = 16;

/// How a changed value is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// As the distance from the guess, a zigzag integer of so many bits.
    Residual(u8),
    /// With a scale that holds from here on.
    Scale,
    /// As its bits; what the series' values are guessed from stays as it was.
    Raw,
}

/// A value's change, ready for the wire or from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) class: Class,
    /// Where the class is [`Class::Scale`]: the scale.
    pub(super) scale: Scale,
    /// The residual, the zigzag integer or the value's bits, by class.
    pub(super) number: u64,
}

/// A series' values so far: its last integer and how the guesses at it fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series {
    integer: i64,
    /// The last change of `integer`.
    delta: i64,
    /// Mean size of what each guess missed by.
    missed: [u16; 2],
    /// Mean size of the residuals.
    size: u16,
    scale: Option<Scale>,
    /// Whether values of late were not sent as residuals, see [`ESCAPE_WEIGHT`].
    escapes: u8,
}

impl Series {
    /// A series without a value.
    pub(super) const NEW: Self =
        Self { integer: 0, delta: 0, missed: [0; 2], size: MEAN_NONE, scale: None, escapes: 0 };

    /// How `value` is best sent; the series takes it in.
    #[inline]
    pub(super) fn send(&mut self, value: f64) -> Change {
        if let Some(scale) = self.scale
            && let Some(integer) = scale.integer(value)
            // A series that comes from zero has not shown its unit yet.
            && !(self.integer == 0 && scale.misses_unit(integer))
        {
            let number = zigzag(integer.wrapping_sub(self.guess()));
            let size = size_of(number);
            self.advance(integer, size);
            return Change { class: Class::Residual(size), scale, number };
        }
        self.send_escaped(value)
    }

    #[cold]
    fn send_escaped(&mut self, value: f64) -> Change {
        let found = if self.escapes < ESCAPES_MAX { Scale::find(value) } else { Some(Scale::bits(value)) };
        if let Some((scale, integer)) = found {
            self.rescale(scale, integer);
            return Change { class: Class::Scale, scale, number: zigzag(integer) };
        }
        self.escape();
        Change { class: Class::Raw, scale: Scale::BITS, number: value.to_bits() }
    }

    /// The value bits of what [`Series::send`] made; the series takes it in.
    #[inline]
    pub(super) fn receive(&mut self, change: &Change) -> u64 {
        match change.class {
            Class::Residual(size) => {
                let integer = self.guess().wrapping_add(unzigzag(change.number));
                self.advance(integer, size);
                self.scale.unwrap_or(Scale::BITS).value(integer).to_bits()
            }
            Class::Scale => {
                let integer = unzigzag(change.number);
                self.rescale(change.scale, integer);
                change.scale.value(integer).to_bits()
            }
            Class::Raw => {
                self.escape();
                change.number
            }
        }
    }

    /// Whether a residual means anything yet.
    #[inline]
    pub(super) fn has_scale(&self) -> bool {
        self.scale.is_some()
    }

    /// Whether values of late were not sent as residuals.
    #[inline]
    pub(super) fn escaped(&self) -> bool {
        self.escapes > 0
    }

    /// The expected size of the next residual, and whether any came before.
    #[inline]
    pub(super) fn expected_size(&self) -> (u8, bool) {
        if self.size == MEAN_NONE { (SIZE_FIRST, false) } else { (((self.size + MEAN_ONE / 2) / MEAN_ONE) as u8, true) }
    }

    /// The last integer, or that plus its last change: whichever missed by less so far.
    #[inline]
    fn guess(&self) -> i64 {
        let step = if self.missed[1] < self.missed[0] { self.delta } else { 0 };
        self.integer.wrapping_add(step)
    }

    #[inline]
    fn advance(&mut self, integer: i64, size: u8) {
        let delta = integer.wrapping_sub(self.integer);
        let misses = [delta, delta.wrapping_sub(self.delta)];
        for (mean, miss) in self.missed.iter_mut().zip(misses) {
            *mean = approach(*mean, size_of(zigzag(miss)), 3);
        }
        self.size = if self.size == MEAN_NONE { MEAN_ONE * u16::from(size) } else { approach(self.size, size, 2) };
        self.delta = delta;
        self.integer = integer;
        self.escapes = self.escapes.saturating_sub(1);
    }

    fn rescale(&mut self, scale: Scale, integer: i64) {
        *self = Self { integer, scale: Some(scale), escapes: self.escapes, ..Self::NEW };
        self.escape();
    }

    fn escape(&mut self) {
        self.escapes = self.escapes.saturating_add(ESCAPE_WEIGHT);
    }

    /// Writes the state for the snapshot.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.scale.map_or(0, |scale| scale.code() + 1));
        out.push(self.escapes);
        put_varint(out, zigzag(self.integer));
        put_varint(out, zigzag(self.delta));
        put_varint(out, self.missed[0].into());
        put_varint(out, self.missed[1].into());
        put_varint(out, self.size.into());
    }

    /// Reads what [`Series::put`] wrote.
    pub(super) fn take(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let at = bytes.at();
        let scale = match bytes.byte()? {
            0 => None,
            code => Some(Scale::from_code(code - 1).ok_or(DecodeError::OutOfRange { what: "a scale", at })?),
        };
        let escapes = bytes.byte()?;
        let integer = unzigzag(bytes.varint()?);
        let delta = unzigzag(bytes.varint()?);
        let mut missed = [0; 2];
        for mean in &mut missed {
            *mean = bytes.number("a mean size", MEAN_MAX.into())? as u16;
        }
        let at = bytes.at();
        let size = bytes.number("a mean size", MEAN_NONE.into())? as u16;
        if size > MEAN_MAX && size != MEAN_NONE {
            return Err(DecodeError::OutOfRange { what: "a mean size", at });
        }
        Ok(Self { integer, delta, missed, size, scale, escapes })
    }
}

/// How many bits `number` needs.
#[inline]
pub(super) fn size_of(number: u64) -> u8 {
    (u64::BITS - number.leading_zeros()) as u8
}

/// Moves a mean towards a size by 1/2^rate of the way.
#[inline]
fn approach(mean: u16, size: u8, rate: u32) -> u16 {
    let way = i32::from(MEAN_ONE * u16::from(size)) - i32::from(mean);
    (i32::from(mean) + (way >> rate)) as u16
}
