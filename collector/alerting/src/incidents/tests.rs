//! Alerts of one cause in one incident, what people do about them, and what is stored of it.

use super::*;

fn alert(name: &str, instance: &str, fired_at_ms: i64, transition: Transition, at_ms: i64) -> Notification {
    Notification {
        id: String::new(),
        alert_key: format!("{name}-{instance}"),
        transition,
        at_ms,
        labels: LabelSet::new([("alertname", name), ("instance", instance), ("severity", "warning")]),
        annotations: LabelSet::empty(),
        value: 1.0,
        active_at_ms: fired_at_ms,
        fired_at_ms,
        resolved_at_ms: (transition == Transition::Resolved).then_some(at_ms),
        no_data_since_ms: None,
        expr: String::new(),
        depends_on: Vec::new(),
    }
}

fn stored(changes: &[IncidentChange]) -> Vec<Incident> {
    changes
        .iter()
        .filter_map(|change| if let IncidentChange::Put(one) = change { Some(one.clone()) } else { None })
        .collect()
}

#[test]
fn alerts_of_one_host_are_one_incident_until_a_while_after_its_end() {
    let mut it = Incidents::default();
    it.take(&alert("A", "db", 1_000, Transition::Fired, 1_000));
    it.take(&alert("B", "db", 2_000, Transition::Fired, 2_000));
    it.take(&alert("A", "web", 2_000, Transition::Fired, 2_000));
    assert_eq!(it.iter().map(|one| (one.id, one.alerts)).collect::<Vec<_>>(), [(2, 1), (1, 2)]);
    it.take(&alert("A", "db", 1_000, Transition::Resolved, 5_000));
    assert_eq!(it.get(1).unwrap().closed_ms, None);
    it.take(&alert("B", "db", 2_000, Transition::Resolved, 6_000));
    assert_eq!(it.get(1).unwrap().closed_ms, Some(6_000));
    it.take(&alert("A", "db", 7_000, Transition::Fired, 7_000));
    assert_eq!((it.get(1).unwrap().closed_ms, it.get(1).unwrap().alerts), (None, 3));
    it.take(&alert("A", "db", 7_000, Transition::Resolved, 8_000));
    let late = 8_000 + limits::INCIDENT_GAP_MS;
    it.take(&alert("A", "db", late, Transition::Fired, late));
    assert_eq!(it.iter().next().map(|one| one.id), Some(3), "a new one");
}

#[test]
fn what_people_do_is_kept_and_ends_with_the_alert() {
    let mut it = Incidents::default();
    it.take(&alert("A", "db", 1_000, Transition::Fired, 1_000));
    let changes = it.act_on_alert("A-db", "f", &Act::Acknowledge, "ann", "on it", 2_000);
    assert!(
        changes
            .iter()
            .any(|change| matches!(change, IncidentChange::PutEntry(1, 1, entry) if entry.what == What::Acknowledged))
    );
    assert_eq!(it.marks("A-db").unwrap().acknowledged.as_ref().unwrap().by, "ann");
    let (_, alerts) = it.act(1, &Act::Assign("bob".to_owned()), "ann", "", 3_000).unwrap();
    assert_eq!(alerts, ["A-db"]);
    // Further alerts of an incident that somebody has are theirs.
    it.take(&alert("B", "db", 4_000, Transition::Fired, 4_000));
    assert_eq!(it.marks("B-db").unwrap().assigned_to.as_deref(), Some("bob"));
    let changes = it.take(&alert("A", "db", 1_000, Transition::Resolved, 5_000));
    assert!(changes.contains(&IncidentChange::RemoveMarks("A-db".to_owned())));
    assert!(it.marks("A-db").is_none());
    assert!(it.act(99, &Act::Close, "ann", "", 1).is_none());
}

#[test]
fn what_is_stored_restores_it() {
    let mut it = Incidents::default();
    let mut changes = it.take(&alert("A", "db", 1_000, Transition::Fired, 1_000));
    changes.extend(it.act_on_alert("A-db", "f", &Act::Acknowledge, "ann", "", 2_000));
    let incident = stored(&changes).pop().unwrap();
    let marks = it.all_marks().map(|(key, marks)| (key.clone(), marks.clone())).collect();
    let mut again = Incidents::restore(vec![incident], marks);
    again.take(&alert("B", "db", 3_000, Transition::Fired, 3_000));
    assert_eq!(again.get(1).unwrap().alerts, 2);
    assert!(again.marks("A-db").unwrap().acknowledged.is_some());
}

#[test]
fn timelines_and_incidents_are_bounded() {
    let mut it = Incidents::default();
    it.take(&alert("A", "db", 1_000, Transition::Fired, 1_000));
    for at in 0..i64::from(limits::INCIDENT_ENTRIES_MAX) + 10 {
        it.act(1, &Act::Comment, "ann", "x", 2_000 + at);
    }
    assert_eq!(it.get(1).unwrap().entries, limits::INCIDENT_ENTRIES_MAX);
    it.take(&alert("A", "db", 1_000, Transition::Resolved, 9_000));
    let late = 9_000 + limits::INCIDENT_KEPT_MS;
    let changes = it.take(&alert("A", "web", late, Transition::Fired, late));
    assert!(changes.contains(&IncidentChange::Remove(1, limits::INCIDENT_ENTRIES_MAX)));
}
