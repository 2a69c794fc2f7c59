//! How often one address may try to sign in: each try costs a write to the state store or a look for a token that is
//! not there, and a browser has no use for many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tries that an address may make at once.
const BURST: u32 = 20;
/// How soon it has one more.
const REFILL: Duration = Duration::from_secs(3);
/// Addresses that are remembered; the one that tried least recently goes first.
const ADDRESSES_MAX: usize = 4_096;

/// Tries by address.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Share>>);

#[derive(Debug)]
struct Share {
    /// When all tries are back.
    full_at: Instant,
}

impl Attempts {
    /// Takes one try.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub(super) fn take(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= ADDRESSES_MAX {
            shares.retain(|_, share| share.full_at > now);
        }
        if shares.len() >= ADDRESSES_MAX {
            let oldest = shares.iter().min_by_key(|(_, share)| share.full_at).map(|(address, _)| *address);
            oldest.map(|address| shares.remove(&address));
        }
        let share = shares.entry(network(from)).or_insert(Share { full_at: now });
        let missing = share.full_at.saturating_duration_since(now);
        let limit = REFILL * (BURST - 1);
        if missing > limit {
            return Err(missing - limit);
        }
        share.full_at = now + missing + REFILL;
        Ok(())
    }
}

/// Whoever has one address of IPv6 has the 64 bits behind it, too.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_burst_and_then_one_now_and_then() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..BURST {
            attempts.take(one, now).unwrap();
        }
        assert_eq!(attempts.take(one, now), Err(REFILL));
        attempts.take(other, now).unwrap();
        attempts.take(one, now + REFILL).unwrap();
        assert!(attempts.take(one, now + REFILL).is_err());
        attempts.take(one, now + REFILL * 100).unwrap();
    }

    #[test]
    fn neighbours_of_ipv6_are_one_and_memory_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for host in 0..u64::from(BURST) {
            attempts.take(Ipv6Addr::from(u128::from(host)).into(), now).unwrap();
        }
        attempts.take("::ffff:1".parse().unwrap(), now).unwrap_err();
        for network in 0..2 * ADDRESSES_MAX as u128 {
            let _ = attempts.take(Ipv6Addr::from(network << 64).into(), now);
        }
        assert!(attempts.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
