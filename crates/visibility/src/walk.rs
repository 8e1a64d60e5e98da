//! Walking an index: all rows in the order of one attribute, without looking at those that a page does not show.
//!
//! Rows of an equal value are a group. Groups come in the order of the attribute, and the rows of a group in list order; then, if there
//! can be any, the rows without a value, which are a group of their own. Where a group is *exact* its rows are in the order asked for;
//! elsewhere (several attributes, long texts that the index cuts, integers beyond what a float holds) whoever walks must sort it.
//!
//! What has no ordered index is not walked: `HistoryLength`, `ExecutionDuration` and the like.

use std::cmp::Ordering;
use std::fmt;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use crate::attributes::{Attribute, Column, Place};
use crate::condition::{Condition, END_OF_TIME};
use crate::index::{self, TEXT_MAX};
use crate::literal::{Literal, status_name};
use crate::order::{Order, cell};
use crate::plan::{Access, Point, Range, Span, equal, every_status, range, times};
use crate::row::Cell;

/// Integers below this are floats as well.
const EXACT_FLOATS: f64 = 9_007_199_254_740_992.0;
/// A letter has so many bytes at most: a text that is cut has more than the limit without one.
const LETTER_MAX: usize = 4;

/// A value as its index has it; none of rows without a value.
pub type Group = Option<Vec<u8>>;

/// Which index is walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Postings of values, and the starts of closed runs: a group is a posting.
    Posting,
    /// Postings of types: a group is what those of all statuses begin with.
    Type,
    /// A group is a status's name.
    Status,
    /// As postings; of open runs the list itself has the order.
    Start,
    /// The list of closed runs has the order. Open ones are one group, that of the end of time.
    Close,
    /// A group is a workflow id.
    WorkflowId,
}

/// An index in its order.
#[derive(Clone, PartialEq, Debug)]
pub struct Walk {
    /// Which one.
    pub by: By,
    /// Whether from the greatest value down.
    pub descends: bool,
    /// The first group that matters, and what the last one begins with; both inclusive, the lesser one first.
    pub bounds: (Vec<u8>, Vec<u8>),
    /// What all groups of the attribute begin with.
    prefix: Vec<u8>,
    attribute: Attribute,
    /// Whether rows without a value matter.
    has_rest: bool,
    is_alone: bool,
}

impl Walk {
    /// The walk for an order, if there is an index with that of its first attribute. `condition` bounds it.
    pub(crate) fn of(order: &Order, condition: Option<&Condition>) -> Option<Self> {
        let (attribute, descends, more) = order.first()?;
        let (by, prefix, has_rest) = match (&attribute.place, attribute.kind) {
            (Place::Column(Column::WorkflowType), _) => (By::Type, index::of_type_prefix(""), false),
            (Place::Column(Column::Status), _) => (By::Status, Vec::new(), false),
            (Place::Column(Column::StartTime), _) => (By::Start, index::of_starts(), false),
            (Place::Column(Column::CloseTime), _) => (By::Close, Vec::new(), false),
            (Place::Column(Column::WorkflowId), _) => (By::WorkflowId, Vec::new(), false),
            (Place::Column(Column::ParentWorkflowId), _) => (By::Posting, index::of_parents(), true),
            (Place::Attribute(name), Kind::Keyword) => (By::Posting, index::of_keyword_prefix(name, ""), true),
            (Place::Attribute(name), Kind::Int | Kind::Double | Kind::Bool) => {
                (By::Posting, index::of_numbers(name), true)
            }
            (Place::Attribute(name), Kind::Datetime) => (By::Posting, index::of_times(name), true),
            _ => return None,
        };
        let bounds = (prefix.clone(), prefix.clone());
        let mut walk = Self { by, descends, bounds, prefix, attribute: attribute.clone(), has_rest, is_alone: !more };
        condition.into_iter().for_each(|condition| walk.bound(condition));
        Some(walk)
    }

    /// Leaves out what no row can have that satisfies a condition.
    fn bound(&mut self, condition: &Condition) {
        if let Condition::And(parts) = condition {
            return parts.iter().for_each(|part| self.bound(part));
        }
        let of = match condition {
            Condition::IsNull { attribute, negated: false } if attribute.place == self.attribute.place => {
                // Nothing begins beyond what all begin with.
                self.bounds.0 = vec![u8::MAX];
                return;
            }
            Condition::Compare { attribute, .. }
            | Condition::In { attribute, .. }
            | Condition::Between { attribute, .. }
            | Condition::StartsWith { attribute, .. }
            | Condition::IsNull { attribute, negated: true } => attribute,
            _ => return,
        };
        if of.place != self.attribute.place {
            return;
        }
        self.has_rest = false;
        if let Some((from, to)) = self.ends(condition) {
            let (first, last) = &mut self.bounds;
            *first = std::mem::take(first).max(from);
            // What begins with a longer text ends earlier.
            if !last.starts_with(&to) {
                *last = if to.starts_with(last) { to } else { std::mem::take(last).min(to) };
            }
        }
    }

    fn ends(&self, condition: &Condition) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.by == By::Start {
            let (_, from, to) = times(condition)?;
            let end = |micros: Option<i64>| micros.map_or_else(index::of_starts, index::of_start);
            return Some((end(from), end(to)));
        }
        if self.by != By::Posting {
            return None;
        }
        if let Some((attribute, [value])) = crate::pins::values(condition)
            && let Some([Point::Posting(posting)]) = equal(attribute, value, None).as_deref()
        {
            return Some((posting.clone(), posting.clone()));
        }
        match range(condition)?.access {
            Access::Range(Range::Postings(from, to)) => Some((from, to)),
            _ => None,
        }
    }

    /// The group of a row, which is to be as of the walk's time.
    #[must_use]
    pub fn group(&self, row: &VisibilityRecord) -> Group {
        Some(match (self.by, cell(row, &self.attribute)) {
            (_, Cell::Null | Cell::List(_)) => return None,
            (By::Type, Cell::Text(name)) => index::of_type_of_any_status(&name),
            (By::Start, Cell::Time(micros)) => index::of_start(micros),
            (By::Close, Cell::Time(micros)) => close(micros),
            (By::Status | By::WorkflowId, Cell::Text(text)) => text.as_bytes().to_vec(),
            (_, cell) => {
                let literal = match cell {
                    Cell::Text(text) => Literal::Text(text.into_owned()),
                    Cell::Int(value) => Literal::Double(value as f64),
                    Cell::Double(value) => Literal::Double(value),
                    Cell::Time(micros) => Literal::Time(micros),
                    Cell::Null | Cell::List(_) => return None,
                };
                match (&self.attribute.place, literal) {
                    (Place::Attribute(name), Literal::Double(value)) => index::of_number(name, value),
                    (_, literal) => match equal(&self.attribute, &literal, None)?.pop()? {
                        Point::Posting(posting) => posting,
                        _ => return None,
                    },
                }
            }
        })
    }

    /// Whether a group can be one of this walk: what comes from outside need not.
    #[must_use]
    pub fn knows(&self, group: &Group) -> bool {
        let Some(group) = group else { return self.has_rest };
        match self.by {
            By::Close => group.len() == 8,
            By::Start => group.len() == self.prefix.len() + 8 && group.starts_with(&self.prefix),
            By::WorkflowId => std::str::from_utf8(group).is_ok(),
            By::Status => true,
            By::Posting | By::Type => group.starts_with(&self.prefix),
        }
    }

    /// Whether the rows of a group are in the order asked for.
    #[must_use]
    pub fn is_exact(&self, group: &Group) -> bool {
        let Some(group) = group else { return self.is_alone };
        let value = group.get(self.prefix.len()..).unwrap_or_default();
        let is_whole = match (self.by, self.attribute.kind) {
            (By::Type, _) | (By::Posting, Kind::Keyword) => value.len() + LETTER_MAX < TEXT_MAX,
            (By::Posting, Kind::Int) => index::read_number(value).is_some_and(|value| value.abs() < EXACT_FLOATS),
            _ => true,
        };
        self.is_alone && is_whole
    }

    /// Which of two groups comes first: rows without a value are last.
    #[must_use]
    pub fn compare(&self, a: &Group, b: &Group) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) if self.descends => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }

    /// Whether rows without a value matter, which come last.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.has_rest
    }

    /// How the rows of a group are found among open or among closed runs, and between which times of their list. Some ways bring others
    /// as well, which [`Walk::group`] tells apart.
    #[must_use]
    pub fn access(&self, group: &Group, is_closed: bool, as_of_ns: i64) -> (Access, Span) {
        let Some(group) = group else { return (Access::Scan, Span::ALL) };
        let postings = |postings: Vec<Vec<u8>>| Access::Points(postings.into_iter().map(Point::Posting).collect());
        let late = Span { from_ns: as_of_ns.saturating_add(1), to_ns: i64::MAX };
        let settled = Span { from_ns: i64::MIN, to_ns: as_of_ns };
        match self.by {
            By::Start if !is_closed => (Access::Scan, start_of(group).map_or(Span::ALL, micro)),
            By::Posting | By::Start => (postings(vec![group.clone()]), Span::ALL),
            By::Type => {
                let of_status = |status: i32| [group.as_slice(), &[status as u8]].concat();
                (postings(every_status().into_iter().map(of_status).collect()), Span::ALL)
            }
            By::WorkflowId => {
                (Access::Points(vec![Point::Workflow(String::from_utf8_lossy(group).into_owned())]), Span::ALL)
            }
            By::Close if !is_closed => (Access::Scan, Span::ALL),
            By::Close => match close_of(group) {
                Some(END_OF_TIME) | None => (Access::Scan, late),
                Some(micros) => {
                    let Span { from_ns, to_ns } = micro(micros);
                    (Access::Scan, Span { from_ns, to_ns: to_ns.min(as_of_ns) })
                }
            },
            By::Status => match status_of(group) {
                Some(status) if status != Status::Running => {
                    let span = if is_closed { settled } else { Span::ALL };
                    (postings(vec![index::of_status(status as i32)]), span)
                }
                _ if is_closed => (Access::Scan, late),
                _ => (Access::Scan, Span::ALL),
            },
        }
    }

    /// The groups of statuses that a list's rows can have, in the order of the walk. Closed runs may have been running at the walk's time;
    /// a list in which nothing has a status is not read for it.
    #[must_use]
    pub fn statuses(&self, is_closed: bool) -> Vec<Vec<u8>> {
        let open = [Status::Running as i32, Status::Paused as i32];
        let can_have = |status: &i32| *status == open[0] || open.contains(status) != is_closed;
        let name = |status| Status::try_from(status).ok().map(|status| status_name(status).as_bytes().to_vec());
        let mut names: Vec<Vec<u8>> = every_status().into_iter().filter(can_have).filter_map(name).collect();
        names.sort();
        if self.descends {
            names.reverse();
        }
        names
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.descends { "descending" } else { "ascending" };
        write!(f, "index in order of {}, {direction},", self.attribute.alias)
    }
}

fn status_of(group: &[u8]) -> Option<Status> {
    let known = |status: &i32| Status::try_from(*status).ok();
    every_status().iter().filter_map(known).find(|status| status_name(*status).as_bytes() == group)
}

/// A time's microsecond, in nanoseconds.
fn micro(micros: i64) -> Span {
    let from_ns = micros.saturating_mul(1_000);
    Span { from_ns, to_ns: from_ns.saturating_add(999) }
}

/// The group of a close time in microseconds.
#[must_use]
pub fn close(micros: i64) -> Vec<u8> {
    crate::order::sortable(micros).to_be_bytes().to_vec()
}

/// The group of those that are open.
#[must_use]
pub fn never_closed() -> Vec<u8> {
    close(END_OF_TIME)
}

/// The microseconds of a close time's group.
#[must_use]
pub fn close_of(group: &[u8]) -> Option<i64> {
    let bytes = <[u8; 8]>::try_from(group).ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

/// The group of a start time in microseconds.
#[must_use]
pub fn start(micros: i64) -> Vec<u8> {
    index::of_start(micros)
}

/// The microseconds of a start time's group.
#[must_use]
pub fn start_of(group: &[u8]) -> Option<i64> {
    close_of(group.strip_prefix(index::of_starts().as_slice())?)
}
