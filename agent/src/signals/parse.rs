//! Reading the kernel's text by hand: lines, words and numbers out of bytes, without allocation and without panic.
//!
//! A number that is not one is `None`, never a guess; what a missing number means is the source's matter.

use std::fmt::Write as _;

/// The lines of `text`, without their ends and without empty ones.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

/// The words of `line`, parted by blanks.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|word| !word.is_empty())
}

/// `line` before and after the first `byte`.
pub(super) fn split_at_byte(line: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|&b| b == byte)?;
    Some((&line[..at], &line[at + 1..]))
}

/// A whole decimal number: digits only, within 64 bits.
pub(super) fn whole(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| sum.checked_mul(10)?.checked_add(u64::from(digit))).flatten()
    })
}

/// A whole number as a value. Beyond 2^53 the nearest one, as everywhere in the model.
pub(super) fn count(word: &[u8]) -> Option<f64> {
    whole(word).map(|number| number as f64)
}

/// A whole number with an optional sign.
pub(super) fn signed(word: &[u8]) -> Option<f64> {
    match word {
        [b'-', digits @ ..] => count(digits).map(|number| -number),
        digits => count(digits),
    }
}

/// A hexadecimal number, with or without `0x`.
pub(super) fn hex(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"0x").unwrap_or(word);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| Some(sum << 4 | u64::from(char::from(*byte).to_digit(16)?)))
}

/// A decimal number such as `0.13`: the nearest value.
pub(super) fn decimal(word: &[u8]) -> Option<f64> {
    let Some((int, fraction)) = split_at_byte(word, b'.') else { return count(word) };
    // Both sides of the division are exact below 2^53, so its result is the nearest value to what was written.
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let number = whole(int)?.checked_mul(scale)?.checked_add(whole(fraction)?)?;
    Some(number as f64 / scale as f64)
}

/// `bytes` without blanks around them.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// Bytes of the kernel's as the text of a label: bytes that are not UTF-8 and control characters as `\xNN`, the end
/// cut off beyond `max_bytes`.
pub(super) fn text(bytes: &[u8], max_bytes: usize) -> String {
    let mut out = String::with_capacity(bytes.len().min(max_bytes));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let mut raw = [0; 4];
                escape(&mut out, c.encode_utf8(&mut raw).as_bytes());
            } else {
                out.push(c);
            }
            if out.len() > max_bytes {
                break;
            }
        }
        escape(&mut out, chunk.invalid());
        if out.len() > max_bytes {
            break;
        }
    }
    out.truncate(out.floor_char_boundary(max_bytes));
    out
}

fn escape(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        assert_eq!(whole(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(whole(b"18446744073709551616"), None);
        for bad in [&b""[..], b"-1", b"1a", b" 1", b"0x1", b"\xff"] {
            assert_eq!(whole(bad), None, "{bad:?}");
        }
        assert_eq!(signed(b"-1"), Some(-1.0));
        assert_eq!(signed(b"--1"), None);
        assert_eq!(hex(b"0x1003"), Some(0x1003));
        assert_eq!(hex(b"0000ffff"), Some(0xffff));
        assert_eq!(hex(b"10000000000000000"), None);
        assert_eq!(hex(b"0x"), None);
        assert_eq!(decimal(b"0.13"), Some(0.13));
        assert_eq!(decimal(b"107.07"), Some(107.07));
        for bad in [&b"."[..], b"1.", b".5", b"1.2.3", b"1.-2", b"1.99999999999999999999999"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn text_shows_what_is_not_text_and_is_bounded() {
        assert_eq!(text(b"caf\xc3\xa9", 100), "caf\u{e9}");
        assert_eq!(text(b"a\xffb\x1b[31m\n", 100), "a\\xffb\\x1b[31m\\x0a");
        assert_eq!(text(&[0xff; 9000], 4096).len(), 4096);
        assert_eq!(text("\u{e9}".as_bytes(), 1), "");
    }

    proptest! {
        #[test]
        fn decimals_agree_with_the_standard_library(int in 0_u64..10_000_000, hundredths in 0_u64..100) {
            let written = format!("{int}.{hundredths:02}");
            prop_assert_eq!(decimal(written.as_bytes()), written.parse().ok());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for line in lines(&bytes) {
                for word in words(line) {
                    let _ = (whole(word), signed(word), hex(word), decimal(word));
                }
            }
            prop_assert!(text(&bytes, 64).len() <= 64);
            prop_assert!(!text(&bytes, 4096).chars().any(char::is_control));
        }
    }
}
