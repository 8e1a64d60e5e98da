//! The order that a list is asked for by `ORDER BY`: each row has a key, and rows are sorted as their keys are, byte by byte.
//!
//! A key holds the values in question, each with its direction in it, and then what tells rows of equal values apart and never changes:
//! the start, newest first, and the run. So the place of a row stays the same while it closes, and a key is all that a page token needs.
//! Rows without a value come last, whichever the direction; but a run that is open closes at the end of time, as in filters.

use std::collections::BTreeMap;
use std::fmt;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use crate::attributes::{Attribute, Column, Place};
use crate::condition::END_OF_TIME;
use crate::literal::{micros, status_name};
use crate::row::{Cell, is_closed, read};

/// Attributes that one list can be ordered by.
pub(crate) const ATTRIBUTES_MAX: usize = 4;

const SOME: u8 = 0;
const NONE: u8 = 1;

/// What rows are ordered by, and whether it descends; then by what follows.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    by: Vec<(Attribute, bool)>,
}

impl Order {
    pub(crate) fn new(by: Vec<(Attribute, bool)>) -> Self {
        Self { by }
    }

    /// Whether rows can be ordered by an attribute: it has at most one value, which is compared as a whole.
    pub(crate) fn allows(attribute: &Attribute) -> bool {
        !matches!(attribute.kind, Kind::Text | Kind::KeywordList)
    }

    /// The place of a row: it comes before rows with greater keys. No two runs have the same.
    #[must_use]
    pub fn key(&self, row: &VisibilityRecord) -> Vec<u8> {
        let mut key = Vec::new();
        for (attribute, descends) in &self.by {
            append(&mut key, cell(row, attribute), *descends);
        }
        key.extend((!sortable(row.start_ns)).to_be_bytes());
        key.extend(row.run_id.as_bytes());
        key
    }

    /// What the keys are not less than of rows behind this one in its list, if the order is by a time, latest first: runs are listed by
    /// start while they are open and then by close, which is no earlier.
    fn least_behind(&self, row: &VisibilityRecord) -> Option<Vec<u8>> {
        let (attribute, true) = self.by.first()? else { return None };
        let time_ns = match attribute.place {
            Place::Column(Column::StartTime) if !is_closed(row) => row.start_ns,
            Place::Column(Column::StartTime | Column::CloseTime) if is_closed(row) => row.close_ns,
            _ => return None,
        };
        let mut key = Vec::new();
        append(&mut key, Cell::Time(micros(time_ns)), true);
        Some(key)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (attribute, descends)) in self.by.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", attribute.alias, if *descends { "descending" } else { "ascending" })?;
        }
        Ok(())
    }
}

fn cell<'a>(row: &'a VisibilityRecord, attribute: &Attribute) -> Cell<'a> {
    match read(row, attribute) {
        Cell::Int(status) if attribute.is_status() => {
            let status = i32::try_from(status).ok().and_then(|status| Status::try_from(status).ok());
            Cell::Text(status_name(status.unwrap_or_default()).into())
        }
        Cell::Null if attribute.is_close_time() => Cell::Time(END_OF_TIME),
        cell => cell,
    }
}

/// Appends a value so that keys sort by it. No value's bytes begin another's, so they sort the other way round when inverted.
fn append(key: &mut Vec<u8>, cell: Cell<'_>, descends: bool) {
    let start = key.len() + 1;
    key.push(SOME);
    match cell {
        Cell::Text(text) => {
            for byte in text.bytes() {
                key.push(byte);
                if byte == 0 {
                    key.push(0xff);
                }
            }
            key.extend([0, 1]);
        }
        Cell::Int(value) | Cell::Time(value) => key.extend(sortable(value).to_be_bytes()),
        Cell::Double(value) => key.extend(crate::index::sortable(value).to_be_bytes()),
        Cell::Null | Cell::List(_) => {
            key.pop();
            key.push(NONE);
        }
    }
    if descends {
        key.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
    }
}

fn sortable(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// The first rows of an order that are behind a place, out of rows that come one by one. Holds no more rows than a page has.
#[derive(Debug)]
pub struct Best<'a> {
    order: &'a Order,
    behind: &'a [u8],
    size: usize,
    rows: BTreeMap<Vec<u8>, VisibilityRecord>,
}

impl<'a> Best<'a> {
    /// The first `size` rows, at least one, whose keys are greater than `behind`.
    #[must_use]
    pub fn new(order: &'a Order, behind: &'a [u8], size: usize) -> Self {
        Self { order, behind, size: size.max(1), rows: BTreeMap::new() }
    }

    /// Takes a row into account.
    pub fn add(&mut self, row: VisibilityRecord) {
        let key = self.order.key(&row);
        if key.as_slice() <= self.behind || self.is_beyond(&key) {
            return;
        }
        self.rows.insert(key, row);
        if self.rows.len() > self.size {
            self.rows.pop_last();
        }
    }

    /// Whether this row and all behind it in its list are too late for the page.
    #[must_use]
    pub fn excludes(&self, row: &VisibilityRecord) -> bool {
        self.rows.len() >= self.size && self.order.least_behind(row).is_some_and(|least| self.is_beyond(&least))
    }

    fn is_beyond(&self, key: &[u8]) -> bool {
        self.rows.len() >= self.size && self.rows.last_key_value().is_some_and(|(last, _)| key > last.as_slice())
    }

    /// The rows in order, and the key of the last one if the page is full.
    #[must_use]
    pub fn page(self) -> (Vec<VisibilityRecord>, Option<Vec<u8>>) {
        let end = self.rows.last_key_value().map(|(key, _)| key.clone()).filter(|_| self.rows.len() >= self.size);
        (self.rows.into_values().collect(), end)
    }
}
