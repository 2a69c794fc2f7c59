//! What sources of signals saw happen, as events.

use super::{EventKind, Happening};
use crate::signals::{Ended, Notice};

/// The event of a notice of `time_ms`, milliseconds since the Unix epoch.
pub(crate) fn happening(time_ms: i64, notice: Notice) -> Happening {
    match notice {
        Notice::Started { watch, pid, again } => {
            let summary = format!("{watch}: process {pid} {}", if again { "started again" } else { "started" });
            Happening::new(EventKind::ProcessStarted, time_ms, summary)
                .with("watch", watch)
                .with("pid", pid.to_string())
        }
        Notice::Gone { watch, pid, ended, left } => {
            let (kind, how) = match ended {
                Ended::OutOfMemory => (EventKind::ProcessOomKilled, "was killed for want of memory".to_owned()),
                Ended::Quietly => (EventKind::ProcessStopped, "ended".to_owned()),
                Ended::WithStatus(status) => (crashed(ended), format!("ended with status {status}")),
                Ended::BySignal(signal) => (crashed(ended), format!("was ended by signal {signal}")),
            };
            let summary = format!("{watch}: process {pid} {how}; {left} left");
            Happening::new(kind, time_ms, summary).with("watch", watch).with("pid", pid.to_string())
        }
        Notice::Unit { unit, failed } => {
            let (kind, how) = match failed {
                true => (EventKind::UnitFailed, "failed"),
                false => (EventKind::UnitRecovered, "is active again"),
            };
            Happening::new(kind, time_ms, format!("{unit} {how}")).with("unit", unit)
        }
    }
}

fn crashed(ended: Ended) -> EventKind {
    if ended.is_failure() { EventKind::ProcessCrashed } else { EventKind::ProcessStopped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_process_ended_is_its_kind() {
        let gone = |ended| happening(1, Notice::Gone { watch: "lobby".into(), pid: 7, ended, left: 1 });
        let kinds =
            [Ended::Quietly, Ended::BySignal(15), Ended::BySignal(11), Ended::WithStatus(2), Ended::OutOfMemory];
        assert_eq!(
            kinds.map(|ended| gone(ended).kind.as_str()),
            ["process_stopped", "process_stopped", "process_crashed", "process_crashed", "process_oom_killed"]
        );
        assert_eq!(gone(Ended::BySignal(11)).summary, "lobby: process 7 was ended by signal 11; 1 left");
        let unit = happening(1, Notice::Unit { unit: "db.service".into(), failed: true });
        assert_eq!((unit.kind, &*unit.summary), (EventKind::UnitFailed, "db.service failed"));
    }
}
