//! The web interface: its files, which the build put into this program, and the headers that fence it in.
//!
//! The interface is one page whose script reads the address; every address of [`PAGES`] answers with it. The page
//! and its files hold no secrets and need no token: what they show, they ask the API for.

use std::sync::LazyLock;

use axum::extract::{FromRequest as _, Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::envelope::ApiError;
use super::params::Params;
use super::{AppState, page, session};

/// The addresses of the interface besides `/`.
pub(super) const PAGES: [&str; 11] = [
    "/hosts",
    "/hosts/{name}",
    "/alerts",
    "/alerts/{id}",
    "/incidents/{id}",
    "/explore",
    "/events",
    "/agents",
    "/status",
    // Where links of alerts point that are made for Prometheus.
    "/graph",
    "/silences",
];

/// What the browser may load and do: our own files, our own API, nothing inline, no frames in either direction.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types svelte-trusted-html";
/// Names of files change with their contents.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
/// Hexadecimal digits of an entity tag.
const TAG_DIGITS: usize = 24;

/// A file of the interface, as it is and compressed where that pays.
struct File {
    name: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/web_files.rs"));
/// The page itself and its tag; none if the program was built without the interface.
static SHELL: LazyLock<Option<(&'static File, String)>> = LazyLock::new(|| {
    let file = FILES.iter().find(|file| file.name == "index.html")?;
    let hash = ring::digest::digest(&ring::digest::SHA256, file.plain);
    let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).take(TAG_DIGITS / 2).collect();
    Some((file, format!("\"{digits}\"")))
});

/// What a browser sees: the interface, or without it the hosts or a form to sign in; with `token`, the way there.
#[utoipa::path(get, path = "/", tag = "Collector",
    params(("token" = Option<String>, Query, description = "Signs in")),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 303, description = "Signed in"),
        (status = 304, description = "The page is as it was"),
        (status = 401, description = "A form to sign in", content_type = "text/html", body = String),
    ))]
pub(super) async fn index(state: AppState, request: Request) -> Result<Response, ApiError> {
    let (headers, extensions) = (request.headers().clone(), request.extensions().clone());
    let params = Params::from_request(request, &()).await?;
    if let Some(token) = params.get("token") {
        let begun = session::begin_by_link(state, token.to_owned(), &headers, &extensions).await;
        // A link that is too old is for a person, too.
        return match begun {
            Err(error) if error.status() == StatusCode::UNAUTHORIZED => Ok(page::refused()),
            begun => begun,
        };
    }
    match &*SHELL {
        Some(_) => Ok(shell(headers).await),
        None => page::index(state, headers).await,
    }
}

/// A page of the interface.
pub(super) async fn shell(headers: HeaderMap) -> Response {
    let Some((file, tag)) = &*SHELL else {
        return ApiError::not_found(
            "this collector was built without the web interface: `make ui` and a new build bring it, / says more",
        )
        .into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        body(file, &headers, "text/html; charset=utf-8")
    };
    let fence: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    let own = response.headers_mut();
    fence.into_iter().for_each(|(name, value)| drop(own.insert(name, HeaderValue::from_static(value))));
    own.insert(header::CACHE_CONTROL, ASK_AGAIN);
    if let Ok(tag) = HeaderValue::from_str(tag) {
        own.insert(header::ETAG, tag);
    }
    response
}

/// A file of the interface.
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|file| file.name.strip_prefix("assets/") == Some(&*name));
    let file =
        found.ok_or_else(|| ApiError::not_found("no such file: the interface is of another version, reload it"))?;
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let mut response = body(file, &headers, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, FOREVER);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    Ok(response)
}

/// Whether this program has the interface in it.
pub(super) fn is_built_in() -> bool {
    SHELL.is_some()
}

/// The file in the best encoding that the client takes.
fn body(file: &File, headers: &HeaderMap, kind: &'static str) -> Response {
    let (encoding, bytes) = match (file.brotli, file.gzip) {
        (Some(brotli), _) if takes(headers, "br") => (Some("br"), brotli),
        (_, Some(gzip)) if takes(headers, "gzip") => (Some("gzip"), gzip),
        _ => (None, file.plain),
    };
    let mut response = bytes.into_response();
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    own.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        own.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Whether a client takes an encoding: it is named, and not with a weight of nothing.
fn takes(headers: &HeaderMap, encoding: &str) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse::<f64>().ok());
        named && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// Its sign in the browser's tabs.
pub(super) async fn favicon(headers: HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == "favicon.svg") {
        Some(file) => body(file, &headers, "image/svg+xml"),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_taken_as_they_are_offered() {
        let takes = |offer: &str, encoding| {
            let headers = [(header::ACCEPT_ENCODING, offer.parse().unwrap())].into_iter().collect();
            takes(&headers, encoding)
        };
        assert!(takes("gzip, deflate, br", "br") && takes("GZIP;q=0.5", "gzip"));
        assert!(!takes("gzip;q=0, br", "gzip") && !takes("", "gzip") && !takes("x-gzip", "gzip"));
    }
}
