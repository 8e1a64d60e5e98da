//! One list of a shard in the order of an attribute: group by group, each with a cursor over its rows.
//!
//! The next group is found by one seek, whichever the direction; within a group rows always come forward. Runs that closed after the
//! walk's time stand among the open ones: they are the newest of their group's closed rows, so they are met first and held back.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mainstay_api::record::VisibilityRecord;
use mainstay_storage::StorageError;
use mainstay_visibility::plan::Span;
use mainstay_visibility::walk::{self, By, Group, Walk};

use crate::cursor::{Cursor, Lists, Section};
use crate::index::{ListPosition, ListSpace};
use crate::keys::{Keys, after, split_posting};

/// A row's place within its group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    Open,
    Closed,
    /// Behind all rows of the group.
    End,
}

/// Where a row is in its group: class, time and run.
pub(crate) type PlaceInGroup = (Class, Reverse<i64>, String);

/// What is walked.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) namespace_id: &'a str,
    pub(crate) space: ListSpace,
    pub(crate) walk: &'a Walk,
    /// Of the times that order the list.
    pub(crate) span: Span,
    /// Runs that closed later count as open.
    pub(crate) as_of_ns: i64,
}

/// Rows of a list in the order of a walk.
pub(crate) struct Walked<'a> {
    lists: &'a Lists<'a>,
    stretch: Stretch<'a>,
    /// The group at hand; before the first, none.
    group: Option<Group>,
    cursor: Option<Cursor<'a>>,
    /// Of the group at hand, what closed too late.
    late: BTreeMap<PlaceInGroup, VisibilityRecord>,
}

impl<'a> Walked<'a> {
    /// The rows behind a place.
    pub(crate) fn new(
        lists: &'a Lists<'a>,
        stretch: Stretch<'a>,
        position: Option<(&Group, &PlaceInGroup)>,
    ) -> Result<Self, StorageError> {
        let mut walked = Self { lists, stretch, group: None, cursor: None, late: BTreeMap::new() };
        if let Some((group, place)) = position {
            walked.open(group.clone(), Some(place))?;
        }
        walked.settle()?;
        Ok(walked)
    }

    /// Where the next row is.
    pub(crate) fn peek(&self) -> Option<(&Group, PlaceInGroup)> {
        let place = match self.late.first_key_value() {
            Some((place, _)) => place.clone(),
            None => {
                let (time, run_id) = self.cursor.as_ref()?.peek()?;
                let class = if self.stretch.space == ListSpace::Closed { Class::Closed } else { Class::Open };
                (class, *time, run_id.clone())
            }
        };
        Some((self.group.as_ref()?, place))
    }

    /// Takes the next row; none if it was met before.
    pub(crate) fn take(&mut self) -> Result<Option<VisibilityRecord>, StorageError> {
        let row = match (self.late.pop_first(), &mut self.cursor) {
            (Some((_, row)), _) => Some(row),
            (None, Some(cursor)) => cursor.take()?,
            (None, None) => None,
        };
        self.settle()?;
        Ok(row)
    }

    /// Goes on to a group that has rows.
    fn settle(&mut self) -> Result<(), StorageError> {
        while self.late.is_empty() && self.cursor.as_ref().is_none_or(|cursor| cursor.peek().is_none()) {
            let next = match &self.group {
                Some(None) => None,
                at => match self.next_group(at.as_ref().and_then(Option::as_deref))? {
                    Some(group) => Some(Some(group)),
                    None => self.stretch.walk.has_rest().then_some(None),
                },
            };
            let Some(next) = next else {
                self.cursor = None;
                return Ok(());
            };
            self.open(next, None)?;
        }
        Ok(())
    }

    /// Begins a group, or goes on in it.
    fn open(&mut self, group: Group, place: Option<&PlaceInGroup>) -> Result<(), StorageError> {
        let Stretch { namespace_id, space, walk, span, as_of_ns } = self.stretch;
        let is_closed = space == ListSpace::Closed;
        let (access, of_group) = walk.access(&group, is_closed, as_of_ns);
        self.group = Some(group);
        self.cursor = None;
        let position = match place {
            Some((Class::End, ..)) => return Ok(()),
            Some((Class::Closed, ..)) if !is_closed => return Ok(()),
            Some((Class::Open, ..)) if is_closed => None,
            Some((_, Reverse(time_ns), run_id)) => Some(ListPosition { time_ns: *time_ns, run_id: run_id.clone() }),
            None => None,
        };
        let span = Span { from_ns: span.from_ns.max(of_group.from_ns), to_ns: span.to_ns.min(of_group.to_ns) };
        if span.from_ns > span.to_ns {
            return Ok(());
        }
        let section = Section { namespace_id, space, access: &access, span };
        let mut cursor = self.lists.cursor(&section, position.as_ref())?;
        while is_closed && cursor.peek().is_some_and(|(Reverse(time_ns), _)| *time_ns > as_of_ns) {
            let Some(row) = cursor.take()? else { continue };
            let at = (Class::Open, Reverse(row.start_ns), row.run_id.clone());
            if place.is_none_or(|place| at > *place) {
                self.late.insert(at, row);
            }
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    /// The group behind another, or the first.
    fn next_group(&self, behind: Option<&[u8]>) -> Result<Option<Vec<u8>>, StorageError> {
        let is_closed = self.stretch.space == ListSpace::Closed;
        match self.stretch.walk.by {
            By::Posting | By::Type => self.next_posting(behind),
            By::Start if is_closed => self.next_posting(behind),
            By::Start => {
                let next = self.next_time(behind.and_then(walk::start_of), self.stretch.span)?;
                Ok(next.map(walk::start))
            }
            By::WorkflowId => self.next_workflow(behind),
            By::Status => {
                let walk = self.stretch.walk;
                let mut names = walk.statuses(is_closed).into_iter();
                // A place may be at a status that only rows of the other list have.
                Ok(names.find(|name| {
                    behind.is_none_or(|behind| walk.compare(&Some(name.clone()), &Some(behind.to_vec())).is_gt())
                }))
            }
            By::Close => self.next_close(behind, is_closed),
        }
    }

    fn next_posting(&self, behind: Option<&[u8]>) -> Result<Option<Vec<u8>>, StorageError> {
        let Stretch { namespace_id, space, walk, .. } = self.stretch;
        let key = |posting: &[u8]| self.lists.keys.postings(namespace_id, space, posting);
        let (first, last) = &walk.bounds;
        let range = match behind {
            None => (key(first), after(&key(last))),
            Some(behind) if walk.descends => (key(first), key(behind)),
            Some(behind) => (after(&key(behind)), after(&key(last))),
        };
        let found = self.nearest(range, walk.descends)?;
        let has_status = walk.by == By::Type;
        let read = |found: Vec<u8>| {
            let posting = split_posting(&found)?.strip_prefix(key(&[]).as_slice())?;
            let length = posting.len().checked_sub(usize::from(has_status))?;
            posting.get(..length).map(<[u8]>::to_vec)
        };
        found
            .map(|found| read(found).ok_or_else(|| crate::corrupt("an index", "a posting does not decode")))
            .transpose()
    }

    /// The microsecond behind another at which the list itself has rows: newest are first there.
    fn next_time(&self, behind: Option<i64>, span: Span) -> Result<Option<i64>, StorageError> {
        let Stretch { namespace_id, space, walk, .. } = self.stretch;
        let prefix = self.lists.keys.list_space(namespace_id, space);
        let micro = |micros: i64| micros.saturating_mul(1_000);
        let (oldest_ns, newest_ns) = match behind {
            None => (span.from_ns, span.to_ns),
            Some(behind) if walk.descends => (span.from_ns, span.to_ns.min(micro(behind).saturating_sub(1))),
            Some(behind) => (span.from_ns.max(micro(behind).saturating_add(1_000)), span.to_ns),
        };
        let at = |time_ns| Keys::listed_at(prefix.clone(), time_ns);
        let found = self.nearest((at(newest_ns), after(&at(oldest_ns))), !walk.descends)?;
        let place = found.and_then(|key| self.lists.keys.read_place(namespace_id, space, &key));
        Ok(place.map(|(time_ns, _)| time_ns.div_euclid(1_000)))
    }

    /// The close time behind another; that of open runs is the end of time.
    fn next_close(&self, behind: Option<&[u8]>, is_closed: bool) -> Result<Option<Vec<u8>>, StorageError> {
        let Stretch { walk, span, as_of_ns, .. } = self.stretch;
        let never = walk::never_closed();
        let is_at_never = behind == Some(never.as_slice());
        if walk.descends && behind.is_none() {
            return Ok(Some(never));
        }
        if !walk.descends && is_at_never {
            return Ok(None);
        }
        let behind = behind.filter(|_| !is_at_never).and_then(walk::close_of);
        let settled = Span { to_ns: span.to_ns.min(as_of_ns), ..span };
        let next = if is_closed { self.next_time(behind, settled)?.map(walk::close) } else { None };
        Ok(next.or_else(|| (!walk.descends).then_some(never)))
    }

    fn next_workflow(&self, behind: Option<&[u8]>) -> Result<Option<Vec<u8>>, StorageError> {
        let Stretch { namespace_id, walk, .. } = self.stretch;
        let keys = self.lists.keys;
        let all = keys.listed_by_workflows(namespace_id, "");
        let of = |id: &[u8]| keys.listed_by_workflow(namespace_id, &String::from_utf8_lossy(id));
        let range = match behind {
            None => (all.clone(), after(&all)),
            Some(behind) if walk.descends => (all.clone(), of(behind)),
            Some(behind) => (after(&of(behind)), after(&all)),
        };
        let found = self.nearest(range, walk.descends)?;
        let id = |found: Vec<u8>| keys.read_listed_workflow(namespace_id, &found).map(String::into_bytes);
        found
            .map(|found| id(found).ok_or_else(|| crate::corrupt("an index", "a workflow id does not decode")))
            .transpose()
    }

    /// The first key of a range, or the last one.
    fn nearest(&self, (from, to): (Vec<u8>, Vec<u8>), is_last: bool) -> Result<Option<Vec<u8>>, StorageError> {
        let mut found = None;
        let visit = &mut |key: &[u8], _: &[u8]| {
            found = Some(key.to_vec());
            false
        };
        if from >= to {
            return Ok(None);
        }
        let view = self.lists.view.as_ref();
        if is_last {
            view.scan_reverse(&from, &to, visit)?
        } else {
            view.scan(&from, &to, visit)?
        }
        Ok(found)
    }
}
