//! Any sequence of batches, reads and reopenings, against a `BTreeMap`.

use std::collections::BTreeMap;

use pitwatch_collector::state::{self, Batch, Engine, Table};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::for_each_engine;
use crate::workload::{self, Contents};

for_each_engine!(it_is_a_map);

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(Table, Vec<u8>, Option<Vec<u8>>)>),
    Get(Table, Vec<u8>),
    Scan(Table, Vec<u8>),
    Reopen,
}

/// Few and close to one another, so that steps meet; 0 and 255 are what prefix searches get wrong.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&[0, 1, b'a', 254, 255][..]), 0..4)
}

fn table() -> impl Strategy<Value = Table> {
    select(&Table::ALL[..])
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 3_000..9_000)];
    let op = (table(), key(), proptest::option::weighted(0.7, value));
    prop_oneof![
        6 => vec(op, 0..40).prop_map(Step::Commit),
        3 => (table(), key()).prop_map(|(table, key)| Step::Get(table, key)),
        3 => (table(), key()).prop_map(|(table, prefix)| Step::Scan(table, prefix)),
        1 => Just(Step::Reopen),
    ]
}

fn it_is_a_map(engine: Engine) {
    let config = Config { cases: 32, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(step(), 1..40), |steps| run(engine, steps))
        .unwrap_or_else(|error| panic!("{error}"));
}

fn run(engine: Engine, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state::open(engine, dir.path()).unwrap();
    let mut model = Contents::new();
    for step in steps {
        match step {
            Step::Commit(ops) => {
                let mut batch = Batch::new();
                for (table, key, value) in ops {
                    match value {
                        Some(value) => batch.put(table, key, value),
                        None => batch.delete(table, key),
                    };
                }
                state.commit(&batch).unwrap();
                workload::apply(&mut model, &batch);
            }
            Step::Get(table, key) => {
                let found = state.get(table, &key).unwrap();
                prop_assert_eq!(found.as_ref(), model.get(&(table, key)));
            }
            Step::Scan(table, prefix) => {
                let mut found = Vec::new();
                state
                    .scan(table, &prefix, &mut |key, value| {
                        found.push(((table, key.to_owned()), value.to_owned()));
                        std::ops::ControlFlow::Continue(())
                    })
                    .unwrap();
                let of_model = model.iter().filter(|((of, key), _)| *of == table && key.starts_with(&prefix));
                let expected: Vec<_> = of_model.map(|(at, value)| (at.clone(), value.clone())).collect();
                prop_assert_eq!(found, expected);
            }
            Step::Reopen => {
                drop(state);
                state = state::open(engine, dir.path()).unwrap();
            }
        }
    }
    drop(state);
    let found: BTreeMap<_, _> = workload::contents(&*state::open(engine, dir.path()).unwrap()).unwrap();
    prop_assert_eq!(found, model);
    Ok(())
}
