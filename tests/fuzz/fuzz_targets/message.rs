//! A message's template: read or refused, and rendered within its limits.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pitwatch_alerting::message::{Detail, Frame, Message};
use pitwatch_alerting::template::{Library, Template};
use pitwatch_alerting::{LabelSet, Notification, Transition};

fuzz_target!(|input: &str| {
    let Ok(template) = Template::parse_message(input) else { return };
    let alert = Notification {
        id: String::new(),
        alert_key: "k".to_owned(),
        transition: Transition::Fired,
        at_ms: 0,
        labels: LabelSet::new([("alertname", "A"), ("instance", "x")]),
        annotations: LabelSet::new([("summary", "s")]),
        value: 1.0,
        active_at_ms: 0,
        fired_at_ms: 0,
        resolved_at_ms: None,
        no_data_since_ms: None,
        expr: "up".to_owned(),
        depends_on: Vec::new(),
    };
    let message = Message {
        receiver: "r".into(),
        route_key: "{}".to_owned(),
        group_labels: LabelSet::empty(),
        groups: 1,
        firing: vec![Arc::new(alert)],
        over: Vec::new(),
        also: Vec::new(),
        note: None,
        is_repeat: false,
        detail: Detail::Full,
        now_ms: 0,
    };
    if let Ok(text) = template.render_message(&Library::default(), &message, &Frame::default()) {
        assert!(text.len() <= pitwatch_alerting::limits::MESSAGE_OUTPUT_MAX_BYTES);
    }
});
