//! Retry policies.

use mainstay_api::temporal::common::v1::RetryPolicy;
use prost_types::Duration;

use crate::status::{Answer, invalid};
use crate::validate::times;

const TIMEOUT_PREFIX: &str = "TemporalTimeout:";
const TIMEOUT_TYPES: [&str; 4] = ["StartToClose", "ScheduleToStart", "ScheduleToClose", "Heartbeat"];

/// Checks a policy as a client gave it; what it leaves out is filled in where it is used.
pub(crate) fn check(policy: Option<&mut RetryPolicy>) -> Answer<()> {
    let Some(policy) = policy else { return Ok(()) };
    // One attempt means no retries: the rest does not matter then.
    if policy.maximum_attempts == 1 {
        return Ok(());
    }
    interval("InitialInterval", &mut policy.initial_interval)?;
    if policy.backoff_coefficient != 0.0 && policy.backoff_coefficient < 1.0 || policy.backoff_coefficient.is_nan() {
        return Err(invalid("BackoffCoefficient cannot be less than 1 on retry policy."));
    }
    interval("MaximumInterval", &mut policy.maximum_interval)?;
    let (initial, maximum) = (nanos(policy.initial_interval), nanos(policy.maximum_interval));
    if maximum > 0 && maximum < initial {
        return Err(invalid("MaximumInterval cannot be less than InitialInterval on retry policy."));
    }
    if policy.maximum_attempts < 0 {
        return Err(invalid("MaximumAttempts cannot be negative on retry policy."));
    }
    for kind in policy.non_retryable_error_types.iter().filter_map(|kind| kind.strip_prefix(TIMEOUT_PREFIX)) {
        if !TIMEOUT_TYPES.contains(&kind) {
            return Err(invalid(format!("Invalid timeout type value: {kind}.")));
        }
    }
    Ok(())
}

fn interval(name: &str, value: &mut Option<Duration>) -> Answer<()> {
    times::normalise(value).map_err(|wrong| invalid(format!("invalid {name} set on retry policy: {wrong}")))
}

fn nanos(value: Option<Duration>) -> i128 {
    value.map_or(0, |d| i128::from(d.seconds) * 1_000_000_000 + i128::from(d.nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::status_of;

    fn refusal(mut policy: RetryPolicy) -> String {
        check(Some(&mut policy)).err().map(|r| status_of(&r).message().to_string()).unwrap_or_default()
    }

    #[test]
    fn texts_are_the_reference_servers() {
        let second = |seconds| Some(Duration { seconds, nanos: 0 });
        let policy = RetryPolicy::default;
        let negative = RetryPolicy { initial_interval: second(-1), ..policy() };
        assert_eq!(refusal(negative), "invalid InitialInterval set on retry policy: negative duration");
        let shrinking = RetryPolicy { initial_interval: second(5), maximum_interval: second(1), ..policy() };
        assert_eq!(refusal(shrinking), "MaximumInterval cannot be less than InitialInterval on retry policy.");
        let half = RetryPolicy { backoff_coefficient: 0.5, ..policy() };
        assert_eq!(refusal(half), "BackoffCoefficient cannot be less than 1 on retry policy.");
        let attempts = RetryPolicy { maximum_attempts: -1, ..policy() };
        assert_eq!(refusal(attempts), "MaximumAttempts cannot be negative on retry policy.");
        let kinds = RetryPolicy { non_retryable_error_types: vec!["TemporalTimeout:Bogus".into()], ..policy() };
        assert_eq!(refusal(kinds), "Invalid timeout type value: Bogus.");
        assert_eq!(refusal(policy()), "");
    }
}
