//! Who may ask: not a page of another site that a victim's browser shows.
//!
//! A browser on the same machine or network reaches servers that its user trusts and a stranger does not. Two doors are shut:
//! - a name in `Host` that is not known to be ours: a stranger's name can be made to lead here (DNS rebinding), and then his page
//!   counts as one of this server. Addresses and `localhost` cannot.
//! - a request that changes something and comes from another site's page: such may be sent without asking the server first only
//!   as a form or as plain text, so a body must say that it is JSON, and `Origin`, if given, must be this server.

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method, StatusCode, Uri};
use tonic::Code;

use crate::problem::Problem;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The rules of one server.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// In small letters.
    allowed: Vec<String>,
}

impl Guard {
    pub(crate) fn new(allowed: &[String]) -> Self {
        Self { allowed: allowed.iter().map(|pattern| pattern.to_ascii_lowercase()).collect() }
    }

    /// Before anything is read of a request but its head.
    ///
    /// # Errors
    /// If the request must not be answered.
    pub(crate) fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let authority = uri.authority().map(|authority| authority.as_str()).or_else(|| text(HOST.as_str()));
        // Only clients of old have none; browsers always do.
        let Some(authority) = authority else { return Ok(()) };
        if !self.knows(authority) {
            return Err(Problem::new(
                Code::PermissionDenied,
                format!("Host not allowed: {}; name it with --http-allowed-hosts", name_of(authority)),
            ));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let foreign = text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"))
            || text(ORIGIN.as_str()).is_some_and(|origin| !self.is_own(origin, authority));
        if foreign {
            return Err(Problem::new(Code::PermissionDenied, "requests from pages of other origins are not allowed"));
        }
        Ok(())
    }

    fn knows(&self, authority: &str) -> bool {
        let name = name_of(authority).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<std::net::IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.lists(&name)
    }

    fn lists(&self, name: &str) -> bool {
        self.allowed.iter().any(|pattern| matches_pattern(pattern.as_bytes(), name.as_bytes()))
    }

    fn is_own(&self, origin: &str, authority: &str) -> bool {
        let Some((_, of_origin)) = origin.split_once("://") else { return false };
        of_origin.eq_ignore_ascii_case(authority) || self.lists(&name_of(of_origin).to_ascii_lowercase())
    }
}

/// Whether a body may be read as JSON.
///
/// # Errors
/// If it says that it is something else, or says nothing.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.strip_prefix("application/json").is_some_and(|rest| rest.is_empty() || rest.starts_with('+')) {
        return Ok(());
    }
    let said = if kind.is_empty() { "none".to_owned() } else { kind };
    let text = format!("the body must have the Content-Type application/json, not {said}");
    Err(Problem::invalid(text).with(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// An authority without its port.
fn name_of(authority: &str) -> &str {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[bracket..].rfind(':') {
        Some(colon) => &authority[..bracket + colon],
        None => authority,
    }
}

/// Whether a name matches a pattern in which `*` stands for any text.
fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|window| window == part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn admits(allowed: &[&str], method: Method, headers: &[(&'static str, &'static str)]) -> bool {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let map =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        Guard::new(&allowed).admit(&method, &Uri::from_static("/"), &map).is_ok()
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused() {
        for host in ["localhost", "LOCALHOST:7243", "127.0.0.1:1", "[::1]:7243", "10.0.0.1", "ui.localhost:80", "[::1]"]
        {
            assert!(admits(&[], Method::GET, &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:7243", "", "xlocalhost"] {
            assert!(!admits(&[], Method::GET, &[("host", host)]), "{host}");
        }
        assert!(admits(&[], Method::GET, &[]));
        assert!(admits(&["Flow.Example"], Method::GET, &[("host", "flow.example:80")]));
        assert!(admits(&["*.example"], Method::GET, &[("host", "a.b.example")]));
        assert!(!admits(&["*.example"], Method::GET, &[("host", "example")]));
        assert!(admits(&["*"], Method::GET, &[("host", "anything")]));
        assert!(admits(&["a*b*c"], Method::GET, &[("host", "a-b-b-c")]));
        assert!(!admits(&["a*b*c"], Method::GET, &[("host", "a-c")]));
        assert!(!admits(&["ab*bc"], Method::GET, &[("host", "abc")]));
    }

    #[test]
    fn what_changes_something_must_not_come_from_another_site() {
        let host = ("host", "localhost:7243");
        assert!(admits(&[], Method::POST, &[host]));
        assert!(admits(&[], Method::POST, &[host, ("origin", "http://localhost:7243")]));
        assert!(!admits(&[], Method::POST, &[host, ("origin", "http://localhost:3000")]));
        assert!(!admits(&[], Method::POST, &[host, ("origin", "null")]));
        assert!(!admits(&[], Method::DELETE, &[host, ("sec-fetch-site", "cross-site")]));
        assert!(admits(&[], Method::GET, &[host, ("sec-fetch-site", "cross-site")]));
        assert!(admits(&["ui.example"], Method::POST, &[host, ("origin", "https://ui.example")]));
    }

    #[test]
    fn a_body_says_that_it_is_json() {
        let with = |kind: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        for good in ["application/json", "application/json; charset=utf-8", "Application/JSON+no-payload-shorthand"] {
            assert!(expect_json(&with(good)).is_ok(), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            assert!(expect_json(&with(bad)).is_err(), "{bad}");
        }
        assert!(expect_json(&HeaderMap::new()).is_err());
    }
}
