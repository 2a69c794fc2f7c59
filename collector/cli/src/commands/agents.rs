//! `pitwatch agents`: who is enrolled, and taking that away.

use reqwest::Method;

use super::{Report, Screen, age, counted, own, state, tally};
use crate::answers::{Agent, AgentsData, Named};
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone};
use crate::units::seconds;

/// A difference of clocks worth a look.
const SKEW_AMBER_MS: i64 = 2000;

pub(super) fn arrange(data: &AgentsData, screen: &Screen) -> (Table, bool) {
    let columns = vec![
        Column::left("AGENT", "agent"),
        Column::left("STATE", "state"),
        Column::left("SINCE", "since_ms"),
        Column::left("LAST SAMPLE", "last_sample_ms"),
        Column::left("ADDRESS", "remote_address"),
        Column::left("CERTIFICATE", "certificate_not_after_ms"),
        Column::right("CLOCK", "clock_skew_ms"),
        Column::right("LOST", "lost_frames"),
        Column::left("VERSION", "version"),
    ];
    let mut table = Table::new(columns);
    let rank = |agent: &Agent| match &*agent.state {
        "away" => 0,
        "connected" => 1,
        _ => 2,
    };
    let mut agents: Vec<&Agent> = data.agents.iter().collect();
    agents.sort_by_key(|agent| (rank(agent), &agent.name));
    for agent in agents {
        table.push(row(agent, screen));
    }
    let count = |word: &str| data.agents.iter().filter(|agent| agent.state == word).count();
    let (connected, away, revoked) = (count("connected"), count("away"), count("revoked"));
    let total = counted(data.agents.len(), "agent", "agents");
    (table.summary(tally(total, &[(connected, "connected"), (away, "away"), (revoked, "revoked")])), away > 0)
}

pub(super) async fn revoke(name: &str, client: &Client) -> Result<Report, CliError> {
    let path = own(&["agents", name, "revoke"]);
    let answer = client.send::<Named>(Method::POST, &path, &serde_json::json!({})).await?;
    Ok(Report::text(format!(
        "revoked {}: its connection is cut and its certificate is refused\n\
         to let it come back, give it a new token: pitwatch token create --name {}\n",
        answer.data.name, answer.data.name
    )))
}

fn row(agent: &Agent, screen: &Screen) -> Vec<Cell> {
    let certificate = Cell::maybe(agent.certificate_not_after_ms, |ms| match ms - screen.clock.now_ms {
        left if left <= 0 => "ended".to_owned(),
        left => format!("{} left", seconds((left / 1000) as f64)),
    });
    let is_off = agent.clock_skew_ms.is_some_and(|skew| skew.abs() >= SKEW_AMBER_MS);
    let clock = Cell::maybe(agent.clock_skew_ms, |skew| seconds(*skew as f64 / 1000.0));
    let lost = Cell::new(agent.lost_frames.to_string());
    vec![
        Cell::new(&*agent.name),
        state(&agent.state),
        age(agent.since_ms, screen),
        age(agent.last_sample_ms, screen),
        Cell::maybe(agent.remote_address.as_ref(), ToString::to_string),
        certificate,
        if is_off { clock.tone(Tone::Amber) } else { clock },
        if agent.lost_frames > 0 { lost.tone(Tone::Amber) } else { lost },
        Cell::new(&*agent.software),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn agents_that_are_away_come_first() {
        let data: AgentsData = serde_json::from_str(
            r#"{"agents":[
                {"name":"lobby-1","labels":{},"state":"connected","since_ms":940000,"last_seen_ms":1000000,
                 "last_sample_ms":999500,"software":"0.3.1","remote_address":"10.0.0.7:51000","enrolled_ms":0,
                 "certificate_not_after_ms":865000000,"fingerprint":"ab","clock_skew_ms":12,"frames":10,"lost_frames":0},
                {"name":"rgs-us-11","labels":{},"state":"away","since_ms":760000,"last_seen_ms":760000,
                 "last_sample_ms":759000,"software":"0.3.0","remote_address":null,"enrolled_ms":0,
                 "certificate_not_after_ms":900000,"fingerprint":"cd","clock_skew_ms":-4200,"frames":9,"lost_frames":2},
                {"name":"old","labels":{},"state":"revoked","since_ms":null,"last_seen_ms":null,"last_sample_ms":null,
                 "software":"","remote_address":null,"enrolled_ms":0,"certificate_not_after_ms":null,
                 "fingerprint":"ef","clock_skew_ms":null,"frames":0,"lost_frames":0}]}"#,
        )
        .unwrap();
        let screen = Screen { clock: Clock::utc(1_000_000), color: false, width: 100, columns: None };
        let (table, is_bad_news) = arrange(&data, &screen);
        assert!(is_bad_news);
        insta::assert_snapshot!(table.to_text(false, None), @"
        AGENT      STATE        SINCE  LAST SAMPLE  ADDRESS         CERTIFICATE   CLOCK  LOST  VERSION
        rgs-us-11  … away       4 min  4 min 1 s    –               ended        -4.2 s     2  0.3.0
        lobby-1    ✔ connected  60 s   now          10.0.0.7:51000  10 d left     12 ms     0  0.3.1
        old        ✖ revoked    –      –            –               –                 –     0
        3 agents: 1 connected, 1 away, 1 revoked
        ");
    }
}
