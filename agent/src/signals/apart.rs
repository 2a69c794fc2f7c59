//! A source on a thread of its own, so that one that hangs holds up nobody else.
//!
//! A file of /sys may wait for a driver's lock, one of a process for its memory map, a call for a daemon. [`Apart`]
//! has such a source read on its own thread into a table of its own, and copies that table's series. A gathering asks
//! and waits no longer than its patience; what comes later is given with the next one. Until [`LATE_AFTER`] has passed
//! the last values stand; then the series end and the source is in error until it answers.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use pitwatch_shared::codec::SeriesDef;

use super::source::{Buffer, Now, Pass, Sink, Source, SourceError};
use super::table::{Changes, Handle, Table};

/// A source that has not answered for this long is in error.
pub(super) const LATE_AFTER: Duration = Duration::from_secs(5);
/// What a thread of a source needs, with room to spare.
const STACK_BYTES: usize = 256 * 1024;

/// A source, and the thread that reads it once there is one.
pub(super) struct Apart {
    name: &'static str,
    state: State,
    /// Of each slot of the thread's table: its series, and our hold on its copy.
    copies: Vec<Option<(SeriesDef, Handle)>>,
    values: Vec<f64>,
    /// When what is not answered yet was asked.
    asked: Option<Instant>,
}

enum State {
    Idle(Box<dyn Source>),
    Reading {
        questions: SyncSender<(Now, Duration)>,
        answers: Receiver<Answer>,
    },
    /// The thread could not be started, and the source went with it.
    Lost,
}

/// What one reading gave.
struct Answer {
    changes: Option<Changes>,
    values: Vec<f64>,
    malformed: u64,
    outcome: Result<(), SourceError>,
}

impl Apart {
    pub(super) fn new(source: impl Source + 'static) -> Self {
        let name = source.name();
        Self { name, state: State::Idle(Box::new(source)), copies: Vec::new(), values: Vec::new(), asked: None }
    }

    /// Starts the thread if there is none.
    fn start(&mut self) -> Result<(), SourceError> {
        if matches!(self.state, State::Reading { .. }) {
            return Ok(());
        }
        let failed = |source| SourceError::Call { what: "starting a thread", source };
        let State::Idle(source) = std::mem::replace(&mut self.state, State::Lost) else {
            return Err(failed(io::Error::other("the source ended with its thread")));
        };
        let (ask, questions) = sync_channel(1);
        let (answer, answers) = channel();
        let builder = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || work(source, &questions, &answer)).map_err(failed)?;
        self.state = State::Reading { questions: ask, answers };
        Ok(())
    }

    /// Takes an answer into the copies.
    fn take(&mut self, answer: Answer, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let changes = answer.changes.unwrap_or_default();
        for slot in changes.retire {
            if let Some(copy) = self.copies.get_mut(slot as usize) {
                *copy = None;
            }
        }
        self.copies.resize_with(answer.values.len(), || None);
        for def in changes.add {
            let slot = def.slot as usize;
            self.copies[slot] = Some((def, Handle::default()));
        }
        self.values = answer.values;
        self.asked = None;
        sink.malformed += answer.malformed;
        answer.outcome
    }
}

impl Source for Apart {
    fn name(&self) -> &'static str {
        self.name
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        self.start()?;
        let State::Reading { questions, answers } = &self.state else { return Ok(()) };
        let ended = || SourceError::Call { what: "a source's thread", source: io::Error::other("it has ended") };
        let mut fresh = None;
        if self.asked.is_some() {
            match answers.try_recv() {
                Ok(answer) => fresh = Some(answer),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
        let mut outcome = Ok(());
        let waiting = self.asked.is_some() && fresh.is_none();
        if !waiting {
            questions.send((pass.now, pass.patience)).map_err(|_| ended())?;
        }
        // Who is late already is not waited for.
        let next = answers.recv_timeout(if waiting { Duration::ZERO } else { pass.patience });
        if next.as_ref().is_err_and(|error| *error == RecvTimeoutError::Disconnected) {
            return Err(ended());
        }
        if let Some(answer) = fresh {
            outcome = self.take(answer, &mut pass.sink);
        }
        if !waiting {
            self.asked = Some(pass.now.monotonic);
        }
        if let Ok(answer) = next {
            outcome = self.take(answer, &mut pass.sink);
        }
        let after = self.asked.map_or(Duration::ZERO, |asked| pass.now.monotonic.saturating_duration_since(asked));
        if after >= LATE_AFTER {
            return Err(SourceError::Late { after });
        }
        for (copy, value) in self.copies.iter_mut().zip(&self.values) {
            if let Some((def, handle)) = copy {
                pass.sink.table.set_def(handle, def, *value);
            }
        }
        outcome
    }
}

/// Reads the source at each question, until nobody asks any more.
fn work(mut source: Box<dyn Source>, questions: &Receiver<(Now, Duration)>, answers: &Sender<Answer>) {
    let (mut table, mut buffer) = (Table::new(&[]), Buffer::new());
    let mut refused = 0;
    while let Ok((now, patience)) = questions.recv() {
        table.begin();
        let mut pass = Pass { sink: Sink { table: &mut table, malformed: 0 }, buffer: &mut buffer, now, patience };
        let outcome = source.gather(&mut pass);
        let malformed = pass.sink.malformed;
        table.end();
        let newly_refused = table.refused() - refused;
        refused = table.refused();
        let answer = Answer {
            changes: table.take_changes(),
            values: table.values().to_vec(),
            malformed: malformed + newly_refused,
            outcome,
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::super::metric::Metric;
    use super::super::testing::Bench;
    use super::*;

    static METRIC: Metric = Metric::gauge("m", "", "", "").by(&["id"]);

    /// Gives one series an id that it is told, and hangs while it is told none.
    struct Told(Arc<Mutex<mpsc::Receiver<Vec<u32>>>>, Vec<(u32, Handle)>);

    impl Source for Told {
        fn name(&self) -> &'static str {
            "told"
        }

        fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
            let ids = self.0.lock().unwrap().recv().unwrap();
            self.1.retain(|(id, _)| ids.contains(id));
            for id in ids {
                if !self.1.iter().any(|(known, _)| *known == id) {
                    self.1.push((id, Handle::default()));
                }
            }
            for (id, handle) in &mut self.1 {
                pass.sink.set(handle, &METRIC, &[("id", &id.to_string())], Some(f64::from(*id)));
            }
            pass.sink.malformed += 1;
            Ok(())
        }
    }

    fn bench() -> (Bench, mpsc::Sender<Vec<u32>>) {
        let (tell, told) = mpsc::channel();
        let source = Told(Arc::new(Mutex::new(told)), Vec::new());
        (Bench::new(|_| Box::new(Apart::new(source))), tell)
    }

    /// Ticks until an answer came.
    fn answered(bench: &mut Bench) {
        for _ in 0..1000 {
            if bench.tick_after(Duration::ZERO) == Ok(1) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("no answer");
    }

    #[test]
    fn series_are_those_that_the_source_gave() {
        let (mut bench, tell) = bench();
        for ids in [vec![1, 2], vec![2, 3], vec![], vec![3, 2, 1]] {
            tell.send(ids.clone()).unwrap();
            answered(&mut bench);
            assert_eq!(bench.len(), ids.len());
            for id in ids {
                assert_eq!(bench.value(&format!("m{{id=\"{id}\"}}")), Some(f64::from(id)));
            }
        }
    }

    #[test]
    fn a_source_that_hangs_is_late_and_comes_back() {
        let (mut bench, tell) = bench();
        tell.send(vec![7]).unwrap();
        answered(&mut bench);
        assert_eq!(bench.tick_after(Duration::from_secs(1)), Ok(0));
        assert_eq!(bench.len(), 1, "the last value stands for a while");
        assert_eq!(bench.tick_after(LATE_AFTER), Err("no answer for 5 s: what it reads hangs".to_owned()));
        assert_eq!(bench.len(), 0);
        tell.send(vec![7]).unwrap();
        answered(&mut bench);
        assert_eq!(bench.len(), 1);
    }
}
