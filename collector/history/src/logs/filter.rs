//! Which words a chunk has: a split-block Bloom filter (Putze, Sanders, Singler 2007, as in Apache Parquet), so that a
//! search for an id reads the chunks that have it and few others.
//!
//! A word is a run of ASCII letters, digits, `_` and bytes above ASCII, of three bytes or more. What is hashed, and how, is
//! part of the file's format.

use std::collections::HashSet;

/// Shortest word that a filter knows of.
const WORD_MIN_BYTES: usize = 3;
/// Bits for each word: one chunk in about a hundred is read in vain.
const BITS_PER_WORD: usize = 10;
/// Largest filter, bytes.
pub(super) const FILTER_MAX_BYTES: usize = 128 * 1024;
/// Bytes of a block: eight words of 32 bits, one bit in each.
pub(super) const BLOCK_BYTES: usize = 32;
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// The words of a text, each with where it is.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            while at < bytes.len() && !is_word(bytes[at]) {
                at += 1;
            }
            let from = at;
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            if from == at {
                return None;
            }
            if at - from >= WORD_MIN_BYTES {
                // Both ends are at ASCII bytes or at the text's: no character is cut.
                return Some((from, &text[from..at]));
            }
        }
    })
}

/// Whether a byte belongs to a word.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// FNV-1a with the finisher of SplitMix64: short words must spread over all 64 bits.
pub(super) fn hash(word: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in word.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A filter of these words.
pub(super) fn build(words: &HashSet<u64>) -> Vec<u8> {
    let blocks = (words.len() * BITS_PER_WORD).div_ceil(BLOCK_BYTES * 8).clamp(1, FILTER_MAX_BYTES / BLOCK_BYTES);
    let mut filter = vec![0; blocks * BLOCK_BYTES];
    for hash in words {
        let block = &mut filter[block_of(*hash, blocks) * BLOCK_BYTES..][..BLOCK_BYTES];
        for (at, bit) in bits(*hash) {
            block[at] |= bit;
        }
    }
    filter
}

/// Whether a text with this word may be among those that the filter was built of.
pub(super) fn may_have(filter: &[u8], hash: u64) -> bool {
    let blocks = filter.len() / BLOCK_BYTES;
    if blocks == 0 {
        return true;
    }
    let block = &filter[block_of(hash, blocks) * BLOCK_BYTES..][..BLOCK_BYTES];
    bits(hash).all(|(at, bit)| block[at] & bit != 0)
}

fn block_of(hash: u64, blocks: usize) -> usize {
    // Below `blocks`: the upper half scaled.
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

/// The byte of a block and the bit in it, for each of its eight words.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u8)> {
    SALTS.into_iter().enumerate().map(move |(word, salt)| {
        let bit = ((hash as u32).wrapping_mul(salt) >> 27) as usize;
        (word * 4 + bit / 8, 1 << (bit % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_three_and_more() {
        let found: Vec<_> = words("GET /api/v1/größe?id=8f3a_9 ms=12 a.bc").collect();
        assert_eq!(found, [(0, "GET"), (5, "api"), (12, "größe"), (23, "8f3a_9")]);
        assert_eq!(words("").count() + words("a b").count(), 0);
    }

    #[test]
    fn a_filter_knows_its_words_and_few_others() {
        let own: HashSet<u64> = (0..5000).map(|n| hash(&format!("word{n}"))).collect();
        let filter = build(&own);
        assert_eq!(filter.len(), 196 * BLOCK_BYTES);
        assert!(own.iter().all(|hash| may_have(&filter, *hash)));
        let wrong = (0..100_000).filter(|n| may_have(&filter, hash(&format!("other{n}")))).count();
        assert!(wrong < 2_000, "{wrong} of 100,000");
    }

    #[test]
    fn hashes_are_frozen() {
        assert_eq!(hash("abc"), 0x0dd4_9049_0804_b508);
        assert_eq!(hash("größe"), 0xbe90_79c1_b7e5_afe8);
    }
}
