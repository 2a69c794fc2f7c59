//! The page of a host from answers as the collector gives them.

use super::*;
use crate::clock::Clock;

fn series(text: &str) -> Vec<VectorSeries> {
    serde_json::from_str(text).unwrap()
}

fn sample(metric: &str, more: &str, value: &str) -> String {
    format!(r#"{{"metric":{{"__name__":"{metric}","instance":"db-eu-3",{more}}},"value":[1000,"{value}"]}}"#)
}

fn all(samples: &[String]) -> Vec<VectorSeries> {
    series(&format!("[{}]", samples.join(",")))
}

fn page(time_ms: i64) -> Page {
    let host = r#"{"name":"db-eu-3","labels":{"env":"prod","role":"database"},"state":"alerting",
        "alerts":[{"name":"DiskFull"}],"since_ms":520000,"cpu_ratio":0.1234,"memory_ratio":0.64,"disk_ratio":0.91,
        "disk_mountpoint":"/data","network_bytes_per_second":41234567.8,"software":"0.3.1"}"#;
    let agent = r#"{"name":"db-eu-3","state":"connected","since_ms":100000,"last_sample_ms":1000000,"software":"0.3.1",
        "remote_address":"10.0.0.7:51000","certificate_not_after_ms":9000000000,"clock_skew_ms":3,"lost_frames":0}"#;
    let events = r#"{"more":false,"events":[
        {"time_ms":940000,"host":"db-eu-3","kind":"oom","severity":"critical","summary":"postgres was killed","labels":{}},
        {"time_ms":900000,"host":"db-eu-3","kind":"unit","severity":"info","summary":"nginx.service restarted","labels":{}}]}"#;
    let hour = |scale: f64| (0..41).map(|at| Some(f64::from(at) / 40.0 * scale)).collect::<Vec<_>>();
    let vital = |vital: &Vital, scale: f64| Series { name: vital.name, now: Some(scale), hour: hour(scale) };
    let scales = [0.12, 0.01, 3.2, 0.91, 0.0, 0.73, 41e6, 2e6, 0.0];
    let mut vitals: Vec<Series> = VITALS.iter().zip(scales).map(|(one, scale)| vital(one, scale)).collect();
    vitals[4] = Series { name: VITALS[4].name, now: None, hour: Vec::new() };
    Page {
        time_ms,
        host: serde_json::from_str(host).unwrap(),
        agent: serde_json::from_str(agent).unwrap(),
        vitals,
        processes: processes(all(&[
            sample("pitwatch_process_cpu_ratio", r#""name":"postgres","pid":"2210""#, "0.81"),
            sample("pitwatch_process_resident_memory_bytes", r#""name":"postgres","pid":"2210""#, "8589934592"),
            sample("pitwatch_process_cpu_ratio", r#""name":"backup","pid":"77""#, "1.5"),
        ])),
        filesystems: filesystems(all(&[
            sample("node_filesystem_size_bytes", r#""mountpoint":"/","fstype":"ext4""#, "1e11"),
            sample("node_filesystem_avail_bytes", r#""mountpoint":"/","fstype":"ext4""#, "6e10"),
            sample("node_filesystem_size_bytes", r#""mountpoint":"/data","fstype":"xfs""#, "1e12"),
            sample("node_filesystem_avail_bytes", r#""mountpoint":"/data","fstype":"xfs""#, "9e10"),
        ])),
        alerts: vec![Firing {
            name: "DiskFull".to_owned(),
            severity: "critical".to_owned(),
            summary: Some("/data is full in 3 h".to_owned()),
            since_ms: Some(520_000),
        }],
        events: serde_json::from_str(events).unwrap(),
    }
}

#[test]
fn a_page_goes_from_what_is_wrong_to_who_did_it() {
    let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
    insta::assert_snapshot!(write::page(&page(1_000_000), &screen), @"
    db-eu-3   ✖ alerting for 8 min   env=prod role=database
    agent 0.3.1 connected for 15 min, last sample now

                            NOW  THE HOUR BEFORE
    CPU                     12%  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂
    waiting for CPU          1%  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
    load                    3.2  ▁▁▁▂▂▂▂▂▂▃▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▆▇▇▇▇▇▇██
    memory                  91%  ▁▁▁▁▂▂▂▂▂▂▃▃▃▃▃▃▄▄▄▄▄▄▅▅▅▅▅▅▅▆▆▆▆▆▆▇▇▇▇▇
    waiting for memory        –
    busiest disk            73%  ▁▁▁▁▂▂▂▂▂▂▂▂▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▆▆▆▆
    network in          41 MB/s  ▁▁▁▂▂▂▂▂▂▃▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▆▇▇▇▇▇▇██
    network out          2 MB/s  ▁▁▁▂▂▂▂▂▂▃▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▆▇▇▇▇▇▇██
    network errors          0/s  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁

    ALERTS
    STATE     ALERT     SEVERITY  FOR    WHAT
    ✖ firing  DiskFull  critical  8 min  /data is full in 3 h

    PROCESSES
    PROCESS    PID   CPU  MEMORY  DISK  FILES  THREADS
    backup      77  150%       –     –      –        –
    postgres  2210   81%   8 GiB     –      –        –

    FILESYSTEMS
    MOUNT  TYPE      SIZE      FREE  USED
    /data  xfs    931 GiB  83.8 GiB   91%
    /      ext4  93.1 GiB  55.9 GiB   40%

    EVENTS
    WHEN   SEVERITY  KIND  WHAT
    00:15  critical  oom   postgres was killed
    00:15  info      unit  nginx.service restarted
    ");
    let before = write::page(&page(0), &screen);
    assert!(before.contains("as it was at 1970-01-01 00:00:00"), "{before}");
}

#[test]
fn gaps_stay_gaps() {
    let series: MatrixSeries = serde_json::from_str(
        r#"{"metric":{},"values":[[0,"1"],[90,"2"],[270,"NaN"],[3600,"5"],[9999,"6"],[-90,"7"]]}"#,
    )
    .unwrap();
    let values = on_steps(&series, 0);
    assert_eq!(values.len(), 41);
    assert_eq!((values[0], values[1], values[2], values[3], values[40]), (Some(1.0), Some(2.0), None, None, Some(5.0)));
}
