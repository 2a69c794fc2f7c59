//! `/plain`, and `/` of a collector that was built without the web interface: one page without scripts or anything from
//! elsewhere: the hosts, and how to ask for more.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::envelope::ApiError;
use super::hosts::{self, Host, HostState, Hosts};
use super::{AppState, auth, web};

const STYLE: &str = include_str!("page/style.css");
/// How often a browser asks again, in seconds.
const REFRESH_SECS: u32 = 5;

/// Only our own style and forms to ourselves.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let hash = STANDARD.encode(hash);
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// The page, or the way to it.
pub(super) async fn index(State(shared): AppState, headers: HeaderMap) -> Result<Response, ApiError> {
    let shared = &shared;
    if auth::identify(&shared.app.access, &headers, &Method::GET).is_err() {
        return Ok(refused());
    }
    Ok(html(StatusCode::OK, &overview(&hosts::hosts(shared).await?)))
}

/// A form to sign in, for whoever came without a valid token.
pub(super) fn refused() -> Response {
    html(StatusCode::UNAUTHORIZED, &sign_in())
}

/// A page with our style, which asks nobody for more.
pub(super) fn html(status: StatusCode, body: &str) -> Response {
    let page = format!("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">{body}</html>\n");
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY.as_str())];
    (status, headers, Html(page)).into_response()
}

pub(super) fn head(title: &str) -> String {
    format!(
        "<meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style>",
        escape(title)
    )
}

pub(super) fn sign_in() -> String {
    head("Pitwatch: sign in")
        + "<h1>Pitwatch</h1>\
           <form method=\"post\" action=\"/api/v1/pitwatch/session\">\
           <label>Token <input type=\"password\" name=\"token\" autocomplete=\"current-password\" autofocus></label> \
           <button>Sign in</button></form>\
           <p>No token? On the collector's host: <code>pitwatch token create --role viewer --for NAME</code></p>"
}

fn overview(hosts: &Hosts) -> String {
    let count = |state| hosts.counts.get(state).copied().unwrap_or(0);
    let (well, alerting, silent) = (count("well"), count("alerting"), count("silent"));
    let mut out = head(&format!("Pitwatch: {alerting} alerting, {silent} silent"));
    let _ = write!(out, "<meta http-equiv=\"refresh\" content=\"{REFRESH_SECS}\"><h1>Pitwatch</h1>");
    let _ = write!(out, "<p>Hosts: {well} well, {alerting} alerting, {silent} silent</p>");
    if hosts.hosts.is_empty() {
        out.push_str("<p>Enrol the first host with the line that <code>pitwatch token create</code> prints.</p>");
    } else {
        out.push_str("<table><tr><th>Host<th>State<th>CPU<th>Memory<th>Disk<th>Network<th>Alerts");
        hosts.hosts.iter().for_each(|host| push_row(&mut out, host));
        out.push_str("</table>");
    }
    if !web::is_built_in() {
        out.push_str(
            "<p>This collector was built without the web interface. In a checkout with Node 18 or newer, \
             <code>make ui</code> builds it; the next build of the collector has it.</p>",
        );
    }
    out.push_str(
        "<h2>Ask</h2><pre>pitwatch hosts\npitwatch alerts\n\
         pitwatch query 'topk(3, rate(node_network_receive_bytes_total[1m]))'\n\
         pitwatch query 'node_load1' --range 1h -o plot</pre>\
         <p>Grafana and other clients of Prometheus: this address as the server, and a token of \
         <code>pitwatch token create --role viewer --for NAME</code> as the password of a basic login.</p>",
    );
    out
}

fn push_row(out: &mut String, host: &Host) {
    let percent = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{:.0}%", ratio * 100.0));
    let (class, state) = match host.state {
        HostState::Alerting => ("red", "✖ alerting"),
        HostState::Silent => ("amber", "… silent"),
        HostState::Well => ("well", "✔ well"),
    };
    let network = host.network_bytes_per_second.map_or("–".to_owned(), |rate| format!("{:.2} MB/s", rate / 1e6));
    let alerts: Vec<&str> = host.alerts.iter().map(|alert| &*alert.name).collect();
    let mount = host.disk_mountpoint.as_deref().unwrap_or_default();
    let disk = format!("{} {mount}", percent(host.disk_ratio));
    let _ = write!(out, "<tr class=\"{class}\">");
    let cells = [
        &*host.name,
        state,
        &percent(host.cpu_ratio),
        &percent(host.memory_ratio),
        &disk,
        &network,
        &alerts.join(", "),
    ];
    for cell in cells {
        let _ = write!(out, "<td>{}", escape(cell));
    }
}

/// Text that can be neither an element nor the end of an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
