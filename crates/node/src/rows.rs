//! Rows of all shards in list order, by the plan that suits a filter.
//!
//! A plan is chosen once, by what the index of every shard holds now; then each shard's cursor brings its rows, and the newest of
//! all is taken. Which rows match is not decided here.

use std::collections::{BTreeMap, VecDeque};

use mainstay_api::record::VisibilityRecord;
use mainstay_engine::Error;
use mainstay_shard::{
    Cursor, ListPosition, ListSpace, Lists, Ordered, OrderedPage, OrderedPosition, PageError, Section, Shard,
};
use mainstay_visibility::plan::{Access, Plan, Span};
use mainstay_visibility::{Order, Query};

use crate::list::RowPage;
use crate::slots::Shown;
use crate::unreadable;

/// Where a list that is read in several pages goes on.
pub(crate) type Position = Option<(ListSpace, ListPosition)>;

/// The shards' lists at one moment.
pub(crate) struct Moment<'a> {
    groups: Vec<u32>,
    /// In the order of the groups.
    lists: Vec<Lists<'a>>,
    shown: Shown,
    namespace_id: String,
}

impl<'a> Moment<'a> {
    pub(crate) fn of(shards: Vec<(u32, &'a Shard)>, shown: Shown, namespace_id: &str) -> Self {
        let (groups, lists) = shards.into_iter().map(|(group, shard)| (group, shard.lists())).unzip();
        Self { groups, lists, shown, namespace_id: namespace_id.to_string() }
    }

    /// Whether each row is at one shard: then what the index counts is what there is.
    pub(crate) fn is_whole(&self) -> bool {
        self.shown.is_whole()
    }

    /// The plan for a filter of workflow executions.
    pub(crate) fn plan(&self, query: &Query, spaces: &[ListSpace]) -> Result<Plan, Error> {
        let is_indexed = spaces.iter().all(|space| matches!(space, ListSpace::Open | ListSpace::Closed));
        if !is_indexed {
            return Ok(Plan::scan(query.status()));
        }
        let mut failed = None;
        let plan = query.plan(&mut |access, max| {
            self.count(access, spaces, max).unwrap_or_else(|error| {
                failed = Some(error);
                max
            })
        });
        failed.map_or(Ok(plan), Err)
    }

    /// How many rows an access brings, counted up to a bound.
    pub(crate) fn count(&self, access: &Access, spaces: &[ListSpace], max: usize) -> Result<usize, Error> {
        let mut count = 0;
        for space in spaces.iter().copied() {
            for lists in &self.lists {
                let section = Section { namespace_id: &self.namespace_id, space, access, span: Span::ALL };
                count += lists.count(&section, max.saturating_sub(count)).map_err(unreadable)?;
                if count >= max {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }

    /// How many workflow executions have each status.
    pub(crate) fn counts(&self) -> Result<BTreeMap<i32, i64>, Error> {
        let mut all = BTreeMap::new();
        for lists in &self.lists {
            for (status, count) in lists.counts(&self.namespace_id).map_err(unreadable)? {
                *all.entry(status).or_default() += count;
            }
        }
        Ok(all)
    }

    /// Whether a row counts that one of the lists has: while a shard is split, another may have it as well.
    fn has(&self, number: usize, row: &VisibilityRecord) -> bool {
        self.groups.get(number).is_some_and(|group| self.shown.has(*group, row))
    }

    /// A page in an order.
    pub(crate) fn ordered(
        &self,
        page: &RowPage<'_>,
        order: &Order,
        plan: &Plan,
        spaces: &[ListSpace],
        position: Option<&OrderedPosition>,
    ) -> Result<Ordered, PageError> {
        let page = OrderedPage {
            namespace_id: &self.namespace_id,
            query: page.query,
            order,
            plan,
            spaces,
            position,
            as_of_ns: page.as_of_ns,
            size: page.size,
            has: &|number, row| self.has(number, row),
        };
        page.read(&self.lists)
    }

    /// The rows that a plan leads to, in the lists that it does not exclude.
    pub(crate) fn rows<'b>(&'b self, plan: &'b Plan, spaces: &[ListSpace], position: Position) -> Rows<'b> {
        let begun = position.as_ref().map(|(space, _)| *space);
        let wanted = |space: &ListSpace| !space.is_excluded(plan) && begun.is_none_or(|begun| *space >= begun);
        let spaces = spaces.iter().copied().filter(wanted).collect();
        Rows { moment: self, plan, spaces, position, cursors: Vec::new() }
    }
}

/// Rows in list order: one list after the other.
pub(crate) struct Rows<'a> {
    moment: &'a Moment<'a>,
    plan: &'a Plan,
    /// Those that are not begun.
    spaces: VecDeque<ListSpace>,
    position: Position,
    cursors: Vec<Cursor<'a>>,
}

impl Rows<'_> {
    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<VisibilityRecord>, Error> {
        loop {
            let near = self.cursors.iter().enumerate().filter_map(|(number, cursor)| Some((cursor.peek()?, number)));
            let nearest = near.min().map(|(_, number)| number);
            match nearest.and_then(|number| self.cursors.get_mut(number)) {
                Some(cursor) => {
                    let row = cursor.take().map_err(unreadable)?;
                    if let Some(row) = row.filter(|row| self.moment.has(nearest.unwrap_or_default(), row)) {
                        return Ok(Some(row));
                    }
                }
                None => {
                    if !self.begin_next()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Begins the next list; answers whether there is one.
    fn begin_next(&mut self) -> Result<bool, Error> {
        let Some(space) = self.spaces.pop_front() else { return Ok(false) };
        let at = self.position.take().filter(|(begun, _)| *begun == space).map(|(_, at)| at);
        let span = space.span(self.plan);
        let section = Section { namespace_id: &self.moment.namespace_id, space, access: &self.plan.access, span };
        let cursors = self.moment.lists.iter().map(|lists| lists.cursor(&section, at.as_ref()));
        self.cursors = cursors.collect::<Result<_, _>>().map_err(unreadable)?;
        Ok(true)
    }
}
