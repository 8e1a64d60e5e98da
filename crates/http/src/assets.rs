//! A web interface that the user brings: the files of a static build, served as they are.
//!
//! A path that is no file is one of the interface's own pages, so it gets `index.html`, which knows what to do with it.

use std::io;
use std::path::{Path, PathBuf};

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::{Either, Full};
use percent_encoding::percent_decode_str;
use tonic::Code;

use crate::handler::Answer;
use crate::problem::Problem;

const INDEX: &str = "index.html";
/// Files below this have names made from what they hold.
const IMMUTABLE: &str = "/_app/immutable/";
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
/// The interface shows pages of its own in frames, and nobody else shows it in one.
const POLICY: HeaderValue = HeaderValue::from_static("frame-src 'self'; frame-ancestors 'self'");
const KINDS: [(&str, &str); 15] = [
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("woff2", "font/woff2"),
];

/// What a path of the interface shows.
///
/// # Errors
/// If the directory cannot be read.
pub(crate) async fn serve(root: &Path, path: &str) -> Result<Answer, Problem> {
    let (root, wanted) = (root.to_owned(), relative(path));
    let read = tokio::task::spawn_blocking(move || {
        let found = wanted.and_then(|wanted| read(&root, &wanted).transpose());
        found.unwrap_or_else(|| {
            read(&root, Path::new(INDEX)).and_then(|page| page.ok_or(io::ErrorKind::NotFound.into()))
        })
    });
    let unreadable =
        |error: &dyn std::fmt::Display| Problem::new(Code::Internal, format!("the web interface: {error}"));
    let (name, bytes) = read.await.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
    let mut answer = Response::new(Either::Left(Full::new(bytes.into())));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(&name)));
    headers.insert(CACHE_CONTROL, if path.starts_with(IMMUTABLE) { FOR_EVER } else { ASK_AGAIN });
    if name.ends_with(INDEX) {
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    }
    Ok(answer)
}

/// The file that a path names; none if it names the root, or something that is no plain name.
fn relative(path: &str) -> Option<PathBuf> {
    let mut file = PathBuf::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name = percent_decode_str(segment).decode_utf8().ok()?;
        if name.starts_with('.') || name.contains(['/', '\\', '\0', ':']) {
            return None;
        }
        file.push(name.as_ref());
    }
    (!file.as_os_str().is_empty()).then_some(file)
}

/// A file's name and bytes; none if it is none of the directory.
fn read(root: &Path, file: &Path) -> io::Result<Option<(PathBuf, Vec<u8>)>> {
    let root = root.canonicalize()?;
    let Ok(file) = root.join(file).canonicalize() else { return Ok(None) };
    // A link may lead elsewhere.
    if !file.starts_with(&root) || !file.is_file() {
        return Ok(None);
    }
    std::fs::read(&file).map(|bytes| Some((file, bytes)))
}

fn kind(file: &Path) -> &'static str {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    KINDS.iter().find(|(known, _)| *known == ending).map_or("application/octet-stream", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_files() {
        assert_eq!(relative("/_app/x%20y.js"), Some(PathBuf::from("_app/x y.js")));
        for path in ["/", "", "/../x", "/%2e%2e/x", "/a/..%2fx", "/a%5cb", "/.git/config", "/%00", "/%ff", "/c:/x"] {
            assert_eq!(relative(path), None, "{path}");
        }
    }
}
