//! Messages as JSON: proto3's canonical form, with Temporal's shorthand for payloads.

mod indent;
mod read;
mod shorthand;
mod write;

pub(crate) use read::{from_base64, read};
pub(crate) use write::write;

#[cfg(test)]
mod tests;
