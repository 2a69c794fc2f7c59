//! `pitwatch token`: tokens for agents that enrol, and for people and programs that ask.

use reqwest::Method;
use serde_json::json;

use super::{Report, Screen, counted, own, tally};
use crate::answers::{ApiToken, EnrollToken, Named, NewToken, TokensData};
use crate::args::TokenCreateArgs;
use crate::connect::Client;
use crate::error::CliError;
use crate::table::{Cell, Column, Table, Tone};
use crate::units::seconds;

/// How long an enrolment token may be used where nothing is said.
const ENROLL_TTL: &str = "1h";
/// Where agents find a collector on a host.
const AGENTS_PORT: u16 = 4717;

pub(super) async fn create(args: &TokenCreateArgs, client: &Client, screen: &Screen) -> Result<Report, CliError> {
    let path = own(&["tokens"]);
    if let (Some(role), Some(holder)) = (&args.role, &args.holder) {
        let ttl_secs = args.ttl.as_deref().map(ttl_secs).transpose()?;
        let body = json!({ "kind": "api", "name": holder, "role": role, "ttl_secs": ttl_secs });
        let answer = client.send::<NewToken>(Method::POST, &path, &body).await?;
        return Ok(Report::text(api_text(&answer.data, role, holder, screen)));
    }
    let ttl_secs = ttl_secs(args.ttl.as_deref().unwrap_or(ENROLL_TTL))?;
    let body = json!({ "kind": "enroll", "name": args.name, "ttl_secs": ttl_secs });
    let answer = client.send::<NewToken>(Method::POST, &path, &body).await?;
    let collector = answer.data.collector.clone().unwrap_or_else(|| guess_collector(client));
    Ok(Report::text(enroll_text(&answer.data, args.name.as_deref(), &collector, screen)))
}

pub(super) async fn revoke(id: &str, client: &Client) -> Result<Report, CliError> {
    let answer = client.send::<Named>(Method::DELETE, &own(&["tokens", id]), &json!({})).await?;
    Ok(Report::text(format!("deleted the API token {id} of {}; its sessions have ended\n", answer.data.name)))
}

pub(super) fn arrange(data: &TokensData, screen: &Screen) -> (Table, bool) {
    let columns = vec![
        Column::left("KIND", "kind"),
        Column::left("ID", "id"),
        Column::left("FOR", "for"),
        Column::left("ROLE", "role"),
        Column::left("ENDS", "expires_ms"),
        Column::left("LAST USED", "last_used_ms"),
    ];
    let mut table = Table::new(columns);
    for token in &data.api {
        table.push(api_row(token, screen));
    }
    for token in &data.enroll {
        table.push(enroll_row(token, screen));
    }
    let total = counted(data.api.len() + data.enroll.len(), "token", "tokens");
    let kinds = [(data.api.len(), "of the HTTP API"), (data.enroll.len(), "for agents")];
    (table.summary(tally(total, &kinds)), false)
}

fn api_row(token: &ApiToken, screen: &Screen) -> Vec<Cell> {
    let used = match token.last_used_ms {
        Some(ms) => Cell::with_exact(format!("{} ago", screen.clock.age(ms)), ms),
        None => Cell::with_exact("never", "").tone(Tone::Faint),
    };
    vec![
        Cell::new("api"),
        Cell::new(&*token.id),
        Cell::new(&*token.name),
        Cell::new(&*token.role),
        ends(token.expires_ms, screen),
        used,
    ]
}

fn enroll_row(token: &EnrollToken, screen: &Screen) -> Vec<Cell> {
    let holder = Cell::with_exact(token.name.as_deref().unwrap_or("any host"), token.name.as_deref().unwrap_or(""));
    vec![
        Cell::new("enrol"),
        Cell::new(&*token.id),
        holder,
        Cell::new(""),
        ends(Some(token.expires_ms), screen),
        Cell::new(if token.used { "used" } else { "not yet" }),
    ]
}

fn ends(expires_ms: Option<i64>, screen: &Screen) -> Cell {
    match expires_ms {
        None => Cell::with_exact("never", "").tone(Tone::Faint),
        Some(ms) if ms <= screen.clock.now_ms => Cell::with_exact(format!("{} ago", screen.clock.age(ms)), ms),
        Some(ms) => Cell::with_exact(format!("in {}", seconds(((ms - screen.clock.now_ms) / 1000) as f64)), ms),
    }
}

fn enroll_text(token: &NewToken, name: Option<&str>, collector: &str, screen: &Screen) -> String {
    let holder = name.map_or("one agent of any free name".to_owned(), |name| format!("the agent {name}"));
    let name = name.map_or(String::new(), |name| format!(" --name {name}"));
    format!(
        "enrolment token for {holder}, good once{}\n\nrun on the host to watch:\n\n  \
         sudo pitwatch-agent enroll --collector {collector}{name} --token {}\n\n",
        until(token.expires_ms, screen),
        token.token
    )
}

fn api_text(token: &NewToken, role: &str, holder: &str, screen: &Screen) -> String {
    format!(
        "API token with the role {role} for {holder}{}; it is shown only now\n\n  {}\n\n\
         use it as    Authorization: Bearer TOKEN, the password of a basic login, or PITWATCH_TOKEN\n\
         take it back pitwatch token list; pitwatch token revoke ID\n",
        until(token.expires_ms, screen),
        token.token
    )
}

fn until(expires_ms: Option<i64>, screen: &Screen) -> String {
    expires_ms.map_or(String::new(), |ms| format!(", until {}", screen.clock.short(ms)))
}

fn ttl_secs(text: &str) -> Result<i64, CliError> {
    let ms = pitwatch_promql::parse_duration(text).filter(|ms| *ms >= 1000);
    ms.map(|ms| ms / 1000).ok_or_else(|| {
        CliError::Usage(format!("--ttl {text} is no duration such as 30m, 1h or 7d, of one second or more"))
    })
}

/// Where agents probably find a collector that does not say so itself.
fn guess_collector(client: &Client) -> String {
    let (host, is_here) = client.host();
    let here = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}:{AGENTS_PORT}", if is_here { here() } else { host })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn screen() -> Screen {
        Screen { clock: Clock::utc(1_772_331_247_000), color: false, width: 100, columns: None }
    }

    fn token(text: &str, expires_ms: Option<i64>) -> NewToken {
        NewToken { token: text.to_owned(), expires_ms, collector: None }
    }

    #[test]
    fn a_new_token_comes_with_what_to_do_with_it() {
        let enroll = token("pwe1_0123", Some(1_772_334_847_000));
        insta::assert_snapshot!(enroll_text(&enroll, Some("db-eu-3"), "watch.example:4717", &screen()), @"
        enrolment token for the agent db-eu-3, good once, until 03:14

        run on the host to watch:

          sudo pitwatch-agent enroll --collector watch.example:4717 --name db-eu-3 --token pwe1_0123
        ");
        insta::assert_snapshot!(enroll_text(&enroll, None, "watch.example:4717", &screen()), @"
        enrolment token for one agent of any free name, good once, until 03:14

        run on the host to watch:

          sudo pitwatch-agent enroll --collector watch.example:4717 --token pwe1_0123
        ");
        insta::assert_snapshot!(api_text(&token("pwa1_4567", None), "viewer", "grafana", &screen()), @"
        API token with the role viewer for grafana; it is shown only now

          pwa1_4567

        use it as    Authorization: Bearer TOKEN, the password of a basic login, or PITWATCH_TOKEN
        take it back pitwatch token list; pitwatch token revoke ID
        ");
    }

    #[test]
    fn tokens_are_listed_without_secrets() {
        let data: TokensData = serde_json::from_str(
            r#"{"api":[
                {"id":"0a1b2c3d4e5f","name":"grafana","role":"viewer","created_ms":0,"created_by":"local",
                 "expires_ms":null,"last_used_ms":1772331200000},
                {"id":"1a1b2c3d4e5f","name":"ci","role":"admin","created_ms":0,"created_by":"local",
                 "expires_ms":1772417647000,"last_used_ms":null}],
              "enroll":[{"id":"9f8e7d6c5b4a","name":null,"expires_ms":1772331000000,"used":true}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(arrange(&data, &screen()).0.to_text(false, None), @"
        KIND   ID            FOR       ROLE    ENDS           LAST USED
        api    0a1b2c3d4e5f  grafana   viewer  never          47 s ago
        api    1a1b2c3d4e5f  ci        admin   in 1 d         never
        enrol  9f8e7d6c5b4a  any host          4 min 7 s ago  used
        3 tokens: 2 of the HTTP API, 1 for agents
        ");
    }

    #[test]
    fn lives_are_durations() {
        assert_eq!(ttl_secs("90m").ok(), Some(5400));
        for wrong in ["", "soon", "500ms", "0", "-1h"] {
            assert!(ttl_secs(wrong).is_err(), "{wrong}");
        }
    }
}
