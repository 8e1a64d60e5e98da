//! The in-memory stores against the suite's models, with crashes that keep any number of unsynced batches.

use mainstay_storage::suite::{LogSubject, StateSubject, Step, log_script, state_script};
use mainstay_storage::{LogStore, MemoryLog, MemoryState, StateStore};
use proptest::prelude::*;

struct Log(MemoryLog);

impl LogSubject for Log {
    fn store(&self) -> &dyn LogStore {
        &self.0
    }

    fn crash(&mut self, luck: u8) {
        self.0.crash_keeping(usize::from(luck) % (self.0.unsynced() + 1));
    }
}

struct State(MemoryState);

impl StateSubject for State {
    fn store(&self) -> &dyn StateStore {
        &self.0
    }

    fn crash(&mut self, luck: u8) {
        self.0.crash_keeping(usize::from(luck) % (self.0.unflushed() + 1));
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_its_model(script in steps()) {
        log_script(&mut Log(MemoryLog::default()), &script);
    }

    #[test]
    fn the_state_equals_its_model(script in steps()) {
        state_script(&mut State(MemoryState::default()), &script);
    }
}
