//! Reading a shard's lists at one moment: rows one by one in list order, by the way that a plan chose.
//!
//! A cursor merges streams, each a range of keys in list order: the list itself, or one posting. It reads ahead a little, and reads a
//! row only when that is taken. What comes in no order (a range of values) is read whole at the start and sorted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_api::record::VisibilityRecord;
use mainstay_storage::{StateView, StorageError};
use mainstay_visibility::plan::{Access, Point, Range, Span};
use prost::Message;

use crate::apply::decode_now;
use crate::index::{ListPosition, ListSpace};
use crate::keys::{Keys, after, read_posting};
use crate::{Shard, corrupt, listed};

/// Entries that a stream reads first, and at most at a time: each time it reads twice as many.
const READ_FIRST: usize = 32;
const READ_MAX: usize = 1_024;

/// Where a row is in its list.
pub type ListPlace = (Reverse<i64>, String);

/// A shard's lists at one moment. Keeps old data alive: not to be held for long.
pub struct Lists<'a> {
    pub(crate) keys: Keys,
    pub(crate) view: Box<dyn StateView + 'a>,
}

/// What a cursor reads.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Whose.
    pub namespace_id: &'a str,
    /// Which list.
    pub space: ListSpace,
    /// The way to the rows.
    pub access: &'a Access,
    /// Of the times that order the list.
    pub span: Span,
}

impl Shard {
    /// The lists as they are now.
    #[must_use]
    pub fn lists(&self) -> Lists<'_> {
        Lists { keys: self.keys(), view: self.store().view() }
    }
}

impl Lists<'_> {
    /// The shard's time at this moment: nothing that it holds happened later.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn now(&self) -> Result<i64, StorageError> {
        decode_now(self.view.get(&self.keys.now())?)
    }

    /// How many workflow executions of a namespace have each status; by counters.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn counts(&self, namespace_id: &str) -> Result<BTreeMap<i32, i64>, StorageError> {
        listed::counts(self.keys, self.view.as_ref(), namespace_id)
    }

    /// How many rows an access brings, counted up to a bound.
    ///
    /// # Errors
    /// If the store fails.
    pub fn count(&self, section: &Section<'_>, max: usize) -> Result<usize, StorageError> {
        let mut count = 0;
        for (from, to) in self.ranges(section) {
            self.view.scan(&from, &to, &mut |_, _| {
                count += 1;
                count < max
            })?;
            if count >= max {
                break;
            }
        }
        Ok(count)
    }

    /// Rows behind a position.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn cursor<'a>(
        &'a self,
        section: &Section<'_>,
        position: Option<&ListPosition>,
    ) -> Result<Cursor<'a>, StorageError> {
        let Section { namespace_id, space, .. } = *section;
        let namespace_id = namespace_id.to_string();
        let mut cursor = Cursor { lists: self, namespace_id, space, streams: Vec::new(), last: None };
        cursor.streams = match section.access {
            Access::Scan => {
                vec![self.stream(self.keys.list_space(section.namespace_id, section.space), section, position)]
            }
            Access::Points(points) => {
                let stream = |point: &Point| match point {
                    Point::Posting(posting) => {
                        let prefix = self.keys.postings(section.namespace_id, section.space, posting);
                        Ok(self.stream(prefix, section, position))
                    }
                    Point::Workflow(_) | Point::Run(_) => {
                        self.sorted(self.point_range(section, point), section, position)
                    }
                };
                points.iter().map(stream).collect::<Result<_, _>>()?
            }
            Access::Range(_) => vec![self.sorted_all(section, position)?],
        };
        for stream in &mut cursor.streams {
            stream.fill(self.view.as_ref())?;
        }
        Ok(cursor)
    }

    /// The keys of all entries of a section, as far as they are counted: times do not matter.
    fn ranges(&self, section: &Section<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        match section.access {
            Access::Scan => {
                let prefix = self.keys.list_space(section.namespace_id, section.space);
                vec![self.cut(prefix, section.span)]
            }
            Access::Points(points) => {
                let range = |point: &Point| match point {
                    Point::Posting(posting) => {
                        self.cut(self.keys.postings(section.namespace_id, section.space, posting), section.span)
                    }
                    _ => self.point_range(section, point),
                };
                points.iter().map(range).collect()
            }
            Access::Range(Range::Postings(from, to)) => {
                let key = |posting: &[u8]| self.keys.postings(section.namespace_id, section.space, posting);
                vec![(key(from), after(&key(to)))]
            }
            Access::Range(Range::WorkflowIds(prefix)) => {
                let from = self.keys.listed_by_workflows(section.namespace_id, prefix);
                vec![(from.clone(), after(&from))]
            }
        }
    }

    fn point_range(&self, section: &Section<'_>, point: &Point) -> (Vec<u8>, Vec<u8>) {
        let from = match point {
            Point::Posting(posting) => self.keys.postings(section.namespace_id, section.space, posting),
            Point::Workflow(id) => self.keys.listed_by_workflow(section.namespace_id, id),
            Point::Run(run_id) => self.keys.listed(section.namespace_id, run_id),
        };
        let to = after(&from);
        (from, to)
    }

    /// The part of a range in list order that is inside a span.
    fn cut(&self, prefix: Vec<u8>, span: Span) -> (Vec<u8>, Vec<u8>) {
        let from = Keys::listed_at(prefix.clone(), span.to_ns);
        (from, after(&Keys::listed_at(prefix, span.from_ns)))
    }

    fn stream(&self, prefix: Vec<u8>, section: &Section<'_>, position: Option<&ListPosition>) -> Stream {
        let (mut from, to) = self.cut(prefix.clone(), section.span);
        if let Some(at) = position {
            let behind = match section.access {
                Access::Scan => after(&self.keys.list(section.namespace_id, section.space, at.time_ns, &at.run_id)),
                _ => after(&self.keys.posting(&prefix, at.time_ns, &at.run_id)),
            };
            from = from.max(behind);
        }
        Stream { from, to, has_rows: *section.access == Access::Scan, count: READ_FIRST, buffer: VecDeque::new() }
    }

    /// What a range holds of a list, sorted as the list is.
    fn sorted_all(&self, section: &Section<'_>, position: Option<&ListPosition>) -> Result<Stream, StorageError> {
        let mut all = Stream::default();
        for range in self.ranges(section) {
            all.buffer.extend(self.sorted(range, section, position)?.buffer);
        }
        all.buffer.make_contiguous().sort_by(|a, b| a.place.cmp(&b.place));
        Ok(all)
    }

    fn sorted(
        &self,
        (from, to): (Vec<u8>, Vec<u8>),
        section: &Section<'_>,
        position: Option<&ListPosition>,
    ) -> Result<Stream, StorageError> {
        let mut places: BTreeSet<ListPlace> = BTreeSet::new();
        let by_workflow = self.keys.is_listed_by_workflow(&from);
        let mut runs = Vec::new();
        let mut unreadable = false;
        self.view.scan(&from, &to, &mut |key, value| {
            let place = if by_workflow {
                runs.push(key.rsplitn(2, |byte| *byte == 1).next().map(<[u8]>::to_vec));
                return true;
            } else if value.is_empty() {
                read_posting(key)
            } else {
                self.keys.read_place(section.namespace_id, section.space, value)
            };
            match place {
                Some((time_ns, run_id)) => drop(places.insert((Reverse(time_ns), run_id))),
                // A run of another list.
                None => unreadable |= value.is_empty(),
            }
            true
        })?;
        if unreadable {
            return Err(corrupt("an index", "a posting does not decode"));
        }
        for run in runs.into_iter().flatten() {
            let run = String::from_utf8(run).map_err(|e| corrupt("a listed run", e))?;
            let Some(place) = self.view.get(&self.keys.listed(section.namespace_id, &run))? else { continue };
            if let Some((time_ns, run_id)) = self.keys.read_place(section.namespace_id, section.space, &place) {
                places.insert((Reverse(time_ns), run_id));
            }
        }
        let Span { from_ns, to_ns } = section.span;
        places.retain(|(Reverse(time_ns), run_id)| {
            let is_behind = |at: &ListPosition| (Reverse(*time_ns), run_id) > (Reverse(at.time_ns), &at.run_id);
            (from_ns..=to_ns).contains(time_ns) && position.is_none_or(is_behind)
        });
        let buffer = places.into_iter().map(|place| Entry { place, row: None }).collect();
        Ok(Stream { buffer, ..Stream::default() })
    }
}

/// A row that is near.
struct Entry {
    place: ListPlace,
    row: Option<VisibilityRecord>,
}

/// Entries in list order.
#[derive(Default)]
struct Stream {
    /// What is not read yet; nothing if `from` is not less than `to`.
    from: Vec<u8>,
    to: Vec<u8>,
    /// Whether values are rows.
    has_rows: bool,
    /// Entries to read next.
    count: usize,
    buffer: VecDeque<Entry>,
}

impl Stream {
    fn fill(&mut self, view: &dyn StateView) -> Result<(), StorageError> {
        if !self.buffer.is_empty() || self.from >= self.to {
            return Ok(());
        }
        let mut failed = None;
        let mut last = None;
        let Self { from, to, has_rows, count, buffer } = self;
        view.scan(from, to, &mut |key, value| {
            let entry = if *has_rows {
                VisibilityRecord::decode(value).map_err(|e| corrupt("a list row", e)).map(|row| {
                    let ListPosition { time_ns, run_id } = ListPosition::of(&row);
                    Entry { place: (Reverse(time_ns), run_id), row: Some(row) }
                })
            } else {
                let place = read_posting(key).ok_or_else(|| corrupt("an index", "a posting does not decode"));
                place.map(|(time_ns, run_id)| Entry { place: (Reverse(time_ns), run_id), row: None })
            };
            match entry {
                Ok(entry) => buffer.push_back(entry),
                Err(error) => failed = Some(error),
            }
            last = Some(key.to_vec());
            failed.is_none() && buffer.len() < *count
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        *from = match last {
            Some(last) if buffer.len() >= *count => after(&last),
            _ => to.clone(),
        };
        *count = (*count * 2).min(READ_MAX);
        Ok(())
    }
}

/// Rows of a section in list order.
pub struct Cursor<'a> {
    lists: &'a Lists<'a>,
    namespace_id: String,
    space: ListSpace,
    streams: Vec<Stream>,
    last: Option<ListPlace>,
}

impl Cursor<'_> {
    /// Where the next row is.
    #[must_use]
    pub fn peek(&self) -> Option<&ListPlace> {
        self.streams.iter().filter_map(|stream| stream.buffer.front()).map(|entry| &entry.place).min()
    }

    /// Takes the next row; none if it was met before, since several values led to it.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn take(&mut self) -> Result<Option<VisibilityRecord>, StorageError> {
        let with_place = |stream: &Stream| stream.buffer.front().map(|entry| entry.place.clone());
        let next = self.streams.iter_mut().filter(|stream| !stream.buffer.is_empty());
        let Some(stream) = next.min_by_key(|stream| with_place(stream)) else { return Ok(None) };
        let Some(Entry { place, row }) = stream.buffer.pop_front() else { return Ok(None) };
        stream.fill(self.lists.view.as_ref())?;
        if self.last.as_ref() == Some(&place) {
            return Ok(None);
        }
        self.last = Some(place.clone());
        if row.is_some() {
            return Ok(row);
        }
        let (Reverse(time_ns), run_id) = place;
        let key = self.lists.keys.list(&self.namespace_id, self.space, time_ns, &run_id);
        let value = self.lists.view.get(&key)?.ok_or_else(|| corrupt("an index", "it leads to no row"))?;
        VisibilityRecord::decode(value).map(Some).map_err(|e| corrupt("a list row", e))
    }
}
