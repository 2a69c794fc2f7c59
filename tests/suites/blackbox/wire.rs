//! Bad input on the wire: the connection that sent it is closed with a reason and counted, and nothing else suffers.

use std::time::Duration;

use pitwatch_agent::identity::Identity;
use pitwatch_shared::codec::{Encoder, SeriesDef, Slot};
use pitwatch_shared::control::CloseCode;
use pitwatch_shared::delivery::FrameWriter;
use pitwatch_shared::limits::{CONTROL_MESSAGE_MAX_BYTES, FRAME_PAYLOAD_MAX_BYTES};
use pitwatch_shared::model::{Labels, METRIC_NAME, Mark, MetricType};
use pitwatch_tests::programs::Collector;

use crate::support::{FAST, Raw, assert_whole, enrolled, figure, listed, pair, runtime, unix_ms, wait_for_tick};

const EPOCH: u64 = 5;

fn mark(seq: u64) -> Mark {
    Mark { epoch: EPOCH, seq }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The bytes of frames as they stand on a lane's stream.
fn frames(frames: &[(Mark, &[u8])]) -> Vec<u8> {
    let (mut writer, mut bytes) = (FrameWriter::new(), Vec::new());
    for (mark, payload) in frames {
        writer.write(*mark, payload, &mut bytes);
    }
    bytes
}

fn series(slots: std::ops::Range<Slot>) -> Vec<SeriesDef> {
    let define = |slot: Slot| SeriesDef {
        slot,
        kind: MetricType::Gauge,
        labels: Labels::new([(METRIC_NAME.to_owned(), "by_hand".to_owned()), ("slot".to_owned(), slot.to_string())])
            .unwrap(),
    };
    slots.map(define).collect()
}

/// A schema frame that declares these slots of group 0, and the encoder after it.
fn chain(slots: std::ops::Range<Slot>) -> (Encoder, Vec<u8>) {
    let (mut encoder, mut payload) = (Encoder::new(), Vec::new());
    encoder.schema(&mut payload, true, 0, &[], &series(slots)).unwrap();
    (encoder, payload)
}

fn tick(encoder: &mut Encoder, ts_ms: i64, values: &[f64]) -> Vec<u8> {
    let mut payload = Vec::new();
    encoder.tick(&mut payload, 0, ts_ms, values).unwrap();
    payload
}

struct Bench<'a> {
    collector: &'a Collector,
    identity: &'a Identity,
}

impl Bench<'_> {
    /// Does something bad over a greeted connection: it must be closed for what it sent, with these words, and counted.
    fn punished(
        &self,
        what: &str,
        words: &str,
        act: impl FnOnce(&mut Raw) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let api = self.collector.api()?;
        let before = figure(&api, "pitwatch_collector_protocol_errors_total")?;
        let (mut raw, _) = Raw::greeted(self.collector.agents, self.identity)?;
        act(&mut raw)?;
        let (code, reason) = raw.closed().map_err(|error| error.context(what.to_owned()))?;
        anyhow::ensure!(code == Some(CloseCode::Protocol) && reason.contains(words), "{what}: {code:?} {reason:?}");
        let after = figure(&api, "pitwatch_collector_protocol_errors_total")?;
        anyhow::ensure!(after == before + 1.0, "{what}: {before} protocol errors before, {after} after");
        println!("{what}: {reason}");
        Ok(())
    }

    /// The same with bytes on the metrics lane.
    fn lane(&self, what: &str, words: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.punished(what, words, |raw| {
            raw.open_lane(0)?;
            raw.send(bytes);
            Ok(())
        })
    }

    /// The same with one frame that the store refuses.
    fn frame(&self, what: &str, words: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let api = self.collector.api()?;
        let before = figure(&api, "pitwatch_collector_frames_refused_total")?;
        self.lane(what, words, bytes)?;
        let after = figure(&api, "pitwatch_collector_frames_refused_total")?;
        anyhow::ensure!(after == before + 1.0, "{what}: {before} frames refused before, {after} after");
        Ok(())
    }
}

#[test]
fn bad_input_costs_its_own_connection_only() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (mut collector, _agent) = pair(dir.path(), "healthy", FAST)?;
    let runtime = runtime()?;
    let identity = enrolled(&runtime, &collector, "hostile")?;
    let bench = Bench { collector: &collector, identity: &identity };

    framing(&bench)?;
    payloads(&bench)?;
    control_stream(&bench)?;

    // What was good between the bad is stored, once, and the same agent goes on.
    let api = collector.api()?;
    let (mut raw, welcome) = Raw::greeted(collector.agents, &identity)?;
    let durable = welcome.lanes[0].durable.expect("good frames were stored");
    let (mut encoder, schema) = chain(0..2);
    let next = Mark { epoch: durable.0 + 1, seq: 1 };
    let (second, now_ms) = (Mark { seq: 2, ..next }, unix_ms());
    raw.open_lane(0)?;
    raw.send(&frames(&[(next, &schema), (second, &tick(&mut encoder, now_ms, &[1.5, 2.5]))]));
    raw.acked(second)?;
    let stored = api.samples("by_hand{slot=\"1\",instance=\"hostile\"}", 60)?;
    assert_eq!(stored[0].1.last(), Some(&(now_ms, 2.5)));
    assert_eq!(api.samples("by_hand{slot=\"9\"}", 60)?, []);

    wait_for_tick(&api, "healthy", unix_ms(), Duration::from_secs(10))?;
    assert_whole(&api, "healthy", 1_000)?;
    assert_eq!(listed(&api, "healthy")?["state"], "connected");
    let log = collector.process().log();
    assert_eq!(log.matches("agent connected agent=\"healthy\"").count(), 1, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}

fn framing(bench: &Bench<'_>) -> anyhow::Result<()> {
    let too_large = [varint((2 << 20) << 1 | 1), varint(EPOCH), varint(1)].concat();
    let words = format!("a frame of 2097152 bytes, more than {FRAME_PAYLOAD_MAX_BYTES}");
    bench.lane("a frame too large", &words, &too_large)?;
    let endless = [varint(u64::MAX), vec![0; 9]].concat();
    bench.lane("a frame of almost endless length", "a frame of 9223372036854775807 bytes", &endless)?;
    bench.lane("a malformed number", "a malformed number in a frame header", &[0xff; 12])?;
    bench.lane("a frame without its number", "a frame without its number", &[4, 0x12, 0])?;
    let (_, schema) = chain(0..2);
    let whole = frames(&[(mark(1), &schema)]);
    bench.punished("a truncated stream", "the lane's stream ended", |raw| {
        raw.open_lane(0)?;
        raw.send(&whole[..whole.len() - 3]);
        raw.finish();
        Ok(())
    })?;
    bench.punished("an unknown lane", "lane 9 is not kept here", |raw| raw.open_lane(9))?;
    bench.punished("an empty lane stream", "the lane's stream ended", |raw| {
        raw.open_lane(0)?;
        raw.finish();
        Ok(())
    })
}

fn payloads(bench: &Bench<'_>) -> anyhow::Result<()> {
    let (mut encoder, schema) = chain(0..2);
    let now_ms = unix_ms();
    let good = tick(&mut encoder, now_ms, &[1.0, 2.0]);
    let garbage = [&schema[..1], &[0xee; 40]].concat();
    bench.frame("a malformed frame", "malformed frame", &frames(&[(mark(1), &garbage)]))?;
    let future = [&[0x23], &schema[1..]].concat();
    // A kind that is not known begins no chain, so as a lane's first frame it does not follow anything.
    bench.frame("a frame of an unknown version, first", "begins no chain", &frames(&[(mark(1), &future)]))?;
    let bytes = frames(&[(mark(1), &schema), (mark(2), &future)]);
    bench.frame("a frame of an unknown version", "malformed frame", &bytes)?;
    bench.frame("a tick without a chain", "begins no chain", &frames(&[(mark(9), &good)]))?;

    // A tick of a group with more slots than were declared, and one that retires a slot which never was.
    let (mut wider, wide) = chain(0..3);
    let of_three = tick(&mut wider, now_ms, &[1.0, 2.0, 3.0]);
    let bytes = frames(&[(mark(11), &schema), (mark(12), &of_three)]);
    bench.frame("a slot that was never declared", "malformed frame", &bytes)?;
    let mut retire = Vec::new();
    wider.schema(&mut retire, false, 0, &[2], &[]).unwrap();
    let bytes = frames(&[(mark(21), &schema), (mark(22), &retire)]);
    bench.frame("a slot retired that was never declared", "slot 2", &bytes)?;
    let bytes = frames(&[(mark(31), &schema), (mark(33), &good)]);
    bench.frame("a number left out", "begins no chain", &bytes)?;
    let bytes = frames(&[(mark(41), &wide), (mark(42), &of_three), (mark(41), &wide)]);
    bench.lane("numbers that go backwards", "after", &bytes)?;
    bench.punished("a lane that is not kept", "lane 1 is not kept here", |raw| {
        raw.open_lane(1)?;
        raw.send(&frames(&[(mark(50), &wide)]));
        Ok(())
    })
}

fn control_stream(bench: &Bench<'_>) -> anyhow::Result<()> {
    bench.punished("a garbage control message", "malformed message", |raw| {
        raw.open_lane(0)?;
        raw.control(&[5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff])
    })?;
    let words = format!("a message of 16777216 bytes, more than {CONTROL_MESSAGE_MAX_BYTES}");
    bench.punished("a control message too large", &words, |raw| raw.control(&(16_u32 << 20).to_le_bytes()))?;
    // A request that is a message, but no request for a certificate: refused, and the session goes on.
    let (mut raw, _) = Raw::greeted(bench.collector.agents, bench.identity)?;
    let renew = pitwatch_shared::control::ToCollector::Renew { csr: vec![1, 2, 3] };
    raw.control(&pitwatch_shared::control::framed(&renew)?)?;
    let (mut encoder, schema) = chain(0..2);
    raw.open_lane(0)?;
    let good = tick(&mut encoder, unix_ms(), &[1.0, 2.0]);
    raw.send(&frames(&[(mark(60), &schema), (mark(61), &good)]));
    raw.acked(mark(61))
}
