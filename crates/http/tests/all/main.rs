//! The handler over services that this test makes up.

#![allow(clippy::unwrap_used)]

mod fake;
mod nonsense;
mod requests;
