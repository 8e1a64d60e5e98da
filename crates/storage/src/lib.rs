//! What a node keeps: a log of commands and the state they make, as two stores with different promises.
//!
//! The log is written in order and synced per batch: what was synced survives a power loss. The state is written at once and made
//! durable later; what was lost of it is made again from the log. This crate holds the two traits, their in-memory form (which
//! loses what was not synced when told to crash), the byte budget, and the suite that every form must pass. It knows no keys,
//! no files, and nothing of what an entry or a row means.

mod budget;
mod error;
mod figures;
mod log;
mod memory_log;
mod memory_state;
mod state;
pub mod suite;

pub use budget::{Budget, Usage};
pub use error::StorageError;
pub use figures::StoreFigures;
pub use log::{LogBounds, LogOp, LogStore};
pub use memory_log::MemoryLog;
pub use memory_state::MemoryState;
pub use state::{StateBatch, StateOp, StateStore, StateView};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic elsewhere left the data as whole as it was, since every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
