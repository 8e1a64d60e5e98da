//! What the engine's tests share. Each test uses a part of it.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::collapsible_match)]

pub mod machine;
pub mod rebuild;
pub mod script;
pub mod store;
pub mod text;
pub mod updates;
