//! Who waits for news of a run: history long polls and buffered queries.
//!
//! A wait is registered before the state is read, so that no change between the two is missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mainstay_base::RunId;
use mainstay_engine::EntityKey;
use tokio::sync::Notify;

use crate::lock;

/// Runs that somebody waits for.
#[derive(Default)]
pub(crate) struct Waits {
    runs: Mutex<HashMap<(EntityKey, RunId), Waiting>>,
}

struct Waiting {
    notify: Arc<Notify>,
    waiters: usize,
    /// How often a call about the run was refused.
    refusals: u64,
}

/// A registered wait; ends when dropped.
pub(crate) struct Wait<'a> {
    waits: &'a Waits,
    key: (EntityKey, RunId),
    notify: Arc<Notify>,
}

impl Waits {
    /// Begins to wait for changes of a run.
    pub(crate) fn register(&self, entity: EntityKey, run: RunId) -> Wait<'_> {
        let key = (entity, run);
        let mut runs = lock(&self.runs);
        let waiting = runs.entry(key.clone()).or_insert_with(|| Waiting {
            notify: Arc::new(Notify::new()),
            waiters: 0,
            refusals: 0,
        });
        waiting.waiters += 1;
        Wait { waits: self, notify: Arc::clone(&waiting.notify), key }
    }

    /// A call about a run was refused: that is news for those who wait for an update that is accepted already.
    pub(crate) fn refused(&self, entity: &EntityKey, run: RunId) {
        let mut runs = lock(&self.runs);
        if !runs.is_empty()
            && let Some(waiting) = runs.get_mut(&(entity.clone(), run))
        {
            waiting.refusals += 1;
            waiting.notify.notify_waiters();
        }
    }

    /// Whether anybody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.runs).is_empty()
    }

    /// Wakes all that wait for a run.
    pub(crate) fn wake(&self, entity: EntityKey, run: RunId) {
        let runs = lock(&self.runs);
        if !runs.is_empty()
            && let Some(waiting) = runs.get(&(entity, run))
        {
            waiting.notify.notify_waiters();
        }
    }
}

impl Wait<'_> {
    /// How often a call about the run was refused since somebody waits for it.
    pub(crate) fn refusals(&self) -> u64 {
        lock(&self.waits.runs).get(&self.key).map_or(0, |waiting| waiting.refusals)
    }

    /// Resolves at the first change after this call was made (not: after it was polled).
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut runs = lock(&self.waits.runs);
        if let Some(waiting) = runs.get_mut(&self.key) {
            waiting.waiters -= 1;
            if waiting.waiters == 0 {
                runs.remove(&self.key);
            }
        }
    }
}
