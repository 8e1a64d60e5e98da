//! Files that are part of the binary. Their address has the version of all of them, so browsers may keep them for ever.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../assets/", $name)))),*];
    };
}

embedded!(
    "style.css",
    "mark.svg",
    "main.js",
    "codec.js",
    "complete.js",
    "dialogs.js",
    "keys.js",
    "list.js",
    "live.js",
    "switches.js",
    "times.js"
);

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    FILES.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
});

/// The address of a file.
pub fn href(base: &str, name: &str) -> String {
    format!("{base}/assets/{}/{name}", *VERSION)
}

/// Serves a file; of whatever version was asked, since there is one only.
pub async fn asset(Path((_, name)): Path<(String, String)>) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| Problem::not_found("There is no such file."))?;
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], *text).into_response())
}
