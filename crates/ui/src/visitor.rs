//! What a browser says of itself: cookies with its choices, and the secret that its forms carry.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use axum::http::request::Parts;

use crate::Ui;

pub const SECRET_COOKIE: &str = "mainstay-csrf";
const THEME_COOKIE: &str = "mainstay-theme";
const CODEC_COOKIE: &str = "mainstay-codec";
const SECRET_LENGTH: usize = 32;

/// The browser behind a request.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// `light`, `dark`, or empty for what the system says.
    pub theme: &'static str,
    /// The secret of its forms; put there by `guard` before any handler runs.
    pub secret: Secret,
    /// Where its payloads are decoded; empty for nowhere.
    pub codec: String,
}

/// A random text that a form repeats from a cookie, which no other site can read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// A new one; none if the system has no randomness to give.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; SECRET_LENGTH / 2];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// What the browser already has, if it has the form of one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text = cookie(headers, SECRET_COOKIE)?;
        let sound = text.len() == SECRET_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        sound.then(|| Self(text.to_owned()))
    }
}

impl FromRequestParts<Arc<Ui>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, ui: &Arc<Ui>) -> Result<Self, Infallible> {
        let theme = match cookie(&parts.headers, THEME_COOKIE) {
            Some("light") => "light",
            Some("dark") => "dark",
            _ => "",
        };
        let secret = parts.extensions.get::<Secret>().cloned().unwrap_or_default();
        Ok(Self { theme, secret, codec: codec(&parts.headers, &ui.config.codec_endpoint) })
    }
}

/// The endpoint that a browser chose, or the server's.
pub fn codec(headers: &HeaderMap, default: &str) -> String {
    let chosen = cookie(headers, CODEC_COOKIE)
        .map(|text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned());
    chosen.filter(|text| is_endpoint(text)).unwrap_or_else(|| default.to_owned())
}

/// Whether a text may stand in a policy header and be asked by a script.
pub fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]%".contains(c);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_random_and_comes_back() {
        let secret = Secret::random().unwrap();
        assert_ne!(Some(&secret), Secret::random().as_ref());
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, format!("a=b; {SECRET_COOKIE}={}", secret.0).parse().unwrap());
        assert_eq!(Secret::of(&headers), Some(secret));
        headers.insert(COOKIE, format!("{SECRET_COOKIE}=short").parse().unwrap());
        assert_eq!(Secret::of(&headers), None);
    }

    #[test]
    fn an_endpoint_cannot_break_out_of_a_header() {
        for good in ["http://localhost:8081", "https://codec.example.com/path/v1", "http://[::1]:80"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in
            ["", "localhost", "javascript:alert(1)", "https://a; script-src *", "https://a b", "http://", "https:///x"]
        {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
