//! The state store as one file, whichever engine it came from (docs/formats/backup.md).

use crate::state::{
    BATCH_MAX_BYTES, BATCH_MAX_KEYS, Batch, KEY_MAX_BYTES, Record, State, StateError, Table, VALUE_MAX_BYTES,
};

const MAGIC: [u8; 8] = *b"PITWSTA\n";
/// The version that this program writes, and the latest that it reads.
const VERSION: u32 = 1;
const HASH_BYTES: usize = 32;

const _: () = assert!(KEY_MAX_BYTES <= u16::MAX as usize && VALUE_MAX_BYTES <= u32::MAX as usize);

/// Why a dump is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Not the bytes that were written.
    #[error("state.dump: its bytes are not what was written")]
    Damaged,
    /// A later version's.
    #[error("state.dump has format version {0}, this program knows up to {VERSION}: use a newer one")]
    Newer(u32),
    /// A table that this version does not have.
    #[error("state.dump has records of table {0}, which this program does not know: use a newer one")]
    Table(u8),
}

/// The bytes of a dump.
pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    for (table, key, value) in records {
        out.push(*table as u8);
        // The store keeps to its limits, which fit: see the assertion.
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, &out);
    out.extend_from_slice(hash.as_ref());
    out
}

/// The records of a dump.
///
/// # Errors
/// [`DumpError`]
pub fn parse(bytes: &[u8]) -> Result<Vec<Record>, DumpError> {
    let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(DumpError::Damaged)?;
    if ring::digest::digest(&ring::digest::SHA256, body).as_ref() != hash {
        return Err(DumpError::Damaged);
    }
    let rest = body.strip_prefix(&MAGIC).ok_or(DumpError::Damaged)?;
    let (version, mut rest) = rest.split_first_chunk().ok_or(DumpError::Damaged)?;
    match u32::from_le_bytes(*version) {
        VERSION => {}
        0 => return Err(DumpError::Damaged),
        newer => return Err(DumpError::Newer(newer)),
    }
    let mut records = Vec::new();
    while !rest.is_empty() {
        records.push(record(&mut rest)?);
    }
    Ok(records)
}

fn record(rest: &mut &[u8]) -> Result<Record, DumpError> {
    let take = |rest: &mut &[u8], len: usize| {
        let (head, tail) = rest.split_at_checked(len).ok_or(DumpError::Damaged)?;
        *rest = tail;
        Ok(head.to_vec())
    };
    let (&number, tail) = rest.split_first().ok_or(DumpError::Damaged)?;
    let (key, tail) = tail.split_first_chunk().ok_or(DumpError::Damaged)?;
    let (value, tail) = tail.split_first_chunk().ok_or(DumpError::Damaged)?;
    *rest = tail;
    let table = Table::from_number(number).ok_or(DumpError::Table(number))?;
    let key = take(rest, usize::from(u16::from_le_bytes(*key)))?;
    Ok((table, key, take(rest, u32::from_le_bytes(*value) as usize)?))
}

/// Puts records into an empty store.
pub(super) fn load(records: Vec<Record>, state: &dyn State) -> Result<(), StateError> {
    let mut batch = Batch::new();
    let mut bytes = 0;
    for (table, key, value) in records {
        let size = key.len() + value.len();
        if batch.len() == BATCH_MAX_KEYS || bytes + size > BATCH_MAX_BYTES {
            state.commit(&std::mem::take(&mut batch))?;
            bytes = 0;
        }
        bytes += size;
        batch.put(table, key, value);
    }
    state.commit(&batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Engine, open};
    use proptest::prelude::*;

    #[test]
    fn a_store_goes_through_a_dump() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = open(Engine::Redb, from.path()).unwrap();
        let records: Vec<Record> = (0..1_200_u32)
            .map(|n| (Table::ALL[n as usize % 9], n.to_be_bytes().to_vec(), vec![n as u8; n as usize % 3_000]))
            .collect();
        load(records, &*state).unwrap();
        let dump = encode(&state.records().unwrap());
        let other = open(Engine::Redb, to.path()).unwrap();
        load(parse(&dump).unwrap(), &*other).unwrap();
        assert_eq!(other.records().unwrap(), state.records().unwrap());
        assert_eq!(other.records().unwrap().len(), 1_200);
    }

    #[test]
    fn a_cut_or_flipped_dump_is_refused_and_a_newer_one_named() {
        let dump = encode(&[(Table::Meta, b"k".to_vec(), b"v".to_vec())]);
        assert_eq!(parse(&dump).unwrap(), [(Table::Meta, b"k".to_vec(), b"v".to_vec())]);
        for len in 0..dump.len() {
            assert_eq!(parse(&dump[..len]), Err(DumpError::Damaged));
        }
        for bit in 0..dump.len() * 8 {
            let mut dump = dump.clone();
            dump[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&dump), Err(DumpError::Damaged));
        }
        let mut newer = dump[..dump.len() - HASH_BYTES].to_vec();
        newer[8] = 2;
        let hash = ring::digest::digest(&ring::digest::SHA256, &newer);
        newer.extend_from_slice(hash.as_ref());
        assert_eq!(parse(&newer), Err(DumpError::Newer(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_with_a_hash_that_fits_are_parsed_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = MAGIC.to_vec();
            body.extend_from_slice(&VERSION.to_le_bytes());
            body.append(&mut bytes);
            let hash = ring::digest::digest(&ring::digest::SHA256, &body);
            body.extend_from_slice(hash.as_ref());
            if let Ok(records) = parse(&body) {
                prop_assert_eq!(encode(&records), body);
            }
        }
    }
}
