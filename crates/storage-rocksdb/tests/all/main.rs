//! One binary for all tests of this crate, since each one more would be compiled and linked with everything below it.

mod lists;
mod same_log_same_state;
mod stores;
