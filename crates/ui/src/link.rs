//! Addresses of pages. Ids are written by users and may hold any character, so nobody else puts an address together.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stays as it is in a segment of a path and in a value of a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One segment of a path. Browsers resolve `.` and `..` even when they are encoded once, so these are encoded twice.
pub fn segment(text: &str) -> String {
    match text {
        "." => "%252E".into(),
        ".." => "%252E%252E".into(),
        _ => utf8_percent_encode(text, ENCODED).to_string(),
    }
}

/// A segment as the router decoded it, back to what it was.
pub fn unsegment(text: String) -> String {
    match text.as_str() {
        "%2E" => ".".into(),
        "%2E%2E" => "..".into(),
        _ => text,
    }
}

/// `?a=b&c=d` of those parameters that are not empty.
pub fn parameters(pairs: &[(&str, &str)]) -> String {
    let given = pairs.iter().filter(|(_, value)| !value.is_empty());
    let written: Vec<String> = given.map(|(name, value)| format!("{name}={}", value_of(value))).collect();
    if written.is_empty() { String::new() } else { format!("?{}", written.join("&")) }
}

fn value_of(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A flag's path as `/ui`, or empty.
pub fn public_path(given: &str) -> String {
    let trimmed = given.trim_matches('/');
    let plain = percent_decode_str(trimmed).decode_utf8_lossy();
    let words: Vec<String> = plain.split('/').filter(|word| !word.is_empty()).map(segment).collect();
    words.iter().map(|word| format!("/{word}")).collect()
}

/// The pages of one namespace.
#[derive(Clone, Debug)]
pub struct Links<'a> {
    pub base: &'a str,
    pub namespace: &'a str,
}

impl Links<'_> {
    pub fn namespace(&self) -> String {
        format!("{}/namespaces/{}", self.base, segment(self.namespace))
    }

    pub fn page(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace())
    }

    pub fn workflows(&self, query: &str) -> String {
        self.page("workflows") + &parameters(&[("query", query)])
    }

    /// One run; the latest without a run id.
    pub fn run(&self, workflow_id: &str, run_id: &str) -> String {
        let workflow = format!("{}/{}", self.page("workflows"), segment(workflow_id));
        if run_id.is_empty() { workflow } else { format!("{workflow}/{}", segment(run_id)) }
    }

    pub fn schedule(&self, id: &str) -> String {
        format!("{}/{}", self.page("schedules"), segment(id))
    }

    pub fn batch(&self, id: &str) -> String {
        format!("{}/{}", self.page("batches"), segment(id))
    }

    pub fn task_queue(&self, name: &str) -> String {
        format!("{}/{}", self.page("task-queues"), segment(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_is_one_segment() {
        assert_eq!(segment("a/b?c#d%e\"<'&> ü"), "a%2Fb%3Fc%23d%25e%22%3C%27%26%3E%20%C3%BC");
        for dots in [".", ".."] {
            let once = percent_decode_str(&segment(dots)).decode_utf8().unwrap().into_owned();
            assert_ne!(once, dots);
            assert_eq!(unsegment(once), dots);
        }
        assert_eq!(unsegment("a.b".into()), "a.b");
    }

    #[test]
    fn empty_parameters_are_left_out() {
        assert_eq!(parameters(&[("a", ""), ("b", "x y&"), ("c", "1")]), "?b=x%20y%26&c=1");
        assert_eq!(parameters(&[("a", "")]), "");
    }

    #[test]
    fn a_public_path_has_one_slash_before_each_word() {
        assert_eq!(public_path(""), "");
        assert_eq!(public_path("/"), "");
        assert_eq!(public_path("ui/"), "/ui");
        assert_eq!(public_path("/a//b"), "/a/b");
    }
}
