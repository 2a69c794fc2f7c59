//! The host's sockets: TCP connections by state, the queues of listeners and of UDP, asked of the kernel by
//! NETLINK_SOCK_DIAG.
//!
//! The kernel's answer is binary, 72 bytes a socket; it says the same as /proc/net/tcp and udp without text to be written
//! and read, which matters on a host of 100,000 connections. It is of the network namespace that the agent lives in, as
//! those files are.

use std::io;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::metric::Metric;
use super::source::{Pass, Source, SourceError};
use super::table::Handle;

const FILE: &str = "NETLINK_SOCK_DIAG";

/// Names of the kernel's states from 1 on, as node_exporter's tcpstat writes them; the last stands for a kernel's own.
const STATES: [&str; 12] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
];
const LISTEN: usize = 10;

/// What the sockets give.
pub(super) static METRICS: [Metric; 4] = [
    Metric::gauge("node_tcp_connection_states", "connections", FILE, "TCP connections in a state.").by(&["state"]),
    Metric::gauge("node_udp_queues", "bytes", FILE, "Memory of all UDP sockets' queues.").by(&["ip", "queue"]),
    Metric::gauge(
        "pitwatch_tcp_listeners_full",
        "sockets",
        FILE,
        "Listening sockets whose queue of connections to accept is full.",
    ),
    Metric::gauge(
        "pitwatch_tcp_listen_queue_ratio",
        "",
        FILE,
        "How full the fullest queue of connections to accept is; 1 is full.",
    ),
];

/// `nlmsghdr` and `inet_diag_req_v2`, and where of a message `inet_diag_msg` has what is taken.
mod layout {
    pub(super) const REQUEST_BYTES: usize = 72;
    pub(super) const HEADER_BYTES: usize = 16;
    pub(super) const MESSAGE_BYTES: usize = HEADER_BYTES + 72;
    pub(super) const STATE: usize = HEADER_BYTES + 1;
    pub(super) const RECEIVE_QUEUE: usize = HEADER_BYTES + 56;
    pub(super) const SEND_QUEUE: usize = HEADER_BYTES + 60;
    pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub(super) const NLMSG_ERROR: u16 = 2;
    pub(super) const NLMSG_DONE: u16 = 3;
    /// NLM_F_REQUEST and NLM_F_DUMP.
    pub(super) const FLAGS: u16 = 0x301;
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// The kernel fills no more than 32 KiB at a time.
const ANSWER_BYTES: usize = 32 * 1024;
/// Most parts of one answer: some 25 million sockets.
const PARTS_MAX: usize = 60_000;

/// What is added up over the sockets.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    states: [u64; STATES.len() + 1],
    /// Of v4 and of v6: bytes received and not read, bytes sent and not gone.
    udp: [[u64; 2]; 2],
    full: u64,
    fullest: f64,
}

/// The sockets.
pub(super) struct Sockets {
    socket: Option<OwnedFd>,
    answer: Vec<u8>,
    sequence: u32,
    states: [Handle; STATES.len()],
    udp: [[Handle; 2]; 2],
    listeners: [Handle; 2],
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            answer: vec![0; ANSWER_BYTES],
            sequence: 0,
            states: Default::default(),
            udp: Default::default(),
            listeners: Default::default(),
        }
    }
}

impl Source for Sockets {
    fn name(&self) -> &'static str {
        "sockets"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let mut sums = Sums::default();
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            for (at, family) in [AF_INET, AF_INET6].into_iter().enumerate() {
                let asked = self.ask(family, protocol, |state, received, sent| {
                    sums.take(protocol, at, state, received, sent);
                });
                if let Err(source) = asked {
                    // What is left of a broken answer must not be taken for the next one's.
                    self.socket = None;
                    return Err(SourceError::Call { what: FILE, source });
                }
            }
        }
        let sink = &mut pass.sink;
        for (at, (name, handle)) in STATES.into_iter().zip(&mut self.states).enumerate() {
            sink.set(handle, &METRICS[0], &[("state", name)], Some(sums.states[at + 1] as f64));
        }
        for (family, (handles, sums)) in ["v4", "v6"].into_iter().zip(self.udp.iter_mut().zip(sums.udp)) {
            for (queue, (handle, bytes)) in ["rx", "tx"].into_iter().zip(handles.iter_mut().zip(sums)) {
                sink.set(handle, &METRICS[1], &[("ip", family), ("queue", queue)], Some(bytes as f64));
            }
        }
        let [full, fullest] = &mut self.listeners;
        sink.set(full, &METRICS[2], &[], Some(sums.full as f64));
        sink.set(fullest, &METRICS[3], &[], Some(sums.fullest));
        Ok(())
    }
}

impl Sockets {
    /// Has `each` told the state and the queues of every socket.
    fn ask(&mut self, family: u8, protocol: u8, mut each: impl FnMut(u8, u32, u32)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let socket = match &self.socket {
            Some(socket) => socket,
            None => {
                let flags = SocketFlags::CLOEXEC;
                let made = rustix::net::socket_with(
                    AddressFamily::NETLINK,
                    SocketType::DGRAM,
                    flags,
                    Some(netlink::SOCK_DIAG),
                )?;
                self.socket.insert(made)
            }
        };
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(socket, &request(family, protocol, self.sequence), SendFlags::empty(), &kernel)?;
        for _ in 0..PARTS_MAX {
            let (read, _) = rustix::net::recv(socket, &mut self.answer[..], RecvFlags::empty())?;
            if part(&self.answer[..read], self.sequence, &mut each)? {
                return Ok(());
            }
        }
        Err(io::Error::other("an endless answer"))
    }
}

fn request(family: u8, protocol: u8, sequence: u32) -> [u8; layout::REQUEST_BYTES] {
    let mut request = [0; layout::REQUEST_BYTES];
    request[..4].copy_from_slice(&(layout::REQUEST_BYTES as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&layout::SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&layout::FLAGS.to_ne_bytes());
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
    request[16] = family;
    request[17] = protocol;
    // Every state.
    request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    request
}

/// Reads the messages of one part of an answer; `true` if it was the last.
fn part(mut bytes: &[u8], sequence: u32, each: &mut impl FnMut(u8, u32, u32)) -> io::Result<bool> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "a broken message");
    let u32_at = |message: &[u8], at: usize| {
        message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes).ok_or_else(broken)
    };
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0)? as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= layout::HEADER_BYTES).ok_or_else(broken)?;
        // Messages begin at multiples of 4.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        if u32_at(message, 8)? != sequence {
            continue;
        }
        match u16::from_ne_bytes([message[4], message[5]]) {
            layout::NLMSG_DONE => return Ok(true),
            layout::NLMSG_ERROR => {
                let code = u32_at(message, layout::HEADER_BYTES)? as i32;
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            layout::SOCK_DIAG_BY_FAMILY if message.len() >= layout::MESSAGE_BYTES => {
                let (received, sent) = (u32_at(message, layout::RECEIVE_QUEUE)?, u32_at(message, layout::SEND_QUEUE)?);
                each(message[layout::STATE], received, sent);
            }
            _ => {}
        }
    }
    Ok(false)
}

impl Sums {
    fn take(&mut self, protocol: u8, family: usize, state: u8, received: u32, sent: u32) {
        if protocol == IPPROTO_UDP {
            self.udp[family][0] += u64::from(received);
            self.udp[family][1] += u64::from(sent);
            return;
        }
        let state = usize::from(state);
        if let Some(count) = self.states.get_mut(state) {
            *count += 1;
        }
        // Of a listener: connections that wait, and how many may; the kernel takes one more than that.
        if state == LISTEN && sent > 0 {
            let ratio = f64::from(received) / f64::from(sent);
            self.full += u64::from(received > sent);
            self.fullest = self.fullest.max(ratio.min(1.0));
        }
    }
}

/// Any bytes taken for an answer of the kernel's: for the fuzz target.
#[doc(hidden)]
pub fn try_answer(bytes: &[u8]) {
    let mut sums = Sums::default();
    let _ = part(bytes, 0, &mut |state, received, sent| sums.take(IPPROTO_TCP, 0, state, received, sent));
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::super::testing::Bench;
    use super::*;

    fn bench() -> Bench {
        Bench::new(|_| Box::new(Sockets::new()))
    }

    fn state(bench: &mut Bench, state: &str) -> f64 {
        assert_eq!(bench.tick(), Ok(0));
        bench.value(&format!("node_tcp_connection_states{{state=\"{state}\"}}")).unwrap()
    }

    /// Other tests open and close sockets meanwhile: many are opened, so that theirs do not matter.
    #[test]
    fn sockets_that_are_opened_are_counted() {
        let mut bench = bench();
        let before = (state(&mut bench, "listen"), state(&mut bench, "established"));
        let listeners: Vec<_> = (0..200).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address = listeners[0].local_addr().unwrap();
        let _clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(state(&mut bench, "listen") >= before.0 + 150.0);
        assert!(state(&mut bench, "established") >= before.1 + 150.0, "both ends of each");
        drop(listeners);
        assert!(state(&mut bench, "listen") < before.0 + 100.0);
    }

    #[test]
    fn a_full_listen_queue_and_unread_datagrams_are_seen() {
        let mut bench = bench();
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let _clients: Vec<_> =
            (0..2).map(|_| TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1)).unwrap()).collect();
        let (one, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        for _ in 0..10 {
            one.send_to(&[7; 1000], other.local_addr().unwrap()).unwrap();
        }
        assert_eq!(bench.tick(), Ok(0));
        assert!(bench.value("pitwatch_tcp_listeners_full").unwrap() >= 1.0);
        assert_eq!(bench.value("pitwatch_tcp_listen_queue_ratio"), Some(1.0));
        assert!(bench.value("node_udp_queues{ip=\"v4\",queue=\"rx\"}").unwrap() >= 10_000.0);
    }

    #[test]
    fn a_refusal_is_an_error_and_other_answers_are_skipped() {
        let mut refusal = [0; 36];
        refusal[0] = 36;
        refusal[4] = 2;
        refusal[16..20].copy_from_slice(&(-13_i32).to_ne_bytes());
        let error = part(&refusal, 0, &mut |_, _, _| panic!()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(!part(&refusal, 1, &mut |_, _, _| panic!()).unwrap());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            try_answer(&bytes);
        }

        #[test]
        fn any_message_within_its_length_is_survived(
            kind in 0_u16..30, length in 0_u32..200, body in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 2], &[0; 8]].concat();
            try_answer(&[header, body].concat());
        }
    }
}
