//! Field masks: which fields of a message a request means to set.

use prost_types::FieldMask;

/// The paths of a mask, in the proto files' spelling.
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// A mask's paths; the spelling of JSON (`taskQueue.name`) means the same as that of the proto files.
    pub(crate) fn of(mask: Option<&FieldMask>) -> Self {
        Self(mask.map(|mask| mask.paths.iter().map(|path| snake(path)).collect()).unwrap_or_default())
    }

    /// Whether the mask names exactly this field.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|own| own == path)
    }

    /// Whether the mask names this field or one inside it.
    pub(crate) fn has_under(&self, path: &str) -> bool {
        self.0.iter().any(|own| own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

fn snake(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for ch in path.chars() {
        if ch.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(ch.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_name_a_field() {
        let mask = FieldMask { paths: vec!["taskQueue.name".into(), "retry_policy.maximum_attempts".into()] };
        let mask = Mask::of(Some(&mask));
        assert!(mask.has("task_queue.name") && !mask.has("task_queue"));
        assert!(mask.has_under("retry_policy") && !mask.has_under("retry"));
    }
}
