//! Datagrams of StatsD: taken or counted, and series within their limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_agent::apps::names::Namer;
use pitwatch_agent::apps::statsd::Statsd;
use pitwatch_agent::signals::Table;

fuzz_target!(|datagrams: Vec<&[u8]>| {
    let (mut statsd, mut table) = (Statsd::new(Namer::default(), 50, 3), Table::new(&[]));
    for datagram in datagrams {
        statsd.take(datagram);
        statsd.tick(&mut table);
        assert!(table.len() <= 50 * 5 + 4);
    }
});
