//! `[http]`: where people and programs come in, and what with.

use std::net::SocketAddr;

use pitwatch_shared::settings::{Reader, Section};
use rustls::pki_types::ServerName;

use super::{LISTEN, URL, over, parse_dir, parse_socket, parse_url};
use crate::certificate::{Files, Origin};

/// Most names of a certificate of the own authority.
const NAMES_MAX: usize = 32;
const FILE: &str = "give an absolute path of a file in PEM";
const NAME: &str = "give host names or addresses as people type them, such as \"watch.example.com\" or \"10.0.0.5\"";

/// How people and programs come in.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// The TCP address.
    pub listen: SocketAddr,
    /// TLS, and where its certificate comes from; none if HTTP is served plainly.
    pub tls: Option<Origin>,
    /// Where people reach it, without a slash at the end; for links in messages.
    pub external_url: String,
    /// Browsers are told to come to this host by TLS alone: its name is this collector's own, with no port in
    /// `external_url`.
    pub is_strict: bool,
    /// Queries that run at once.
    pub queries_at_once: usize,
}

pub(super) fn http(
    mut section: Section<'_>,
    reader: &mut Reader<'_>,
    variable: &impl Fn(&str) -> Option<String>,
) -> HttpConfig {
    let listen = section.value(reader, "listen", LISTEN, parse_socket);
    let listen = over(reader, variable, "PITWATCH_COLLECTOR_HTTP", listen, LISTEN, parse_socket);
    let listen = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 4718)));
    let external_url = section.value(reader, "external_url", URL, parse_url);
    let tls = tls(&mut section, reader, listen, external_url.as_deref());
    let queries = section.number(reader, "queries_at_once", 1..257);
    section.end(reader);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let external = external_url.as_deref().and_then(|url| url.strip_prefix("https://"));
    HttpConfig {
        listen,
        is_strict: tls.is_some() && external.is_some_and(|rest| host_of(rest) == authority_of(rest)),
        tls,
        external_url: external_url.unwrap_or_else(|| format!("{scheme}://{}", reached_at(listen))),
        queries_at_once: queries.and_then(|n| usize::try_from(n).ok()).unwrap_or(crate::api::QUERIES_AT_ONCE),
    }
}

/// TLS is on beyond loopback, and where a certificate is given; plain HTTP there has to be asked for by its own key.
fn tls(
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
    listen: SocketAddr,
    external_url: Option<&str>,
) -> Option<Origin> {
    let wanted = section.flag(reader, "tls");
    let is_proxied = section.flag(reader, "behind_tls_proxy").unwrap_or(false);
    let (has_certificate, has_key) = (section.has("certificate"), section.has("key"));
    let certificate = section.value(reader, "certificate", FILE, parse_dir);
    let key = section.value(reader, "key", FILE, parse_dir);
    let has_names = section.has("names");
    let mut names = section.list(reader, "names", NAME, |text| {
        ServerName::try_from(text).map_err(|_| format!("{text:?} is no name")).map(|_| text.to_owned())
    });
    let mut wrong = |key: &str, what: String| reader.note(None, format!("http.{key}"), what);
    if names.len() > NAMES_MAX {
        wrong("names", format!("{} names; at most {NAMES_MAX} are allowed", names.len()));
    }
    match (has_certificate, has_key) {
        (true, false) => wrong("key", "certificate is given without its key; give both, or neither".to_owned()),
        (false, true) => wrong("certificate", "key is given without its certificate; give both, or neither".to_owned()),
        (true, true) if has_names => {
            wrong("names", "they are for a certificate of the own authority; the one given has its own".to_owned());
        }
        _ => {}
    }
    let is_local = listen.ip().is_loopback();
    let is_on = wanted.unwrap_or(has_certificate || (!is_local && !is_proxied));
    if !is_on {
        if has_certificate || has_names {
            wrong(
                "tls",
                "it is off, so certificate and names mean nothing; switch it on, or leave them out".to_owned(),
            );
        }
        if !is_local && !is_proxied {
            let what = format!(
                "{listen} is not loopback: without TLS everybody on the way reads tokens and answers; leave tls away \
                 (a certificate of the own authority, or yours in certificate and key), or, if a proxy that speaks TLS \
                 reaches this address over a network you trust, set behind_tls_proxy = true"
            );
            wrong("tls", what);
        }
        return None;
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let files = Files { certificate, key };
            if let Err(error) = files.check() {
                wrong("certificate", crate::error_chain(&error));
            }
            Some(Origin::Files(files))
        }
        _ => {
            let external = external_url.and_then(|url| url.split_once("://")).map(|(_, rest)| host_of(rest).to_owned());
            let own = (!listen.ip().is_unspecified()).then(|| listen.ip().to_string());
            let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            let guessed = external.into_iter().chain([host_name()]).chain(own).chain(local);
            names.extend(guessed.filter(|name| ServerName::try_from(name.as_str()).is_ok()));
            names.sort();
            names.dedup();
            Some(Origin::Authority(names))
        }
    }
}

/// This host's name; empty if it has none.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// How others may reach a listener, where nobody says: by this host's name, unless one address was chosen.
pub(crate) fn reached_at(listener: SocketAddr) -> String {
    match host_name() {
        name if listener.ip().is_unspecified() && !name.is_empty() => format!("{name}:{}", listener.port()),
        _ => listener.to_string(),
    }
}

/// `host:port` of what follows a scheme.
fn authority_of(rest: &str) -> &str {
    rest.split('/').next().unwrap_or_default()
}

/// The host of what follows a scheme, without brackets.
fn host_of(rest: &str) -> &str {
    let authority = authority_of(rest);
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return address;
    }
    authority.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<HttpConfig, String> {
        let text = format!("[http]\n{text}\n");
        Config::parse(&text, Path::new("c.toml"), |_| None).map(|config| config.http).map_err(|error| error.to_string())
    }

    fn names(http: &HttpConfig) -> Vec<String> {
        match &http.tls {
            Some(Origin::Authority(names)) => names.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tls_is_on_beyond_loopback_unless_a_proxy_speaks_it() {
        assert_eq!(parse("").unwrap().tls, None);
        assert_eq!(parse("").unwrap().external_url, "http://127.0.0.1:4718");
        let beyond = parse("listen = \"10.1.2.3:4718\"\nexternal_url = \"https://watch.example:4718/pit\"").unwrap();
        let own = names(&beyond);
        for name in ["10.1.2.3", "watch.example", "localhost", "127.0.0.1", "::1"] {
            assert!(own.iter().any(|one| one == name), "{name} in {own:?}");
        }
        assert!(!beyond.is_strict, "another port of that name may be somebody else's");
        let all = parse("listen = \"0.0.0.0:4718\"").unwrap();
        assert!(all.external_url.starts_with("https://") && !all.external_url.contains("0.0.0.0"), "{all:?}");
        assert_eq!(parse("listen = \"0.0.0.0:4718\"\nbehind_tls_proxy = true").unwrap().tls, None);
        let both = parse("listen = \"0.0.0.0:4718\"\nbehind_tls_proxy = true\ntls = true").unwrap();
        assert!(both.tls.is_some());
        let local = parse("tls = true\nnames = [\"watch.example\"]\nexternal_url = \"https://watch.example\"").unwrap();
        assert!(names(&local).contains(&"watch.example".to_owned()) && local.is_strict);
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        for (text, told) in [
            ("listen = \"0.0.0.0:80\"\ntls = false", "c.toml: http.tls: 0.0.0.0:80 is not loopback: without TLS"),
            ("certificate = \"/a.crt\"", "c.toml: http.key: certificate is given without its key"),
            ("key = \"/a.key\"", "c.toml: http.certificate: key is given without its certificate"),
            ("certificate = \"a.crt\"", "c.toml:2: http.certificate: \"a.crt\" is no absolute path; give"),
            ("certificate = \"/none.crt\"\nkey = \"/none.key\"", "c.toml: http.certificate: cannot read /none.crt"),
            ("tls = false\nnames = [\"x\"]", "c.toml: http.tls: it is off, so certificate and names mean nothing"),
            ("tls = true\nnames = [\"a b\"]", "c.toml:3: http.names: \"a b\" is no name; give host names"),
            (
                "certificate = \"/a\"\nkey = \"/b\"\nnames = [\"x\"]",
                "c.toml: http.names: they are for a certificate of the own authority",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
