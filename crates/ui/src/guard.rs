//! What is refused before any page is made, and what every answer says to the browser.
//!
//! A server on a developer's machine is reachable by every page that the developer opens. So the host must be one that is meant (else
//! a foreign name that resolves to 127.0.0.1 would make foreign scripts ours), a form must come from our own page (`Origin`), and
//! it must repeat a secret that only our pages can read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use crate::Ui;
use crate::problem::Problem;
use crate::visitor::{self, SECRET_COOKIE, Secret};

/// Largest form: a signal's input and a little more.
const FORM_MAX_BYTES: usize = 4 << 20;
/// The form field that repeats the secret.
pub const SECRET_FIELD: &str = "csrf";

/// Lets a request in, or says why not.
pub async fn admit(State(ui): State<Arc<Ui>>, request: Request, next: Next) -> Response {
    let codec = visitor::codec(request.headers(), &ui.config.codec_endpoint);
    let known = Secret::of(request.headers());
    let mut response = match check(&ui, request, known.as_ref()).await {
        Ok(request) => pass(&ui, request, known, next).await,
        // Before it is known who asks, an answer has neither names nor links.
        Err(problem) => problem.bare(),
    };
    protect(response.headers_mut(), &codec);
    response
}

async fn check(ui: &Ui, request: Request, known: Option<&Secret>) -> Result<Request, Problem> {
    let host = host(&request).unwrap_or_default();
    if !is_allowed(&host, &ui.config.hosts) {
        return Err(Problem::host(&host));
    }
    match *request.method() {
        Method::GET | Method::HEAD => Ok(request),
        Method::POST => own_form(request, &host, known).await,
        _ => Err(Problem::method()),
    }
}

async fn pass(ui: &Ui, mut request: Request, known: Option<Secret>, next: Next) -> Response {
    let secret = known.clone().or_else(Secret::random).unwrap_or_default();
    request.extensions_mut().insert(secret.clone());
    let mut response = next.run(request).await;
    if known.is_none() {
        let path = if ui.config.public_path.is_empty() { "/" } else { &ui.config.public_path };
        let cookie = format!("{SECRET_COOKIE}={}; Path={path}; HttpOnly; SameSite=Strict", secret.0);
        if let Ok(cookie) = cookie.parse() {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

/// The host and port that a browser believes to talk to.
fn host(request: &Request) -> Option<String> {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    named.or_else(|| request.uri().authority().map(|authority| authority.as_str().to_ascii_lowercase()))
}

/// An address is never the name of somebody else; of names only those that were given are believed.
fn is_allowed(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let local = name == "localhost" || name.ends_with(".localhost");
    local || name.parse::<IpAddr>().is_ok() || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A form that our own page sent: by its origin, and by its secret.
async fn own_form(request: Request, host: &str, known: Option<&Secret>) -> Result<Request, Problem> {
    if !is_own_origin(request.headers(), host) {
        return Err(Problem::foreign_form());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, FORM_MAX_BYTES).await.map_err(|_| Problem::form_too_large(FORM_MAX_BYTES))?;
    let repeated = field(&body, SECRET_FIELD);
    match (known, repeated) {
        (Some(known), Some(repeated)) if equal(known.0.as_bytes(), repeated) => {}
        _ => return Err(Problem::stale_form()),
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Every browser names the origin of a form; where it is missing, so is the proof.
fn is_own_origin(headers: &HeaderMap, host: &str) -> bool {
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    own.is_some_and(|own| own.eq_ignore_ascii_case(host))
}

/// A field of a form whose value needs no decoding.
fn field<'a>(form: &'a [u8], name: &str) -> Option<&'a [u8]> {
    form.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Takes the same time wherever the texts differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Scripts and styles only from here; connections only here and to the codec server; in nobody's frame.
fn protect(headers: &mut HeaderMap, codec: &str) {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' {codec}; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = policy.parse() {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    let fixed: [(HeaderName, &str); 4] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_hosts() {
        let names = ["mainstay.example".to_owned()];
        for good in [
            "localhost",
            "localhost:8233",
            "127.0.0.1:1",
            "[::1]:8233",
            "10.1.2.3",
            "Mainstay.example:80",
            "a.localhost",
        ] {
            assert!(is_allowed(good, &names), "{good}");
        }
        for bad in
            ["", "evil.example", "localhost.evil.example:8233", "127.0.0.1.evil.example", "mainstay.example.evil"]
        {
            assert!(!is_allowed(bad, &names), "{bad}");
        }
    }

    #[test]
    fn a_form_is_ours_by_its_origin() {
        let from = |origin: &'static str| HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        assert!(is_own_origin(&from("http://localhost:8233"), "localhost:8233"));
        for foreign in ["null", "http://localhost:9", "http://evil.example", "localhost:8233"] {
            assert!(!is_own_origin(&from(foreign), "localhost:8233"), "{foreign}");
        }
        assert!(!is_own_origin(&HeaderMap::new(), "localhost:8233"));
    }

    #[test]
    fn the_secret_is_found_in_a_form() {
        assert_eq!(field(b"a=b&csrf=xyz&c=d", SECRET_FIELD), Some(&b"xyz"[..]));
        assert_eq!(field(b"xcsrf=1", SECRET_FIELD), None);
        assert!(equal(b"ab", b"ab") && !equal(b"ab", b"ac") && !equal(b"ab", b"abc"));
    }
}
