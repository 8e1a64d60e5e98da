//! Retry policies: when another attempt is made, and after how long. No floating-point library functions: products only, so that
//! every platform computes the same.

use mainstay_api::temporal::common::v1::RetryPolicy;
use mainstay_api::temporal::enums::v1::{RetryState, TimeoutType};
use mainstay_api::temporal::failure::v1::{Failure, failure::FailureInfo};

use crate::convert::{duration, nanos};

const SECOND: i64 = 1_000_000_000;
const TIMEOUT_TYPE_PREFIX: &str = "TemporalTimeout:";

/// What comes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Another attempt after this many nanoseconds.
    Retry(i64),
    /// None, and why.
    Stop(RetryState),
}

/// Fills what a policy leaves out with the defaults of activities: 1 s, doubling, at most a hundred times the first.
pub(crate) fn with_defaults(policy: Option<&RetryPolicy>) -> RetryPolicy {
    let mut policy = policy.cloned().unwrap_or_default();
    if nanos(policy.initial_interval.as_ref()) == 0 {
        policy.initial_interval = duration(SECOND);
    }
    if policy.backoff_coefficient == 0.0 {
        policy.backoff_coefficient = 2.0;
    }
    if nanos(policy.maximum_interval.as_ref()) == 0 {
        policy.maximum_interval = duration(nanos(policy.initial_interval.as_ref()).saturating_mul(100));
    }
    policy
}

/// Checks a policy as a client or command gives it.
pub(crate) fn validate(policy: &RetryPolicy) -> Result<(), String> {
    if policy.maximum_attempts == 1 {
        return Ok(());
    }
    if nanos(policy.initial_interval.as_ref()) < 0 {
        return Err("invalid InitialInterval set on retry policy: negative duration".into());
    }
    if policy.backoff_coefficient != 0.0 && policy.backoff_coefficient < 1.0 {
        return Err("BackoffCoefficient cannot be less than 1 on retry policy.".into());
    }
    let maximum = nanos(policy.maximum_interval.as_ref());
    if maximum < 0 {
        return Err("invalid MaximumInterval set on retry policy: negative duration".into());
    }
    if maximum != 0 && maximum < nanos(policy.initial_interval.as_ref()) {
        return Err("MaximumInterval cannot be less than InitialInterval on retry policy.".into());
    }
    if policy.maximum_attempts < 0 {
        return Err("MaximumAttempts cannot be negative on retry policy.".into());
    }
    for kind in &policy.non_retryable_error_types {
        if let Some(name) = kind.strip_prefix(TIMEOUT_TYPE_PREFIX)
            && timeout_of(name).is_none()
        {
            return Err(format!("Invalid timeout type value: {name}."));
        }
    }
    Ok(())
}

fn timeout_of(name: &str) -> Option<TimeoutType> {
    Some(match name {
        "StartToClose" => TimeoutType::StartToClose,
        "ScheduleToStart" => TimeoutType::ScheduleToStart,
        "ScheduleToClose" => TimeoutType::ScheduleToClose,
        "Heartbeat" => TimeoutType::Heartbeat,
        _ => return None,
    })
}

/// An attempt that failed.
pub(crate) struct Attempt<'a> {
    pub(crate) policy: &'a RetryPolicy,
    /// Its number, from 1.
    pub(crate) attempt: i32,
    pub(crate) now: i64,
    /// No attempt may begin after this; 0 is never.
    pub(crate) expiration: i64,
    pub(crate) failure: &'a Failure,
}

/// Decides on another attempt. (Reference §2.6, in that order.)
pub(crate) fn decide(attempt: &Attempt<'_>) -> Decision {
    if !is_retryable(attempt.failure, &attempt.policy.non_retryable_error_types) {
        return Decision::Stop(RetryState::NonRetryableFailure);
    }
    if attempt.policy.maximum_attempts > 0 && attempt.attempt >= attempt.policy.maximum_attempts {
        return Decision::Stop(RetryState::MaximumAttemptsReached);
    }
    let interval = requested_delay(attempt.failure).unwrap_or_else(|| interval(attempt.policy, attempt.attempt));
    if attempt.expiration != 0 && attempt.now.saturating_add(interval) > attempt.expiration {
        return Decision::Stop(RetryState::Timeout);
    }
    Decision::Retry(interval)
}

/// The wait after this attempt: initial × coefficient^(attempt − 1), at most the maximum.
pub(crate) fn interval(policy: &RetryPolicy, attempt: i32) -> i64 {
    let maximum = nanos(policy.maximum_interval.as_ref());
    let mut value = nanos(policy.initial_interval.as_ref()) as f64;
    if policy.backoff_coefficient > 1.0 {
        for _ in 1..attempt {
            value *= policy.backoff_coefficient;
            if value >= maximum as f64 {
                return maximum;
            }
        }
    }
    (value as i64).min(maximum)
}

fn requested_delay(failure: &Failure) -> Option<i64> {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            info.next_retry_delay.as_ref().map(|delay| nanos(Some(delay)))
        }
        _ => None,
    }
}

pub(crate) fn is_retryable(failure: &Failure, non_retryable: &[String]) -> bool {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => !info.non_retryable && !non_retryable.contains(&info.r#type),
        Some(FailureInfo::TimeoutFailureInfo(info)) => {
            let retryable = matches!(info.timeout_type(), TimeoutType::StartToClose | TimeoutType::Heartbeat);
            let listed = |kind: &String| {
                kind.strip_prefix(TIMEOUT_TYPE_PREFIX).and_then(timeout_of) == Some(info.timeout_type())
            };
            retryable && !non_retryable.iter().any(listed)
        }
        Some(FailureInfo::ServerFailureInfo(info)) => !info.non_retryable,
        Some(FailureInfo::TerminatedFailureInfo(_) | FailureInfo::CanceledFailureInfo(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_maximum() {
        let policy = with_defaults(None);
        let seconds: Vec<i64> = (1..10).map(|attempt| interval(&policy, attempt) / SECOND).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        assert_eq!(interval(&policy, i32::MAX) / SECOND, 100);
    }

    #[test]
    fn a_retry_that_would_begin_after_the_expiration_is_not_made() {
        let failure = Failure::default();
        let policy = with_defaults(None);
        let mut attempt = Attempt { policy: &policy, attempt: 1, now: 0, expiration: SECOND, failure: &failure };
        assert_eq!(decide(&attempt), Decision::Retry(SECOND));
        attempt.expiration = SECOND - 1;
        assert_eq!(decide(&attempt), Decision::Stop(RetryState::Timeout));
    }
}
