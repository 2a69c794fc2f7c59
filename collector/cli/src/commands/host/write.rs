//! The page of a host as text.

use super::super::hosts::full_tone;
use super::super::{Screen, age, state};
use super::{Page, Series};
use crate::plot::spark_of;
use crate::table::{Cell, Column, Table, Tone, one_line};
use crate::units::{Base, Unit, percent};

/// Characters of a sparkline.
const SPARK_WIDTH: usize = 40;

pub(super) fn page(page: &Page, screen: &Screen) -> String {
    let parts = [
        head(page, screen),
        vitals(page, screen),
        section("ALERTS", alerts(page, screen), screen),
        section("PROCESSES", processes(page, screen), screen),
        section("FILESYSTEMS", filesystems(page, screen), screen),
        section("EVENTS", events(page, screen), screen),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Who it is, and what is wrong, in two lines.
fn head(page: &Page, screen: &Screen) -> String {
    let host = &page.host;
    let (mark, tone) = match &*host.state {
        "alerting" => ("✖", Tone::Red),
        "silent" => ("…", Tone::Amber),
        _ => ("✔", Tone::Plain),
    };
    let since = host.since_ms.map(|since| format!(" for {}", screen.clock.age(since))).unwrap_or_default();
    let labels: Vec<String> = host.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let state = tone.paint(&format!("{mark} {}{since}", host.state), screen.color);
    let mut out = format!("{}   {state}   {}\n", one_line(&host.name), one_line(&labels.join(" ")));
    if let Some(agent) = &page.agent {
        let since = agent.since_ms.map(|since| format!(" for {}", screen.clock.age(since))).unwrap_or_default();
        let last = agent.last_sample_ms.map_or("no sample yet".to_owned(), |last| match screen.clock.age(last) {
            age if age == "now" => "last sample now".to_owned(),
            age => format!("last sample {age} ago"),
        });
        out += &format!("agent {} {}{since}, {last}\n", one_line(&agent.software), one_line(&agent.state));
    }
    if (screen.clock.now_ms - page.time_ms).abs() > 1000 {
        out += &format!("as it was at {}\n", screen.clock.date_time(page.time_ms));
    }
    out
}

fn vitals(page: &Page, screen: &Screen) -> String {
    let columns = vec![Column::left("", "vital"), Column::right("NOW", "now"), Column::left("THE HOUR BEFORE", "hour")];
    let mut table = Table::new(columns);
    for series in &page.vitals {
        let (title, unit) = title(series.name);
        let shown = |value: &f64| match unit {
            Unit { base: Base::Ratio, .. } => percent(*value),
            unit => unit.text(*value, &screen.clock),
        };
        let most = (unit.base == Base::Ratio).then_some(1.0);
        let tone = if series.name == "memory_ratio" { full_tone(series.now) } else { Tone::Plain };
        table.push(vec![
            Cell::new(title),
            Cell::maybe(series.now, shown).tone(tone),
            Cell::new(spark_of(&hour(series), SPARK_WIDTH, most)).tone(Tone::Faint),
        ]);
    }
    table.to_text(screen.color, screen.columns)
}

fn hour(series: &Series) -> Vec<f64> {
    series.hour.iter().map(|value| value.unwrap_or(f64::NAN)).collect()
}

fn title(vital: &str) -> (&'static str, Unit) {
    let network = Unit { base: Base::NetworkBytes, per_second: true };
    let ratio = Unit::of(Base::Ratio);
    match vital {
        "cpu_ratio" => ("CPU", ratio),
        "cpu_waiting_ratio" => ("waiting for CPU", ratio),
        "load1" => ("load", Unit::NUMBER),
        "memory_ratio" => ("memory", ratio),
        "memory_waiting_ratio" => ("waiting for memory", ratio),
        "disk_busy_ratio" => ("busiest disk", ratio),
        "network_receive_bytes_per_second" => ("network in", network),
        "network_transmit_bytes_per_second" => ("network out", network),
        _ => ("network errors", Unit { base: Base::Number, per_second: true }),
    }
}

fn section(title: &str, table: Option<Table>, screen: &Screen) -> String {
    let Some(table) = table else { return String::new() };
    format!("{}\n{}", Tone::Faint.paint(title, screen.color), table.to_text(screen.color, screen.columns))
}

fn alerts(page: &Page, screen: &Screen) -> Option<Table> {
    let columns = vec![
        Column::left("STATE", "state"),
        Column::left("ALERT", "alert"),
        Column::left("SEVERITY", "severity"),
        Column::left("FOR", "since_ms"),
        Column::left("WHAT", "summary"),
    ];
    let mut table = Table::new(columns);
    for alert in &page.alerts {
        table.push(vec![
            state("firing"),
            Cell::new(&*alert.name),
            Cell::new(&*alert.severity),
            age(alert.since_ms, screen),
            Cell::new(alert.summary.as_deref().unwrap_or_default()),
        ]);
    }
    (!page.alerts.is_empty()).then_some(table)
}

fn processes(page: &Page, screen: &Screen) -> Option<Table> {
    let columns = vec![
        Column::left("PROCESS", "name"),
        Column::right("PID", "pid"),
        Column::right("CPU", "cpu_ratio"),
        Column::right("MEMORY", "resident_memory_bytes"),
        Column::right("DISK", "io_bytes_per_second"),
        Column::right("FILES", "open_files"),
        Column::right("THREADS", "threads"),
    ];
    let bytes = |value: &f64| Unit::of(Base::Bytes).text(*value, &screen.clock);
    let rate = |value: &f64| Unit { base: Base::Bytes, per_second: true }.text(*value, &screen.clock);
    let count = |value: &f64| Unit::NUMBER.text(*value, &screen.clock);
    let mut table = Table::new(columns);
    for process in &page.processes {
        table.push(vec![
            Cell::new(&*process.name),
            Cell::new(&*process.pid),
            Cell::maybe(process.cpu_ratio, |ratio| percent(*ratio)),
            Cell::maybe(process.resident_memory_bytes, bytes),
            Cell::maybe(process.io_bytes_per_second, rate),
            Cell::maybe(process.open_files, count),
            Cell::maybe(process.threads, count),
        ]);
    }
    (!page.processes.is_empty()).then_some(table)
}

fn filesystems(page: &Page, screen: &Screen) -> Option<Table> {
    let columns = vec![
        Column::left("MOUNT", "mountpoint"),
        Column::left("TYPE", "fstype"),
        Column::right("SIZE", "size_bytes"),
        Column::right("FREE", "avail_bytes"),
        Column::right("USED", "used_ratio"),
    ];
    let bytes = |value: &f64| Unit::of(Base::Bytes).text(*value, &screen.clock);
    let mut table = Table::new(columns);
    for filesystem in &page.filesystems {
        let used = filesystem.used_ratio();
        table.push(vec![
            Cell::new(&*filesystem.mountpoint),
            Cell::new(&*filesystem.fstype),
            Cell::maybe(filesystem.size_bytes, bytes),
            Cell::maybe(filesystem.avail_bytes, bytes),
            Cell::maybe(used, |used| percent(*used)).tone(full_tone(used)),
        ]);
    }
    (!page.filesystems.is_empty()).then_some(table)
}

fn events(page: &Page, screen: &Screen) -> Option<Table> {
    let events = &page.events.as_ref()?.events;
    let columns = vec![
        Column::left("WHEN", "time_ms"),
        Column::left("SEVERITY", "severity"),
        Column::left("KIND", "kind"),
        Column::left("WHAT", "summary"),
    ];
    let mut table = Table::new(columns);
    for event in events {
        let tone = match &*event.severity {
            "critical" => Tone::Red,
            "warning" => Tone::Amber,
            _ => Tone::Faint,
        };
        table.push(vec![
            Cell::new(screen.clock.short(event.time_ms)),
            Cell::new(&*event.severity).tone(tone),
            Cell::new(&*event.kind),
            Cell::new(&*event.summary),
        ]);
    }
    (!events.is_empty()).then_some(table)
}
