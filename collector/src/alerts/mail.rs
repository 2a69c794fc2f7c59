//! Sending a mail: the message, the connection and its encryption, and what the server's word means.

use std::time::Duration;

use lettre::message::{Mailbox, MultiPart, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Message, SmtpTransport, Transport as _};
use pitwatch_alerting::Outcome;
use pitwatch_alerting::receivers::{Email, Mail, TlsOptions};

use super::deliver::{TIMEOUT_SECS, reveal};
use super::routing;

/// On this port connections begin encrypted.
const IMPLICIT_TLS_PORT: u16 = 465;

/// Sends a mail. A server that says that it will never take it is believed.
pub(super) fn send(email: &Email, mail: Mail) -> Outcome {
    let retry = |reason: String| Outcome::Retry { reason, retry_after_ms: None };
    let build = || -> Result<(SmtpTransport, Message), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let address = |text: &str| text.trim().parse::<Mailbox>().map_err(|error| format!("{text:?}: {error}"));
        let mut message = Message::builder().subject(mail.subject).from(address(&email.from)?);
        for to in email.to.split(',') {
            message = message.to(address(to)?);
        }
        let thread = ring::digest::digest(&ring::digest::SHA256, mail.thread.as_bytes());
        let thread: String = thread.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let message = message.header(header::References::from(format!("<{thread}@pitwatch>")));
        let message =
            message.multipart(MultiPart::alternative_plain_html(mail.text, mail.html)).map_err(|e| text(&e))?;
        let (host, port) = email.smarthost.rsplit_once(':').ok_or("smarthost is no HOST:PORT")?;
        let port: u16 = port.parse().map_err(|_| "smarthost is no HOST:PORT")?;
        let tls = tls(host, &email.tls)?;
        let tls = match (email.implicit_tls.unwrap_or(port == IMPLICIT_TLS_PORT), email.require_tls) {
            (true, _) => Tls::Wrapper(tls),
            (false, true) => Tls::Required(tls),
            (false, false) => Tls::Opportunistic(tls),
        };
        let mut transport = SmtpTransport::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .hello_name(ClientId::Domain(email.hello.clone()))
            .timeout(Some(Duration::from_secs(TIMEOUT_SECS)));
        if let Some(user) = &email.username {
            let password = email.password.as_ref().map_or(Ok(String::new()), reveal)?;
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok((transport.build(), message))
    };
    let (transport, message) = match build() {
        Ok(ready) => ready,
        Err(reason) => return retry(reason),
    };
    match transport.send(&message) {
        Ok(_) => Outcome::Delivered,
        Err(error) if error.is_permanent() => {
            let reason = crate::error_chain(&error);
            // A wrong password or address is for an operator; only what is said of the message itself is final.
            if reason.contains("552") || reason.contains("554") { Outcome::Refused { reason } } else { retry(reason) }
        }
        Err(error) => retry(crate::error_chain(&error)),
    }
}

/// Whom to believe that it is the server.
fn tls(host: &str, options: &TlsOptions) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned()).dangerous_accept_invalid_certs(options.insecure);
    if let Some(path) = &options.ca_file {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = routing::read(path).map_err(|error| format!("{error:#}"))?;
        for block in pem::parse_many(&text).map_err(|error| wrong(&error))? {
            let certificate = Certificate::from_der(block.into_contents()).map_err(|error| wrong(&error))?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| error.to_string())
}
