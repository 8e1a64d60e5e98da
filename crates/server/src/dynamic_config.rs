//! What `--dynamic-config-value` may change: a few settings of Temporal's dynamic configuration that clients and workers notice.

use std::str::FromStr;

use mainstay_api::log::SuggestFrom;
use mainstay_base::limits::BLOB_SIZE_MAX;

use crate::Failure;

/// Lets workflows be paused.
const WORKFLOW_PAUSE: &str = "frontend.WorkflowPauseEnabled";
/// Events of a history from which its worker is told to continue as new.
const SUGGEST_COUNT: &str = "limit.historyCount.suggestContinueAsNew";
/// The same in bytes.
const SUGGEST_SIZE: &str = "limit.historySize.suggestContinueAsNew";
/// Bytes from which payloads, headers and failures are refused.
const BLOB_SIZE: &str = "limit.blobSize.error";

/// The settings that are known here.
#[derive(Debug, Default, PartialEq)]
pub struct DynamicConfig {
    pub workflow_pause: bool,
    /// None for the defaults.
    pub suggest_from: Option<SuggestFrom>,
    /// How large payloads may be, in bytes; None for the default.
    pub blob_size_max: Option<usize>,
    /// Keys that mean nothing here.
    pub ignored: Vec<String>,
}

impl DynamicConfig {
    /// From pairs KEY=JSON. Keys are of any case, as in Temporal.
    pub fn parse(pairs: &[String]) -> Result<Self, Failure> {
        let mut config = Self::default();
        for pair in pairs {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("--dynamic-config-value {pair} is not KEY=JSON"))?;
            let is = |name: &str| key.eq_ignore_ascii_case(name);
            if is(WORKFLOW_PAUSE) {
                config.workflow_pause = parsed(key, value, "true or false")?;
            } else if is(SUGGEST_COUNT) {
                config.suggest_from.get_or_insert_default().history_count = parsed(key, value, "a number")?;
            } else if is(SUGGEST_SIZE) {
                config.suggest_from.get_or_insert_default().history_size = parsed(key, value, "a number of bytes")?;
            } else if is(BLOB_SIZE) {
                config.blob_size_max = Some(blob_size(key, value)?);
            } else {
                config.ignored.push(key.to_owned());
            }
        }
        Ok(config)
    }
}

/// No larger than the usual limit: a message must hold it, and what goes with it.
fn blob_size(key: &str, value: &str) -> Result<usize, Failure> {
    match parsed(key, value, "a number of bytes")? {
        size @ 1..=BLOB_SIZE_MAX => Ok(size),
        size => Err(format!("{key} is {size}, and must be 1 to {BLOB_SIZE_MAX}")),
    }
}

fn parsed<T: FromStr>(key: &str, value: &str, what: &str) -> Result<T, Failure> {
    value.trim().parse().map_err(|_| format!("{key} is {what}, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[&str]) -> Result<DynamicConfig, Failure> {
        DynamicConfig::parse(&pairs.iter().map(|&pair| pair.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn known_keys_are_obeyed_and_others_named() {
        let config = parse(&[
            "frontend.workflowpauseenabled=true",
            "limit.historyCount.suggestContinueAsNew=50",
            "limit.blobSize.error=10240",
            "frontend.enableUpdateWorkflowExecution=true",
        ]);
        let suggest_from = Some(SuggestFrom { history_count: 50, history_size: 0 });
        let ignored = vec!["frontend.enableUpdateWorkflowExecution".to_owned()];
        let blob_size_max = Some(10_240);
        assert_eq!(config, Ok(DynamicConfig { workflow_pause: true, suggest_from, blob_size_max, ignored }));
        assert_eq!(parse(&[]), Ok(DynamicConfig::default()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |pair| parse(&[pair]).expect_err("wrong");
        assert_eq!(said("x"), "--dynamic-config-value x is not KEY=JSON");
        assert_eq!(said("limit.blobSize.error=0"), "limit.blobSize.error is 0, and must be 1 to 2097152");
        assert_eq!(
            said("limit.historySize.suggestContinueAsNew=much"),
            "limit.historySize.suggestContinueAsNew is a number of bytes, not much"
        );
    }
}
