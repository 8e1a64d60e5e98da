//! Spans of what becomes of a proposal on the node that proposed it: the sync of its log entry, and apply.
//!
//! An entry carries a handle of its proposal's span, in memory only. The handle is emptied when the proposal ends, so that an entry
//! which stays in memory keeps no span open, and what comes later has no parent. Where nobody exports traces there is no handle.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::Span;

use crate::types::LogEntry;

/// The target of spans that are traces.
const TARGET: &str = "mainstay::trace";

/// The handle of a proposal's span; most often there is none.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Arc<Mutex<Option<Span>>>>);

/// Empties the handle when the proposal ends, in whatever way.
pub(crate) struct Traced(Trace);

impl Trace {
    /// The span that is entered now, if it is one of a trace.
    pub fn current() -> (Self, Traced) {
        let span = Span::current();
        let traced = span.metadata().is_some_and(|metadata| metadata.target() == TARGET);
        let trace = Self(traced.then(|| Arc::new(Mutex::new(Some(span)))));
        (trace.clone(), Traced(trace))
    }

    fn parent(&self) -> Option<Span> {
        self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if let Some(held) = &self.0.0 {
            *held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// A handle is no part of what an entry says.
impl PartialEq for Trace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Trace {}

/// Parents of the spans of a batch of entries.
fn parents(entries: &[LogEntry]) -> impl Iterator<Item = Span> {
    entries.iter().filter_map(|entry| match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.1.parent(),
        _ => None,
    })
}

/// From when entries enter the log's queue until they are written and synced: a span for each that is traced, which ends when it is
/// dropped.
pub(crate) fn syncs(entries: &[LogEntry]) -> Vec<Span> {
    let span = |parent| tracing::info_span!(target: TARGET, parent: &parent, "fsync", entries = entries.len());
    parents(entries).map(span).collect()
}

/// While a batch of committed entries is applied.
pub(crate) fn applies(entries: &[LogEntry]) -> Vec<Span> {
    let span = |parent| tracing::info_span!(target: TARGET, parent: &parent, "apply", entries = entries.len());
    parents(entries).map(span).collect()
}
