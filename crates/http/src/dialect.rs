//! Which of the JSON dialects a caller speaks.
//!
//! Temporal's HTTP API writes payloads as the JSON that they hold ("shorthand"); its web interface, which uses the paths below
//! `/api/v1`, wants them as they are. Either can be had on either path, by the query or by `Accept`.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// The paths of the web interface.
const API_V1: &str = "/api/v1/";

/// How answers are written, and how requests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Indented.
    pub pretty: bool,
    /// Payloads are written as the JSON that they hold, where they hold some.
    pub shorthand: bool,
    /// A payload in a request is the JSON that it shall hold, unless it looks exactly like a payload. Otherwise an object with no
    /// other fields than a payload's is one; other values, which could mean nothing else, are still what it shall hold.
    pub reads_shorthand: bool,
}

impl Dialect {
    /// What a request asks for. The query wins over `Accept`, which wins over the path.
    pub fn of(path: &str, query: &str, headers: &HeaderMap) -> Self {
        let by_path = !path.starts_with(API_V1);
        let mut dialect = Self { pretty: false, shorthand: by_path, reads_shorthand: by_path };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        for suffix in suffixes(text(ACCEPT)) {
            match suffix {
                "pretty" => dialect.pretty = true,
                "no-payload-shorthand" => dialect.shorthand = false,
                "payload-shorthand" => dialect.shorthand = true,
                _ => {}
            }
        }
        for suffix in suffixes(text(CONTENT_TYPE)) {
            match suffix {
                "no-payload-shorthand" => dialect.reads_shorthand = false,
                "payload-shorthand" => dialect.reads_shorthand = true,
                _ => {}
            }
        }
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "pretty" => dialect.pretty = true,
                "noPayloadShorthand" => dialect.shorthand = false,
                "payloadShorthand" => (dialect.shorthand, dialect.reads_shorthand) = (true, true),
                _ => {}
            }
        }
        dialect
    }
}

/// What follows `application/json` in the first media type that begins so.
fn suffixes(media_types: &str) -> impl Iterator<Item = &str> {
    let mut types = media_types.split(',').map(|text| text.split(';').next().unwrap_or_default().trim());
    types.find_map(|text| text.strip_prefix("application/json")).into_iter().flat_map(|rest| rest.split('+')).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, query: &str, accept: &'static str) -> (bool, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, http::HeaderValue::from_static(accept));
        let dialect = Dialect::of(path, query, &headers);
        (dialect.pretty, dialect.shorthand)
    }

    #[test]
    fn path_then_accept_then_query() {
        assert_eq!(of("/namespaces", "", "*/*"), (false, true));
        assert_eq!(of("/api/v1/namespaces", "", ""), (false, false));
        assert_eq!(of("/api/v1/namespaces", "payloadShorthand", ""), (false, true));
        assert_eq!(of("/namespaces", "", "application/json+pretty"), (true, true));
        assert_eq!(of("/namespaces", "", "text/html, application/json+pretty+no-payload-shorthand;q=1"), (true, false));
        assert_eq!(of("/namespaces", "a=b&pretty&noPayloadShorthand=", "application/json"), (true, false));
    }

    #[test]
    fn a_content_type_says_how_the_body_is_read() {
        let mut headers = HeaderMap::new();
        assert!(Dialect::of("/namespaces", "", &headers).reads_shorthand);
        assert!(!Dialect::of("/api/v1/namespaces", "", &headers).reads_shorthand);
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json+no-payload-shorthand"));
        assert!(!Dialect::of("/namespaces", "", &headers).reads_shorthand);
    }
}
