//! Who asks: the token of a request from its three places, and whether its role is enough.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Shared;
use super::envelope::ApiError;
use crate::access::{Access, Principal, Role};
use crate::clock::unix_ms;

/// The cookie of a browser that signed in.
pub const SESSION_COOKIE: &str = "pitwatch_session";

/// Where a request's token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// `Authorization`, which only a program sends.
    Header,
    /// A cookie, which a browser sends by itself.
    Cookie,
}

/// Lets a request through if its token's role is enough; handlers find the [`Principal`] among its extensions.
pub(super) async fn authorize(
    State((shared, needed)): State<(Arc<Shared>, Role)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let principal = identify(&shared.app.access, request.headers(), request.method())?;
    if !principal.role.covers(needed) {
        return Err(ApiError::role_needed(needed, principal.role));
    }
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// Who sends these headers.
pub(super) fn identify(access: &Access, headers: &HeaderMap, method: &Method) -> Result<Principal, ApiError> {
    let Some((token, place)) = token_of(headers) else { return Err(ApiError::no_token("a token is needed")) };
    if place == Place::Cookie && !method.is_safe() && !is_same_origin(headers) {
        return Err(ApiError::forbidden("another site may not act in your name: open the collector's own address"));
    }
    let wrong = || ApiError::no_token("the token is wrong, deleted or past its end");
    access.check(&token, unix_ms()).ok_or_else(wrong)
}

/// The session's text in the cookies, if there is one.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|list| list.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value)
}

fn token_of(headers: &HeaderMap) -> Option<(String, Place)> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        // A header that is there but wrong is not made good by a cookie.
        return Some((authorization(value.to_str().ok()?).unwrap_or_default(), Place::Header));
    }
    session_cookie(headers).map(|text| (text.to_owned(), Place::Cookie))
}

/// The token of `Bearer TOKEN`, or of `Basic` with any user and the token as its password.
fn authorization(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        return pair.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// Whether a browser says that its page came from here. SameSite does not tell ports of one host apart.
pub(super) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::ORIGIN) {
        Some(origin) => origin.split_once("://").is_some_and(|(_, host)| Some(host) == text(header::HOST)),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn tokens_are_found_in_three_places() {
        let token = |pairs: &[_]| token_of(&headers(pairs));
        let header = |text: &str| Some((text.to_owned(), Place::Header));
        assert_eq!(token(&[(header::AUTHORIZATION, "Bearer abc")]), header("abc"));
        assert_eq!(token(&[(header::AUTHORIZATION, "bearer  abc ")]), header("abc"));
        let basic = format!("Basic {}", STANDARD.encode("ann:a:c"));
        assert_eq!(token(&[(header::AUTHORIZATION, &*basic)]), header("a:c"));
        assert_eq!(token(&[(header::AUTHORIZATION, "Basic ???")]), header(""));
        let cookies = (header::COOKIE, "a=b; pitwatch_session=s; c=d");
        assert_eq!(token(std::slice::from_ref(&cookies)), Some(("s".to_owned(), Place::Cookie)));
        assert_eq!(token(&[cookies, (header::AUTHORIZATION, "Digest x")]), header(""));
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn other_origins_are_told() {
        let same = |origin| is_same_origin(&headers(&[(header::HOST, "127.0.0.1:4718"), (header::ORIGIN, origin)]));
        assert!(same("http://127.0.0.1:4718"));
        assert!(!same("http://127.0.0.1:3000"));
        assert!(!same("null"));
        assert!(is_same_origin(&headers(&[(header::HOST, "x")])));
    }
}
