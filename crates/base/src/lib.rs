//! The vocabulary every other crate shares: time as integers, seeded randomness, ids, hash slots, limits.
//!
//! No clock and no I/O live here: a `Timestamp` is always something that the caller was given. Keep it small.

pub mod id;
pub mod limits;
pub mod prng;
pub mod slot;
pub mod time;

pub use id::RunId;
pub use prng::Prng;
pub use slot::{SLOT_COUNT, Slot};
pub use time::{Duration, Timestamp};
