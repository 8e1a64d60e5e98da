//! Who polled a queue lately, by identity: what `DescribeTaskQueue` shows. Bounded in number and in age.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_base::Timestamp;

use crate::types::{Limits, Poller, PollerInfo};

struct Trace {
    last_access: Timestamp,
    rate_per_second: Option<f64>,
    build_id: Option<String>,
}

/// The traces that pollers left.
#[derive(Default)]
pub struct PollerHistory {
    traces: BTreeMap<String, Trace>,
    by_age: BTreeSet<(Timestamp, String)>,
}

impl PollerHistory {
    /// Notes that the poller was there now, and drops traces that are too old or too many.
    pub fn note(&mut self, poller: &Poller, limits: &Limits, now: Timestamp) {
        let trace =
            Trace { last_access: now, rate_per_second: poller.rate_per_second, build_id: poller.build_id.clone() };
        if let Some(old) = self.traces.insert(poller.identity.clone(), trace) {
            self.by_age.remove(&(old.last_access, poller.identity.clone()));
        }
        self.by_age.insert((now, poller.identity.clone()));
        while let Some((at, _)) = self.by_age.first() {
            if self.by_age.len() <= limits.identities_max && *at + limits.poller_history >= now {
                break;
            }
            if let Some((_, identity)) = self.by_age.pop_first() {
                self.traces.remove(&identity);
            }
        }
    }

    pub fn clear(&mut self) {
        self.traces.clear();
        self.by_age.clear();
    }

    /// Those not too old, latest first.
    pub fn list(&self, limits: &Limits, now: Timestamp) -> Vec<PollerInfo> {
        let recent = self.by_age.iter().rev().take_while(|(at, _)| *at + limits.poller_history >= now);
        let infos = recent.filter_map(|(at, identity)| {
            let trace = self.traces.get(identity)?;
            Some(PollerInfo {
                identity: identity.clone(),
                last_access: *at,
                rate_per_second: trace.rate_per_second,
                build_id: trace.build_id.clone(),
            })
        });
        infos.collect()
    }
}
