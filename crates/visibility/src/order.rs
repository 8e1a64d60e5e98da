//! The order that a list is asked for by `ORDER BY`: each row has a key, and rows are sorted as their keys are, byte by byte.
//!
//! A key holds the values in question, each with its direction in it, and then the row's place in lists: open runs, newest start first,
//! then closed ones, newest close first. That is how an index has rows of one value, so a page stops when it is full.
//! Rows without a value come last, whichever the direction; but a run that is open closes at the end of time, as in filters.
//!
//! A run may close between two pages. So all pages of a list see rows as they were when its first page was read: what closed since
//! is still open to the order ([`as_of`]). Thereby a row keeps its key, and a key is all that a page token needs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use crate::attributes::Attribute;
use crate::condition::END_OF_TIME;
use crate::literal::status_name;
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

/// A row as it was at a time of its shard, as far as an order can tell: a run that closed later was running.
#[must_use]
pub fn as_of(row: &VisibilityRecord, time_ns: i64) -> Cow<'_, VisibilityRecord> {
    if row.close_ns <= time_ns {
        return Cow::Borrowed(row);
    }
    Cow::Owned(VisibilityRecord { close_ns: 0, status: Status::Running as i32, ..row.clone() })
}

impl Order {
    pub(crate) fn new(by: Vec<(Attribute, bool)>) -> Self {
        Self { by }
    }

    /// Whether rows can be ordered by an attribute: it has at most one value, which is compared as a whole.
    pub(crate) fn allows(attribute: &Attribute) -> bool {
        !matches!(attribute.kind, Kind::Text | Kind::KeywordList)
    }

    /// The attribute that decides first, and whether it descends; and whether others follow.
    pub(crate) fn first(&self) -> Option<(&Attribute, bool, bool)> {
        self.by.first().map(|(attribute, descends)| (attribute, *descends, self.by.len() > 1))
    }

    /// What the filter calls the attribute that decides first.
    #[must_use]
    pub fn first_name(&self) -> &str {
        self.by.first().map_or("", |(attribute, _)| attribute.alias.as_str())
    }

    /// The place of a row as of a time: it comes before rows with greater keys. No two runs have the same.
    #[must_use]
    pub fn key(&self, row: &VisibilityRecord, time_ns: i64) -> Vec<u8> {
        let row = as_of(row, time_ns);
        let mut key = Vec::new();
        for (attribute, descends) in &self.by {
            append(&mut key, cell(&row, attribute), *descends);
        }
        key.push(u8::from(is_closed(&row)));
        key.extend((!sortable(if is_closed(&row) { row.close_ns } else { row.start_ns })).to_be_bytes());
        key.extend(row.run_id.as_bytes());
        key
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

/// What a row is ordered by.
pub(crate) fn cell<'a>(row: &'a VisibilityRecord, attribute: &Attribute) -> Cell<'a> {
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

pub(crate) fn sortable(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// The first rows of an order that are behind a place, out of rows that come one by one. Holds no more rows than a page has.
#[derive(Debug)]
pub struct Best<'a> {
    order: &'a Order,
    as_of_ns: i64,
    behind: &'a [u8],
    size: usize,
    rows: BTreeMap<Vec<u8>, VisibilityRecord>,
}

impl<'a> Best<'a> {
    /// The first `size` rows, at least one, whose keys as of a time are greater than `behind`.
    #[must_use]
    pub fn new(order: &'a Order, as_of_ns: i64, behind: &'a [u8], size: usize) -> Self {
        Self { order, as_of_ns, behind, size: size.max(1), rows: BTreeMap::new() }
    }

    /// Takes a row into account.
    pub fn add(&mut self, row: VisibilityRecord) {
        let key = self.order.key(&row, self.as_of_ns);
        let is_beyond = self.is_full() && self.rows.last_key_value().is_some_and(|(last, _)| key > *last);
        if key.as_slice() <= self.behind || is_beyond {
            return;
        }
        self.rows.insert(key, row);
        if self.rows.len() > self.size {
            self.rows.pop_last();
        }
    }

    /// Whether it has as many rows as a page.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.size
    }

    /// The rows in order.
    #[must_use]
    pub fn page(self) -> Vec<VisibilityRecord> {
        self.rows.into_values().collect()
    }
}
