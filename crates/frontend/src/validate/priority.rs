//! Priorities and fairness keys.

use mainstay_api::temporal::common::v1::Priority;

use crate::status::{Answer, invalid};

/// Longest fairness key, in bytes.
pub(crate) const FAIRNESS_KEY_MAX: usize = 64;

/// Checks a priority, or none.
pub(crate) fn check(priority: Option<&Priority>) -> Answer<()> {
    let Some(priority) = priority else { return Ok(()) };
    if priority.priority_key < 0 {
        return Err(invalid("priority key can't be negative"));
    }
    fairness_key(&priority.fairness_key)
}

/// Checks a fairness key.
pub(crate) fn fairness_key(key: &str) -> Answer<()> {
    if key.len() > FAIRNESS_KEY_MAX { Err(invalid("fairness key length exceeds limit")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_and_long_are_refused() {
        let of = |key: i32, fairness: usize| Priority {
            priority_key: key,
            fairness_key: "x".repeat(fairness),
            ..Priority::default()
        };
        assert!(check(None).is_ok() && check(Some(&of(9, 64))).is_ok());
        assert!(check(Some(&of(-1, 0))).is_err() && check(Some(&of(1, 65))).is_err());
    }
}
