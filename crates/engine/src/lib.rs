//! The engine: what a workflow execution does with a command.
pub mod error;
pub mod store;
pub use error::Error;
