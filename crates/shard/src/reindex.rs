//! The index of a shard whose rows were written before there was one: made once, when the shard is opened.
//!
//! It is missing if runs are listed and nothing is counted, or if the newest closed run of a namespace has not all of its postings, as
//! where an earlier server wrote fewer. Counters and those runs' postings are written last, so what a crash interrupts begins anew. The
//! rows are those that apply would have written, so replicas agree however each came by them.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_api::record::VisibilityRecord;
use mainstay_storage::{StateBatch, StateView, StorageError};
use mainstay_visibility::index::is_counted;
use prost::Message;

use crate::index::ListSpace;
use crate::keys::after;
use crate::{Shard, corrupt, listed};

/// Rows whose postings are written together.
const TOGETHER: usize = 1_000;

impl Shard {
    /// Makes the index if it is missing; answers how many rows it was made of. Blocks.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn complete_index(&self) -> Result<usize, StorageError> {
        let view = self.store().view();
        if !self.misses_index(view.as_ref())? {
            return Ok(0);
        }
        let (mut rows, mut counters, mut batch) = (0, BTreeMap::new(), StateBatch::new());
        let mut last = StateBatch::new();
        let mut closed_of = None;
        self.visit_counted(view.as_ref(), &mut |row| {
            let mut batch_of = &mut batch;
            if ListSpace::of(row) == ListSpace::Closed && closed_of.as_ref() != Some(&row.namespace_id) {
                closed_of = Some(row.namespace_id.clone());
                batch_of = &mut last;
            }
            listed::posting_keys(self.keys(), row).into_iter().for_each(|key| batch_of.put(key, Bytes::new()));
            *counters.entry(listed::counter(self.keys(), row)).or_insert(0i64) += 1;
            rows += 1;
            if rows % TOGETHER == 0 {
                self.store().write(std::mem::take(&mut batch))?;
            }
            Ok(true)
        })?;
        for (key, count) in counters {
            last.put(key, Bytes::copy_from_slice(&count.to_be_bytes()));
        }
        self.store().write(batch)?;
        self.store().write(last)?;
        Ok(rows)
    }

    fn misses_index(&self, view: &dyn StateView) -> Result<bool, StorageError> {
        let from = self.keys().all_counters();
        let mut has_counters = false;
        view.scan(&from, &after(&from), &mut |_, _| {
            has_counters = true;
            false
        })?;
        if has_counters {
            return self.misses_postings(view);
        }
        let mut is_listed = false;
        self.visit_counted(view, &mut |_| {
            is_listed = true;
            Ok(false)
        })?;
        Ok(is_listed)
    }

    /// Whether the newest closed run of a namespace lacks a posting.
    fn misses_postings(&self, view: &dyn StateView) -> Result<bool, StorageError> {
        let mut ids = Vec::new();
        self.namespaces(&mut |namespace| {
            ids.push(namespace.id);
            true
        })?;
        for id in ids {
            let mut newest = None;
            self.list(&id, ListSpace::Closed, None, &mut |row| {
                newest = is_counted(&row).then_some(row);
                newest.is_none()
            })?;
            for key in newest.map(|row| listed::posting_keys(self.keys(), &row)).unwrap_or_default() {
                if view.get(&key)?.is_none() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Visits the listed runs that are counted, until `visit` answers false.
    fn visit_counted(
        &self,
        view: &dyn StateView,
        visit: &mut dyn FnMut(&VisibilityRecord) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let from = self.keys().lists();
        let mut failed = None;
        view.scan(&from, &after(&from), &mut |_, value| {
            let row = VisibilityRecord::decode(value).map_err(|e| corrupt("a list row", e));
            let visited = row.and_then(|row| if is_counted(&row) { visit(&row) } else { Ok(true) });
            visited.unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        })?;
        failed.map_or(Ok(()), Err)
    }
}
