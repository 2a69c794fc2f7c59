//! Packets lost, doubled and out of order between agent and collector: a relay that mistreats them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pitwatch_tests::programs::{Agent, Collector};

use crate::support::{FAST, assert_whole, said, unix_ms, wait_for_tick};

const LOST: f64 = 0.10;
const DOUBLED: f64 = 0.05;
/// Packets wait up to this long, each for itself: so they overtake one another. Milliseconds.
const DELAY_MAX_MS: u64 = 40;

/// Passes packets between one client and a server, not all, not once, not in order.
struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    mistreated: Arc<AtomicUsize>,
}

impl Relay {
    fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let bind = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(2)))?;
            Ok(socket)
        };
        let (front, back) = (Arc::new(bind()?), Arc::new(bind()?));
        let address = front.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mistreated = Arc::new(AtomicUsize::new(0));
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        for (from, to, forward) in [(front.clone(), back.clone(), true), (back, front, false)] {
            let (stop, mistreated, client) = (stop.clone(), mistreated.clone(), client.clone());
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(u64::from(forward));
                let mut waiting: BinaryHeap<Reverse<(Instant, Vec<u8>)>> = BinaryHeap::new();
                let mut buffer = vec![0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, sender)) = from.recv_from(&mut buffer) {
                        if forward {
                            *client.lock().unwrap() = Some(sender);
                        }
                        let lost = random.f64() < LOST;
                        let copies = if lost { 0 } else { 1 + usize::from(random.f64() < DOUBLED) };
                        mistreated.fetch_add(usize::from(copies != 1), Ordering::Relaxed);
                        for _ in 0..copies {
                            let at = Instant::now() + Duration::from_millis(random.u64(0..=DELAY_MAX_MS));
                            waiting.push(Reverse((at, buffer[..length].to_vec())));
                        }
                    }
                    while waiting.peek().is_some_and(|Reverse((at, _))| *at <= Instant::now()) {
                        let Some(Reverse((_, packet))) = waiting.pop() else { break };
                        let target = if forward { Some(server) } else { *client.lock().unwrap() };
                        if let Some(target) = target {
                            let _ = to.send_to(&packet, target);
                        }
                    }
                }
            });
        }
        Ok(Self { address, stop, mistreated })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn packets_lost_doubled_and_out_of_order_change_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(&dir.path().join("collector"), "", "")?;
    let relay = Relay::start(collector.agents)?;
    let mut agent = Agent::configure(&dir.path().join("agent"), "far-1", relay.address, FAST)?;
    let output = agent.enroll(&collector.enroll_token()?)?;
    assert!(output.status.success(), "{}", said(&output));
    agent.restart()?;
    let api = collector.api()?;
    wait_for_tick(&api, "far-1", unix_ms() + 20_000, Duration::from_secs(60))?;
    assert_whole(&api, "far-1", 1_000)?;
    let mistreated = relay.mistreated.load(Ordering::Relaxed);
    assert!(mistreated > 50, "only {mistreated} packets were lost or doubled");
    println!("{mistreated} packets lost or doubled, nothing amiss");
    Ok(())
}
