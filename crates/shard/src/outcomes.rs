//! What came of commands, remembered for as long as the server may retry them: a retry of a command that was applied is answered as
//! the first time and does nothing.
//!
//! A command id begins with the time of its first proposal, so ids sort by age. What is older than [`KEPT_NS`] by the shard's time is
//! forgotten, a few rows at every sixteenth entry, from where it last ended (deleted rows before that would have to be skipped again
//! and again). Few enough are deleted at once that an entry stays cheap, enough that they do not pile up.

use bytes::Bytes;
use mainstay_api::log::{Entry, Outcome, Reply};
use mainstay_engine::{self as engine, Error};
use mainstay_storage::StorageError;
use prost::Message;

use crate::corrupt;
use crate::keys::after;
use crate::overlay::Overlay;

/// How long an outcome is remembered, by the shard's time. Retries of a command end well before.
pub const KEPT_NS: i64 = 60_000_000_000;
const FORGET_EVERY: u64 = 16;
const FORGET_MAX: usize = 64;

/// The id of a command that is proposed for the first time at `now_ns`.
#[must_use]
pub fn command_id(now_ns: i64, random: u64) -> Bytes {
    let mut id = Vec::with_capacity(16);
    id.extend_from_slice(&now_ns.max(0).to_be_bytes());
    id.extend_from_slice(&random.to_be_bytes());
    id.into()
}

/// What came of the command when it was applied before, if it was.
pub(crate) fn recall(overlay: &Overlay<'_>, entry: &Entry) -> Result<Option<Result<Reply, Error>>, StorageError> {
    if entry.command_id.is_empty() || !entry.may_repeat {
        return Ok(None);
    }
    let Some(value) = overlay.value(&overlay.keys.outcome(&entry.command_id))? else { return Ok(None) };
    let outcome = Outcome::decode(value).map_err(|error| corrupt("an outcome", error))?;
    Ok(Some(engine::result_of(outcome)))
}

/// Remembers what came of a command.
pub(crate) fn remember(overlay: &mut Overlay<'_>, command_id: &[u8], reply: &Result<Reply, Error>) {
    if !command_id.is_empty() {
        overlay.put(overlay.keys.outcome(command_id), engine::encoded_outcome(reply).into());
    }
}

/// Forgets what is too old to be asked for.
pub(crate) fn forget(overlay: &mut Overlay<'_>, log_index: u64, now_ns: i64) -> Result<(), StorageError> {
    if !log_index.is_multiple_of(FORGET_EVERY) {
        return Ok(());
    }
    let keys = overlay.keys;
    let all = keys.outcomes();
    let from = overlay.value(&keys.outcomes_floor())?.map_or_else(|| all.clone(), |floor| floor.to_vec());
    let until = keys.outcome(&now_ns.saturating_sub(KEPT_NS).max(0).to_be_bytes());
    if from >= until {
        return Ok(());
    }
    let mut old: Vec<Vec<u8>> = Vec::new();
    overlay.visit(&from, &until.min(after(&all)), &mut |key, _| {
        old.push(key.to_vec());
        old.len() < FORGET_MAX
    })?;
    if let Some(last) = old.last() {
        overlay.put(keys.outcomes_floor(), last.clone().into());
    }
    for key in old {
        overlay.delete(key);
    }
    Ok(())
}
