//! Files that are not ours, not whole or too new: an error that says what to do, never a panic or an abort.

use std::fs;
use std::path::{Path, PathBuf};

use pitwatch_collector::state::{self, Engine, StateError};

use crate::for_each_engine;
use crate::workload::{self, Rng};

for_each_engine!(a_file_that_is_not_a_store_is_refused, a_newer_format_is_refused, flipped_bits_never_panic,);

/// The file with the engine's data.
fn data_file(engine: Engine, dir: &Path) -> PathBuf {
    dir.join(match engine {
        Engine::Redb => "state.redb",
        Engine::Sled => "state.sled/db",
    })
}

fn a_file_that_is_not_a_store_is_refused(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(match engine {
        Engine::Redb => "state.redb",
        Engine::Sled => "state.sled",
    });
    fs::write(&file, vec![b'x'; 100_000]).unwrap();
    let error = state::open(engine, dir.path()).unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&file).unwrap(), vec![b'x'; 100_000], "it was changed");
}

/// Written through the engine itself: this also pins where the format number is.
fn a_newer_format_is_refused(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    drop(state::open(engine, dir.path()).unwrap());
    let newer = 2_u32.to_le_bytes();
    match engine {
        Engine::Redb => {
            let database = redb::Database::open(dir.path().join("state.redb")).unwrap();
            let write = database.begin_write().unwrap();
            let definition = redb::TableDefinition::<&[u8], &[u8]>::new("format");
            let old = write
                .open_table(definition)
                .unwrap()
                .insert(&b"format"[..], &newer[..])
                .unwrap()
                .unwrap()
                .value()
                .to_vec();
            assert_eq!(old, 1_u32.to_le_bytes());
            write.commit().unwrap();
        }
        #[cfg(feature = "sled")]
        Engine::Sled => {
            let config = sled::Config::new().path(dir.path().join("state.sled")).segment_size(4 * 1024 * 1024);
            let db = config.open().unwrap();
            assert_eq!(db.insert(b"\0format", &newer).unwrap().unwrap(), 1_u32.to_le_bytes());
            db.flush().unwrap();
        }
        #[cfg(not(feature = "sled"))]
        Engine::Sled => unreachable!("sled is not built in"),
    }
    let error = state::open(engine, dir.path()).unwrap_err();
    assert!(matches!(error, StateError::Newer { found: 2, known: 1, .. }), "{error:?}");
}

/// What is then found may be less than there was (sled drops what fails its checksum); an error is better.
fn flipped_bits_never_panic(engine: Engine) {
    const FLIPS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let state = state::open(engine, dir.path()).unwrap();
    (1..=30).for_each(|number| state.commit(&workload::batch(3, number)).unwrap());
    drop(state);
    let file = data_file(engine, dir.path());
    let whole = fs::read(&file).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut rng = Rng::new(5);
    let (mut refused, mut right, mut wrong) = (0, 0, 0);
    for _ in 0..FLIPS {
        let mut flipped = whole.clone();
        flipped[rng.below(used) as usize] ^= 1 << rng.below(8);
        fs::write(&file, flipped).unwrap();
        match state::open(engine, dir.path()).and_then(|state| workload::contents(&*state)) {
            Ok(found) if found == workload::after(3, 30) => right += 1,
            Ok(_) => wrong += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{engine}: of {FLIPS} flipped bits {refused} were refused, {right} did no harm, {wrong} went unseen");
    if engine == Engine::Redb {
        assert_eq!(wrong, 0);
    }
}
