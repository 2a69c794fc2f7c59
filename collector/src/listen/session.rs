//! An admitted agent's connection: hello and welcome, its lanes' frames to ingest, acks and certificates back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pitwatch_history::SourceName;
use pitwatch_shared::control::{
    self, CloseCode, Hello, LENGTH_BYTES, LaneResume, ToAgent, ToCollector, VERSION_SETTINGS, VERSIONS, Welcome,
    bounded_reason,
};
use pitwatch_shared::delivery::FrameReader;
use pitwatch_shared::identity::Fingerprint;
use pitwatch_shared::model::Mark;
use pitwatch_shared::wire::{self, WireError};
use quinn::{Connection, ReadExactError, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tracing::info;

use super::{HANDSHAKE_TIMEOUT_SECS, Shared};
use crate::agents::Admitted;
use crate::clock::unix_ms;
use crate::ingest::{Arrived, Event, LANES, Progress, QUEUE_AGENT_BYTES};

/// Bytes taken from a lane's stream at a time.
const READ_BYTES: usize = 64 * 1024;
/// Agents that a restarted collector takes back each second, with room to spare: a handshake costs half a
/// millisecond of a core (docs/decisions/transport.md).
const RETURNS_PER_SEC: u64 = 1_000;
/// Least time over which agents come back, milliseconds.
const SPREAD_MIN_MS: u64 = 200;

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The agent broke the protocol: close with this reason.
    Fault(String),
    /// Turned away with this code and reason.
    Refused(CloseCode, String),
    /// The connection is gone already.
    Gone(String),
}

/// Serves an agent to the connection's end; `permit` is given back once it is in.
pub async fn serve(
    connection: &Connection,
    permit: OwnedSemaphorePermit,
    admitted: &Admitted,
    fingerprint: Fingerprint,
    shared: &Arc<Shared>,
) -> End {
    let limit = Duration::from_secs(HANDSHAKE_TIMEOUT_SECS);
    let met = match tokio::time::timeout(limit, Box::pin(meet(connection, admitted, shared))).await {
        Ok(Ok(met)) => met,
        Ok(Err(end)) => return end,
        Err(_) => return End::Fault(format!("no hello in {HANDSHAKE_TIMEOUT_SECS} s, or no room for the agent")),
    };
    drop(permit);
    let Met { control, requests, progress, source } = met;
    let share = Arc::new(Semaphore::new(QUEUE_AGENT_BYTES));
    // Each takes the stream of a lane, in the order in which the agent opens them; an older agent opens one.
    let lane = || async {
        match connection.accept_uni().await {
            // On the heap, so that a lane costs nothing until its stream is there.
            Ok(stream) => Box::pin(receive(stream, connection, admitted, &source, &share, shared)).await,
            Err(error) => End::Gone(error.to_string()),
        }
    };
    let end = tokio::select! {
        end = lane() => end,
        end = lane() => end,
        end = converse(control, requests, progress, admitted, fingerprint, shared, connection) => end,
    };
    // Whichever stream noticed first: if the connection is gone, that is the reason.
    match connection.close_reason() {
        Some(reason) => End::Gone(reason.to_string()),
        None => end,
    }
}

struct Met {
    control: SendStream,
    requests: RecvStream,
    progress: watch::Receiver<Progress>,
    source: SourceName,
}

async fn meet(connection: &Connection, admitted: &Admitted, shared: &Shared) -> Result<Met, End> {
    let (mut control, mut requests) = connection.accept_bi().await.map_err(|error| End::Gone(error.to_string()))?;
    let hello: Hello = {
        let bytes = read_bytes(&mut requests, connection).await?;
        control::decode_hello(&bytes).map_err(fault)?
    };
    let version = VERSIONS.common(hello.versions).ok_or_else(|| {
        let (ours, theirs) = (VERSIONS, hello.versions);
        End::Refused(
            CloseCode::Version,
            format!(
                "this collector speaks versions {} to {}, the agent {} to {}: update the older of the two",
                ours.min, ours.max, theirs.min, theirs.max
            ),
        )
    })?;
    let now_ms = unix_ms();
    admitted.live.clock_skew_ms.store(hello.clock_ms.saturating_sub(now_ms), Ordering::Relaxed);
    shared.agents.introduced(&admitted.name, bounded_reason(&hello.software), &hello.labels);

    let source = SourceName::agent(&admitted.name);
    let (progress, progressed) = watch::channel(Progress::default());
    let (reply, resume) = oneshot::channel();
    let open = Event::Open { source: source.clone(), session: admitted.session, progress, reply };
    let stopping = || End::Refused(CloseCode::Stopping, "the collector is stopping".into());
    if !shared.ingest.send(open).await {
        return Err(stopping());
    }
    let resume = resume.await.map_err(|_| stopping())?;
    // By all that are known, not by those that are here: the first of a fleet must spread as wide as the last.
    let spread_ms = (shared.agents.known() as u64 * 1000 / RETURNS_PER_SEC).max(SPREAD_MIN_MS);
    let welcome = Welcome {
        version,
        clock_ms: unix_ms(),
        lanes: LANES
            .iter()
            .zip(&resume)
            .map(|(lane, resume)| LaneResume {
                lane: *lane as u8,
                durable: resume.durable.map(|mark| (mark.epoch, mark.seq)),
                chain_known: resume.chain_known,
            })
            .collect(),
        reconnect_spread_ms: u32::try_from(spread_ms).unwrap_or(u32::MAX),
    };
    let mut bytes = control::framed(&welcome).map_err(fault)?;
    if version >= VERSION_SETTINGS {
        let role = hello.labels.iter().find(|(name, _)| name == "role").map_or("", |(_, role)| role.as_str());
        let text = shared.roles.get(role).cloned().unwrap_or_default();
        bytes.extend(control::framed(&ToAgent::Settings { text }).map_err(fault)?);
    }
    control.write_all(&bytes).await.map_err(|error| End::Gone(error.to_string()))?;
    info!(
        agent = admitted.name,
        from = %connection.remote_address(),
        version = hello.software,
        resume = ?resume[0].durable,
        "agent connected"
    );
    Ok(Met { control, requests, progress: progressed, source })
}

/// The stream of one lane to ingest. `share` is the agent's part of the queue.
async fn receive(
    mut stream: RecvStream,
    connection: &Connection,
    admitted: &Admitted,
    source: &SourceName,
    share: &Arc<Semaphore>,
    shared: &Shared,
) -> End {
    let mut byte = [0];
    if let Err(end) = read_exact(&mut stream, &mut byte, connection).await {
        return end;
    }
    let Some(lane) = LANES.into_iter().find(|lane| *lane as u8 == byte[0]) else {
        return End::Fault(format!("lane {} is not kept here", byte[0]));
    };
    let mut frames = FrameReader::new();
    let mut last: Option<Mark> = None;
    loop {
        let chunk = match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => return End::Fault("the lane's stream ended".into()),
            Err(error) => return End::Gone(error.to_string()),
        };
        frames.extend(&chunk);
        loop {
            let (mark, payload): (Mark, Bytes) = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return End::Fault(error.to_string()),
            };
            if let Some(last) = last.filter(|last| mark <= *last) {
                return End::Fault(format!("frame {mark:?} came after {last:?}: numbers only grow"));
            }
            last = Some(mark);
            let Some(permits) = shared.ingest.admit(share, payload.len()).await else {
                return End::Refused(CloseCode::Stopping, "the collector is stopping".into());
            };
            let counters = admitted.live.counters.clone();
            let session = admitted.session;
            let arrived = Arrived { source: source.clone(), session, lane, mark, payload, counters, permits };
            if !shared.ingest.send(Event::Frame(arrived)).await {
                return End::Refused(CloseCode::Stopping, "the collector is stopping".into());
            }
        }
    }
}

/// Acks as commits come; certificates as they are asked for.
async fn converse(
    mut control: SendStream,
    mut requests: RecvStream,
    mut progress: watch::Receiver<Progress>,
    admitted: &Admitted,
    fingerprint: Fingerprint,
    shared: &Shared,
    connection: &Connection,
) -> End {
    let mut request = Box::pin(take_request(&mut requests, connection));
    let mut told = [None; LANES.len()];
    loop {
        let messages = tokio::select! {
            changed = progress.changed() => {
                if changed.is_err() {
                    return End::Refused(CloseCode::Stopping, "the collector is stopping".into());
                }
                let Progress { durable, fault } = progress.borrow_and_update().clone();
                if let Some(reason) = fault {
                    return End::Fault(reason);
                }
                let mut acks = Vec::new();
                for ((lane, durable), told) in LANES.iter().zip(durable).zip(&mut told) {
                    if let Some(mark) = durable.filter(|mark| *told != Some(*mark)) {
                        *told = Some(mark);
                        acks.push(ToAgent::Ack { lane: *lane as u8, epoch: mark.epoch, seq: mark.seq });
                    }
                }
                acks
            }
            taken = &mut request => {
                let (requests, ToCollector::Renew { csr }) = match taken {
                    Ok(taken) => taken,
                    Err(end) => return end,
                };
                request = Box::pin(take_request(requests, connection));
                match shared.agents.renew(&admitted.name, fingerprint, &csr, unix_ms()) {
                    Ok(issued) => {
                        info!(agent = admitted.name, "certificate renewed");
                        vec![ToAgent::Renewed(issued)]
                    }
                    Err(error) => {
                        vec![ToAgent::RenewRefused { reason: bounded_reason(&error.to_string()).to_owned() }]
                    }
                }
            }
        };
        let mut bytes = Vec::new();
        for message in &messages {
            match control::framed(message) {
                Ok(framed) => bytes.extend_from_slice(&framed),
                Err(error) => return End::Fault(error.to_string()),
            }
        }
        if let Err(error) = control.write_all(&bytes).await {
            return End::Gone(error.to_string());
        }
    }
}

/// One request, and the stream back for the next.
async fn take_request<'a>(
    requests: &'a mut RecvStream,
    connection: &Connection,
) -> Result<(&'a mut RecvStream, ToCollector), End> {
    let message = read_message(requests, connection).await?;
    Ok((requests, message))
}

/// Reads one message of a control stream.
pub(super) async fn read_message<T: wire::Message>(stream: &mut RecvStream, connection: &Connection) -> Result<T, End> {
    let bytes = read_bytes(stream, connection).await?;
    wire::decode(&bytes).map_err(fault)
}

async fn read_bytes(stream: &mut RecvStream, connection: &Connection) -> Result<Vec<u8>, End> {
    let mut length = [0; LENGTH_BYTES];
    read_exact(stream, &mut length, connection).await?;
    let mut bytes = vec![0; control::message_length(length).map_err(fault)?];
    read_exact(stream, &mut bytes, connection).await?;
    Ok(bytes)
}

async fn read_exact(stream: &mut RecvStream, bytes: &mut [u8], connection: &Connection) -> Result<(), End> {
    match stream.read_exact(bytes).await {
        Ok(()) => Ok(()),
        Err(ReadExactError::FinishedEarly(_)) => Err(End::Fault("a stream ended in the middle".into())),
        Err(ReadExactError::ReadError(error)) => {
            Err(End::Gone(connection.close_reason().map_or_else(|| error.to_string(), |reason| reason.to_string())))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
fn fault(error: WireError) -> End {
    End::Fault(error.to_string())
}
