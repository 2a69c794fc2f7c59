//! One transition of one alert: what receivers are told, and what the state store keeps until they were told.

use serde::{Deserialize, Serialize};

use crate::labels::{ALERT_NAME, LabelSet};

/// What happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It began to fire.
    Fired,
    /// It still fires, but there is no data any more to judge it by, and its rule wants that told.
    NoData,
    /// It is over: there was a good value.
    Resolved,
    /// It is no longer watched: its rule or its host was taken away. Nothing says that the fault is gone.
    Withdrawn,
}

impl Transition {
    /// The word used in [`Notification::id`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::NoData => "no_data",
            Self::Resolved => "resolved",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A transition with all that a message needs, so that it can be sent when the rule is long gone.
///
/// Its serde form is kept in the state store: new fields need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// The same for the same transition however often it is told: the key to tell repetitions by.
    pub id: String,
    /// The alert's key in the state store; deliveries of one alert keep their order by it.
    pub alert_key: String,
    /// What happened.
    pub transition: Transition,
    /// When it happened: the evaluation's time, Unix milliseconds.
    pub at_ms: i64,
    /// The alert's labels, its name among them.
    pub labels: LabelSet,
    /// The rule's annotations for these labels and this value.
    pub annotations: LabelSet,
    /// The last value that matched the rule.
    #[serde(with = "float_as_text")]
    pub value: f64,
    /// When the expression began to hold.
    pub active_at_ms: i64,
    /// When the alert began to fire.
    pub fired_at_ms: i64,
    /// When it was over.
    pub resolved_at_ms: Option<i64>,
    /// Since when the alert fires without data to judge it by.
    pub no_data_since_ms: Option<i64>,
    /// The rule's expression.
    pub expr: String,
    /// Labels of alerts that would explain this one: while an alert that has all labels of one of these fires, this one
    /// need not be told.
    #[serde(default)]
    pub depends_on: Vec<LabelSet>,
}

impl Notification {
    /// The alert's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.labels.value(ALERT_NAME).unwrap_or("")
    }

    /// Prometheus' fingerprint of the labels, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.labels.fingerprint())
    }

    /// Whether the alert is over for its receivers.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.transition, Transition::Resolved | Transition::Withdrawn)
    }
}

/// Floats as text: JSON has no NaN and no infinities, and alerts on them exist.
pub(crate) mod float_as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
