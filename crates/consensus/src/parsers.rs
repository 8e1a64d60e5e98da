//! The parsers of what is stored and received, by name, for tests that give them garbage.

use bytes::Bytes;
use mainstay_storage::StorageError;

use crate::{codec, digests, rpc, snapshot};

/// Reads bytes, and says what is wrong with them.
pub type Parser = fn(Bytes) -> Result<(), StorageError>;

/// All of them.
#[must_use]
pub fn all() -> [(&'static str, Parser); 11] {
    [
        ("entry", |bytes| codec::read_entry(bytes).map(drop)),
        ("vote", |bytes| codec::read_vote(bytes).map(drop)),
        ("log id", |bytes| codec::read_log_id(bytes).map(drop)),
        ("mark", |bytes| codec::read_mark(bytes).map(drop)),
        ("head of a call", |bytes| rpc::read_head(bytes).map(drop)),
        ("append", |bytes| rpc::Append::decode(bytes).map(drop)),
        ("part of a snapshot", |bytes| snapshot::Part::decode(bytes).map(drop)),
        ("end of a snapshot", |bytes| snapshot::End::decode(bytes).map(drop)),
        ("question for a digest", |bytes| digests::read_question(bytes).map(drop)),
        ("doubt", |bytes| digests::read_doubt(bytes).map(drop)),
        ("rows of a snapshot", |bytes| snapshot::rows(bytes).map(drop)),
    ]
}
