//! A page of rows in an order that a filter asks for, out of the lists of several shards.
//!
//! Either an index with that order is walked, all shards' merged, until the page is full; or the few rows that the plan brings are sorted.
//! Both have the same keys, so a token of one is good for the other: the plan may change from page to page.
//!
//! A walk looks at [`WALKED_MAX`] rows for a page: where those that match are far between, it ends early, even empty, and its token goes
//! on behind what was looked at. What has to be sorted as a whole is refused beyond [`SORTED_MAX`] rows.

use std::cmp::Reverse;

use mainstay_api::record::VisibilityRecord;
use mainstay_storage::StorageError;
use mainstay_visibility::plan::Plan;
use mainstay_visibility::walk::{Group, Walk};
use mainstay_visibility::{Best, Order, Query, as_of};

use crate::cursor::{Lists, Section};
use crate::index::ListSpace;
use crate::walk::{Class, PlaceInGroup, Stretch, Walked};

/// Rows that one page of a walk looks at, but for the rest of a group that is sorted.
pub const WALKED_MAX: usize = 50_000;
/// Rows that one page sorts.
pub const SORTED_MAX: usize = 100_000;

/// A place in an order, as page tokens hold it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OrderedPosition {
    /// The shards' time when the first page was read.
    #[prost(sfixed64, tag = "1")]
    as_of_ns: i64,
    /// The key of the last row that was shown or looked at.
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    /// What a walk goes on behind: the group, if the row has a value.
    #[prost(bytes = "vec", optional, tag = "3")]
    group: Option<Vec<u8>>,
    /// The class within it.
    #[prost(uint32, tag = "4")]
    class: u32,
    #[prost(sfixed64, tag = "5")]
    time_ns: i64,
    #[prost(string, tag = "6")]
    run_id: String,
}

/// What a page is asked for.
pub struct OrderedPage<'a> {
    /// Whose rows.
    pub namespace_id: &'a str,
    /// Which rows.
    pub query: &'a Query,
    /// In which order.
    pub order: &'a Order,
    /// How they are found.
    pub plan: &'a Plan,
    /// In which lists.
    pub spaces: &'a [ListSpace],
    /// Behind which place.
    pub position: Option<&'a OrderedPosition>,
    /// As of when runs are open, if this is the first page: the shards' time if not said.
    pub as_of_ns: Option<i64>,
    /// How many.
    pub size: usize,
    /// Whether a row counts that the shard with this number among the lists brings.
    pub has: &'a dyn Fn(usize, &VisibilityRecord) -> bool,
}

/// Why there is no page.
#[derive(Debug)]
pub enum PageError {
    /// The store failed, or holds bytes that do not decode.
    Storage(StorageError),
    /// The place is not one of this order.
    Position,
    /// More rows than may be sorted.
    TooMany(String),
}

impl From<StorageError> for PageError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// Rows, and the place to go on from if there may be more.
pub type Ordered = (Vec<VisibilityRecord>, Option<OrderedPosition>);

impl OrderedPage<'_> {
    /// Reads the page from the shards' lists. Blocks.
    ///
    /// # Errors
    /// If the store fails, the position is not of this order, or too much would have to be sorted.
    pub fn read(&self, lists: &[Lists<'_>]) -> Result<Ordered, PageError> {
        let as_of_ns = match self.position {
            Some(position) => position.as_of_ns,
            None if self.as_of_ns.is_some() => self.as_of_ns.unwrap_or_default(),
            None => lists.iter().try_fold(0, |latest, lists| lists.now().map(|now| now.max(latest)))?,
        };
        match &self.plan.walk {
            Some(walk) => self.walked(lists, walk, as_of_ns),
            None => self.sorted(lists, as_of_ns),
        }
    }

    fn sorted(&self, lists: &[Lists<'_>], as_of_ns: i64) -> Result<Ordered, PageError> {
        let mut best = self.best(as_of_ns);
        let mut looked_at = 0;
        for space in self.wanted() {
            let section = Section {
                namespace_id: self.namespace_id,
                space,
                access: &self.plan.access,
                span: space.span(self.plan),
            };
            for (number, lists) in lists.iter().enumerate() {
                let mut cursor = lists.cursor(&section, None)?;
                while cursor.peek().is_some() {
                    let Some(row) = cursor.take()? else { continue };
                    looked_at += 1;
                    if looked_at > SORTED_MAX {
                        let name = self.order.first_name();
                        return Err(PageError::TooMany(format!(
                            "no index has the order of {name}, so at most {SORTED_MAX} rows are sorted by it, and the \
                             filter brings more: ask for fewer"
                        )));
                    }
                    if (self.has)(number, &row) && self.query.matches(&row) {
                        best.add(row);
                    }
                }
            }
        }
        let is_full = best.is_full();
        let rows = best.page();
        let end = rows.last().filter(|_| is_full).map(|row| self.place(row, as_of_ns));
        Ok((rows, end))
    }

    fn walked(&self, lists: &[Lists<'_>], walk: &Walk, as_of_ns: i64) -> Result<Ordered, PageError> {
        let mut streams = self.streams(lists, walk, as_of_ns)?;
        let mut best = self.best(as_of_ns);
        let mut seen = self.position.cloned().unwrap_or(OrderedPosition { as_of_ns, ..OrderedPosition::default() });
        let (mut looked_at, mut in_group) = (0, 0);
        let mut group: Option<Group> = None;
        while let Some(at) = nearest(&streams, walk) {
            let Some((number, stream)) = streams.get_mut(at) else { break };
            let Some((next, place)) = stream.peek().map(|(next, place)| (next.clone(), place)) else { break };
            let is_exact = walk.is_exact(&next);
            let is_new = group.as_ref() != Some(&next);
            if (is_new || is_exact) && (best.is_full() || looked_at >= WALKED_MAX) {
                let was_sorted = group.as_ref().is_some_and(|group| !walk.is_exact(group));
                return Ok(self.cut(best, if was_sorted { seen.behind_group() } else { seen }));
            }
            in_group = if is_new { 1 } else { in_group + 1 };
            looked_at += 1;
            if !is_exact && in_group > SORTED_MAX {
                return Err(self.too_many_alike());
            }
            if let Some(row) = stream.take()? {
                // Some ways to a group bring others as well.
                let is_of_group = walk.group(&as_of(&row, as_of_ns)) == next;
                seen.look_at(&next, &place, is_of_group.then(|| self.order.key(&row, as_of_ns)));
                if is_of_group && (self.has)(*number, &row) && self.query.matches(&row) {
                    best.add(row);
                }
            }
            group = Some(next);
        }
        let is_full = best.is_full();
        let (rows, end) = self.cut(best, seen);
        Ok((rows, end.filter(|_| is_full)))
    }

    /// A page that ends here, and where the next one begins: behind its last row, or behind all that was looked at.
    fn cut(&self, best: Best<'_>, seen: OrderedPosition) -> Ordered {
        let is_full = best.is_full();
        let rows = best.page();
        let end = match rows.last() {
            Some(last) if is_full => self.place(last, seen.as_of_ns),
            _ => seen,
        };
        (rows, Some(end))
    }

    fn streams<'b>(
        &'b self,
        lists: &'b [Lists<'_>],
        walk: &'b Walk,
        as_of_ns: i64,
    ) -> Result<Vec<(usize, Walked<'b>)>, PageError> {
        let position = self.position.map(|at| at.in_walk(walk).ok_or(PageError::Position)).transpose()?;
        let mut streams = Vec::new();
        for space in self.wanted() {
            let stretch =
                Stretch { namespace_id: self.namespace_id, space, walk, span: space.span(self.plan), as_of_ns };
            for (number, lists) in lists.iter().enumerate() {
                let behind = position.as_ref().map(|(group, place)| (group, place));
                streams.push((number, Walked::new(lists, stretch, behind)?));
            }
        }
        Ok(streams)
    }

    fn best(&self, as_of_ns: i64) -> Best<'_> {
        Best::new(self.order, as_of_ns, self.position.map_or(&[], |at| at.key.as_slice()), self.size)
    }

    /// The lists that the plan does not exclude.
    fn wanted(&self) -> impl Iterator<Item = ListSpace> + '_ {
        self.spaces.iter().copied().filter(|space| !space.is_excluded(self.plan))
    }

    fn place(&self, row: &VisibilityRecord, as_of_ns: i64) -> OrderedPosition {
        OrderedPosition::of(self.query, self.order, row, as_of_ns)
    }

    fn too_many_alike(&self) -> PageError {
        PageError::TooMany(format!(
            "more than {SORTED_MAX} rows have the same {}, too many to sort them by what follows: ask for fewer",
            self.order.first_name()
        ))
    }
}

/// The stream with the next row.
fn nearest(streams: &[(usize, Walked<'_>)], walk: &Walk) -> Option<usize> {
    let all = streams.iter().enumerate().filter_map(|(at, (_, stream))| Some((stream.peek()?, at)));
    let nearest = all.min_by(|((a, x), _), ((b, y), _)| walk.compare(a, b).then_with(|| x.cmp(y)));
    nearest.map(|(_, at)| at)
}

impl OrderedPosition {
    /// The place of a row.
    #[must_use]
    pub fn of(query: &Query, order: &Order, row: &VisibilityRecord, as_of_ns: i64) -> Self {
        let then = as_of(row, as_of_ns);
        let is_closed = then.close_ns != 0;
        Self {
            as_of_ns,
            key: order.key(row, as_of_ns),
            group: query.walk().and_then(|walk| walk.group(&then)),
            class: if is_closed { Class::Closed } else { Class::Open } as u32,
            time_ns: if is_closed { row.close_ns } else { row.start_ns },
            run_id: row.run_id.clone(),
        }
    }

    /// As of when runs are open, on this page and those behind it.
    #[must_use]
    pub fn as_of_ns(&self) -> i64 {
        self.as_of_ns
    }

    /// What sorts it among the keys of rows.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Goes on to a row; `key` is its own if it is one of its group.
    fn look_at(&mut self, group: &Group, (class, Reverse(time_ns), run_id): &PlaceInGroup, key: Option<Vec<u8>>) {
        self.group.clone_from(group);
        (self.class, self.time_ns, self.run_id) = (*class as u32, *time_ns, run_id.clone());
        if let Some(key) = key.filter(|key| *key > self.key) {
            self.key = key;
        }
    }

    fn behind_group(self) -> Self {
        Self { class: Class::End as u32, ..self }
    }

    /// Where a walk goes on; none if it cannot be there.
    fn in_walk(&self, walk: &Walk) -> Option<(Group, PlaceInGroup)> {
        let class = [Class::Open, Class::Closed, Class::End].into_iter().find(|class| *class as u32 == self.class)?;
        if !walk.knows(&self.group) {
            return None;
        }
        let is_sorted = class != Class::End && !walk.is_exact(&self.group);
        let place = match is_sorted {
            // It is sorted again, and what was shown of it is left out.
            true => (Class::Open, Reverse(i64::MAX), String::new()),
            false => (class, Reverse(self.time_ns), self.run_id.clone()),
        };
        Some((self.group.clone(), place))
    }
}
