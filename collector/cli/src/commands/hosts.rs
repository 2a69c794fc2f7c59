//! `pitwatch hosts`: every host, the worst first.

use super::{Screen, age, counted, state, tally};
use crate::answers::{Host, HostsData};
use crate::table::{Cell, Column, Table, Tone};
use crate::units::{Base, Unit, percent};

/// Shares above which a disk or memory is worth a look.
const FULL_AMBER: f64 = 0.85;
const FULL_RED: f64 = 0.95;

pub(super) fn arrange(data: &HostsData, screen: &Screen) -> (Table, bool) {
    let columns = vec![
        Column::left("HOST", "host"),
        Column::left("ROLE", "role"),
        Column::left("STATE", "state"),
        Column::right("CPU", "cpu_ratio"),
        Column::right("MEM", "memory_ratio"),
        Column::left("DISK", "disk_ratio"),
        Column::right("NET", "network_bytes_per_second"),
        Column::left("SINCE", "since_ms"),
        Column::left("AGENT", "agent"),
        Column::left("ALERTS", "alerts"),
    ];
    let mut table = Table::new(columns);
    for host in &data.hosts {
        table.push(row(host, screen));
    }
    let count = |word: &str| data.hosts.iter().filter(|host| host.state == word).count();
    let (well, alerting, silent) = (count("well"), count("alerting"), count("silent"));
    let total = counted(data.hosts.len(), "host", "hosts");
    let summary = match data.hosts.len() {
        0 => "0 hosts: enrol the first with the line that `pitwatch token create` prints".to_owned(),
        _ => tally(total, &[(well, "well"), (alerting, "alerting"), (silent, "silent")]),
    };
    (table.summary(summary), well < data.hosts.len())
}

fn row(host: &Host, screen: &Screen) -> Vec<Cell> {
    let share = |ratio: Option<f64>| Cell::maybe(ratio, |ratio| percent(*ratio));
    let disk = Cell::maybe(host.disk_ratio, |ratio| {
        let mount = host.disk_mountpoint.as_deref().unwrap_or_default();
        format!("{} {mount}", percent(*ratio))
    });
    let network = Unit { base: Base::NetworkBytes, per_second: true };
    let alerts: Vec<&str> = host.alerts.iter().map(|alert| &*alert.name).collect();
    vec![
        Cell::new(&*host.name),
        Cell::new(host.labels.get("role").map_or("", String::as_str)),
        state(&host.state),
        share(host.cpu_ratio),
        share(host.memory_ratio).tone(full_tone(host.memory_ratio)),
        disk.tone(full_tone(host.disk_ratio)),
        Cell::maybe(host.network_bytes_per_second, |rate| network.text(*rate, &screen.clock)),
        age(host.since_ms, screen),
        Cell::new(&*host.software),
        Cell::new(alerts.join(" ")),
    ]
}

/// How a share stands out that must not reach one.
pub(crate) fn full_tone(ratio: Option<f64>) -> Tone {
    match ratio {
        None => Tone::Faint,
        Some(ratio) if ratio >= FULL_RED => Tone::Red,
        Some(ratio) if ratio >= FULL_AMBER => Tone::Amber,
        Some(_) => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn hosts_are_one_line_each() {
        let data: HostsData = serde_json::from_str(
            r#"{"now_ms":1000000,"hosts":[
                {"name":"db-eu-3","labels":{"role":"database"},"state":"alerting","alerts":[{"name":"DiskFull"}],
                 "since_ms":520000,"cpu_ratio":0.1234,"memory_ratio":0.64,"disk_ratio":0.91,"disk_mountpoint":"/data",
                 "network_bytes_per_second":41234567.8,"software":"0.3.1"},
                {"name":"rgs-us-11","labels":{"role":"game"},"state":"silent","alerts":[],"since_ms":760000,
                 "cpu_ratio":null,"memory_ratio":null,"disk_ratio":null,"disk_mountpoint":null,
                 "network_bytes_per_second":null,"software":"0.3.0"},
                {"name":"lobby-1","labels":{},"state":"well","alerts":[],"since_ms":null,"cpu_ratio":0.041,
                 "memory_ratio":0.31,"disk_ratio":0.4,"disk_mountpoint":"/","network_bytes_per_second":2e6,
                 "software":"0.3.1"}]}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
        let (table, is_bad_news) = arrange(&data, &screen);
        assert!(is_bad_news);
        insta::assert_snapshot!(table.to_text(false, None), @"
        HOST       ROLE      STATE       CPU  MEM  DISK             NET  SINCE  AGENT  ALERTS
        db-eu-3    database  ✖ alerting  12%  64%  91% /data  41.2 MB/s  8 min  0.3.1  DiskFull
        rgs-us-11  game      … silent      –    –  –                  –  4 min  0.3.0
        lobby-1              ✔ well       4%  31%  40% /         2 MB/s  –      0.3.1
        3 hosts: 1 well, 1 alerting, 1 silent
        ");
        insta::assert_snapshot!(table.to_csv(), @"
        host,role,state,cpu_ratio,memory_ratio,disk_ratio,network_bytes_per_second,since_ms,agent,alerts
        db-eu-3,database,alerting,0.1234,0.64,0.91,41234567.8,520000,0.3.1,DiskFull
        rgs-us-11,game,silent,,,,,760000,0.3.0,
        lobby-1,,well,0.041,0.31,0.4,2000000,,0.3.1,
        ");
        let (table, is_bad_news) = arrange(&HostsData { hosts: Vec::new() }, &screen);
        assert!(!is_bad_news);
        insta::assert_snapshot!(table.to_text(false, None), @"
        0 hosts: enrol the first with the line that `pitwatch token create` prints
        ");
    }
}
