//! Lists of all shards, gathered: from the replicas of this node where they are as new as the call, and from the leaders of the others.
//!
//! A node that has replicas of all shards asks nobody but for how far their logs are. Of each shard that is read elsewhere the first page
//! is asked for, as if there were no other; the pages are merged, and what does not fit is asked for again with the next one.
//! All parts are shown by the table of slots that this node had at first, so that each row is shown by one shard.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::peer::{ReadRows, RowRead, RowsRead, call, read_rows};
use mainstay_api::record::{SplitsRecord, VisibilityRecord};
use mainstay_api::temporal::workflowservice::v1::CountWorkflowExecutionsResponse;
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::{ListSpace, Placement};
use mainstay_visibility::Query;

use crate::list::{self, RowPage, spaces_of};
use crate::node::{METADATA_GROUP, Node};
use crate::ordered;
use crate::route::Here;
use crate::service::Namespace;

/// A replica that cannot be read is read elsewhere after this.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Which rows are wanted, and how their filter is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listed {
    Workflows,
    /// Of a batch job.
    Targets,
    Schedules,
    Batches,
}

impl Listed {
    fn spaces(self, query: &Query) -> &'static [ListSpace] {
        match self {
            Self::Workflows => spaces_of(query),
            Self::Targets => &[ListSpace::Open, ListSpace::Closed],
            Self::Schedules => &[ListSpace::Schedules],
            Self::Batches => &[ListSpace::Batches],
        }
    }
}

/// What is asked of all shards.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) namespace: Namespace,
    pub(crate) lists: Listed,
    pub(crate) filter: String,
    /// Where the page begins.
    pub(crate) token: Vec<u8>,
    pub(crate) size: usize,
    /// Of the first page of an order that several nodes read: as of when runs are open; else 0.
    pub(crate) as_of_ns: i64,
}

impl Ask {
    pub(crate) fn new(namespace: &Namespace, lists: Listed, filter: impl Into<String>) -> Self {
        Self { namespace: Arc::clone(namespace), lists, filter: filter.into(), token: Vec::new(), size: 0, as_of_ns: 0 }
    }

    pub(crate) fn page(self, size: usize, token: Vec<u8>) -> Self {
        Self { token, size: size.max(1), ..self }
    }

    fn query(&self, counts: bool) -> Result<Query, Error> {
        let (filter, custom) = (&self.filter, &self.namespace.search_attributes);
        let query = match self.lists {
            Listed::Workflows if counts => Query::parse(filter, custom),
            Listed::Workflows => Query::parse_list(filter, custom),
            Listed::Targets | Listed::Batches => Query::parse_filter(filter, custom),
            Listed::Schedules => Query::parse_schedules(filter, custom),
        };
        query.map_err(Error::InvalidArgument)
    }

    fn to_wire(&self, placement: &Placement) -> ReadRows {
        let lists = match self.lists {
            Listed::Workflows => read_rows::Lists::Workflows,
            Listed::Targets => read_rows::Lists::Targets,
            Listed::Schedules => read_rows::Lists::Schedules,
            Listed::Batches => read_rows::Lists::Batches,
        };
        ReadRows {
            namespace_id: self.namespace.id.clone(),
            lists: lists as i32,
            filter: self.filter.clone(),
            token: self.token.clone().into(),
            size: self.size as u64,
            as_of_ns: self.as_of_ns,
            splits: Some(SplitsRecord { shards: placement.first_shards(), splits: placement.splits().to_vec() }),
        }
    }
}

/// Some shards, and the table by which their rows are shown.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) groups: Vec<u32>,
    pub(crate) placement: Arc<Placement>,
}

/// Where the shards are read.
struct Reach {
    here: Part,
    elsewhere: Vec<u32>,
}

impl<R: Runtime> Node<R> {
    /// A page of rows.
    pub(crate) async fn gather_rows(&self, ask: Ask) -> Result<RowsRead, Error> {
        loop {
            match self.gather_page(ask.clone()).await {
                // A replica was read that this node is losing.
                Err(Error::Moved) if !self.is_stopped() => R::sleep(RETRY_AFTER).await,
                gathered => return gathered,
            }
        }
    }

    async fn gather_page(&self, mut ask: Ask) -> Result<RowsRead, Error> {
        let query = ask.query(false)?;
        let Reach { here, elsewhere } = self.reach().await?;
        if !elsewhere.is_empty() {
            ask.as_of_ns = self.now().as_nanos();
        }
        let mut asked = Vec::new();
        for group in elsewhere {
            let (node, ask, placement) = (self.clone(), ask.clone(), Arc::clone(&here.placement));
            asked.push(R::spawn(async move { node.rows_of(group, &ask, &placement).await }));
        }
        let mut pages = Vec::new();
        if !here.groups.is_empty() {
            pages.push(self.rows_at(ask.clone(), here).await?);
        }
        for one in asked {
            pages.push(one.await.unwrap_or_else(|_| Err(not_asked()))?);
        }
        match <[RowsRead; 1]>::try_from(pages) {
            Ok([page]) => Ok(page),
            Err(pages) => merge(&query, &ask, pages),
        }
    }

    /// How many rows there are, by group if the filter asks for that.
    pub(crate) async fn gather_counts(&self, ask: Ask) -> Result<CountWorkflowExecutionsResponse, Error> {
        loop {
            match self.gather_count(ask.clone()).await {
                Err(Error::Moved) if !self.is_stopped() => R::sleep(RETRY_AFTER).await,
                gathered => return gathered,
            }
        }
    }

    async fn gather_count(&self, ask: Ask) -> Result<CountWorkflowExecutionsResponse, Error> {
        let query = ask.query(true)?;
        let Reach { here, elsewhere } = self.reach().await?;
        let mut asked = Vec::new();
        for group in elsewhere {
            let (node, ask, placement) = (self.clone(), ask.clone(), Arc::clone(&here.placement));
            asked.push(R::spawn(async move { node.count_of(group, &ask, &placement).await }));
        }
        let mut all = CountWorkflowExecutionsResponse::default();
        if !here.groups.is_empty() {
            all = self.count_at(ask.clone(), here).await?;
        }
        for one in asked {
            let part = one.await.unwrap_or_else(|_| Err(not_asked()))?;
            all.count += part.count;
            all.groups.extend(part.groups);
        }
        let mut groups: BTreeMap<(i32, Bytes), _> = BTreeMap::new();
        for group in all.groups {
            let value = group.group_values.first().cloned().unwrap_or_default();
            let key = (query.rank_of_group(&value), value.data);
            match groups.get_mut(&key) {
                None => drop(groups.insert(key, group)),
                Some(known) => known.count += group.count,
            }
        }
        all.groups = groups.into_values().collect();
        Ok(all)
    }

    /// The part of a page that one shard has, read at its leader.
    async fn rows_of(&self, group: u32, ask: &Ask, placement: &Arc<Placement>) -> Result<RowsRead, Error> {
        let call = || call::Call::ReadRows(ask.to_wire(placement));
        let here = || -> Here<'_, RowsRead> {
            Box::pin(self.rows_at(ask.clone(), Part { groups: vec![group], placement: Arc::clone(placement) }))
        };
        self.read_at_leader(group, Duration::ZERO, call, here).await
    }

    async fn count_of(
        &self,
        group: u32,
        ask: &Ask,
        placement: &Arc<Placement>,
    ) -> Result<CountWorkflowExecutionsResponse, Error> {
        let call = || call::Call::CountRows(ask.to_wire(placement));
        let here = || -> Here<'_, CountWorkflowExecutionsResponse> {
            Box::pin(self.count_at(ask.clone(), Part { groups: vec![group], placement: Arc::clone(placement) }))
        };
        self.read_at_leader(group, Duration::ZERO, call, here).await
    }

    /// What another node asks of a shard that this one leads.
    pub(crate) async fn asked_of(&self, group: u32, asked: ReadRows) -> Result<(Ask, Part), Error> {
        let namespace = self.named_namespace(&asked.namespace_id).await?;
        let lists = match asked.lists() {
            read_rows::Lists::Workflows => Listed::Workflows,
            read_rows::Lists::Targets => Listed::Targets,
            read_rows::Lists::Schedules => Listed::Schedules,
            read_rows::Lists::Batches => Listed::Batches,
        };
        let splits = asked.splits.clone().unwrap_or_default();
        let placement = Arc::new(Placement::of(splits.shards, &splits));
        let ReadRows { filter, token, size, as_of_ns, .. } = asked;
        let ask = Ask { namespace, lists, filter, token: token.into(), size: size as usize, as_of_ns };
        Ok((ask, Part { groups: vec![group], placement }))
    }

    /// A page of the rows that some shards have here.
    pub(crate) fn rows_at(
        &self,
        ask: Ask,
        part: Part,
    ) -> impl Future<Output = Result<RowsRead, Error>> + Send + use<R> {
        let (node, begun) = (self.clone(), R::Instant::now());
        let reading = self.clone();
        async move {
            let page = R::disk(move || reading.read_page(&ask, &part)).await;
            node.board().meter.reads.list.ended(R::Instant::now() - begun, page.is_err());
            page
        }
    }

    /// The same. Blocks.
    fn read_page(&self, ask: &Ask, part: &Part) -> Result<RowsRead, Error> {
        let query = ask.query(false)?;
        let page = RowPage {
            namespace_id: &ask.namespace.id,
            part,
            as_of_ns: (ask.as_of_ns != 0).then_some(ask.as_of_ns),
            query: &query,
            token: &ask.token,
            size: ask.size,
        };
        let (rows, token) = match query.order() {
            Some(order) => self.ordered_page(&page, order, ask.lists.spaces(&query))?,
            None => self.row_page(&page, ask.lists.spaces(&query))?,
        };
        let mut read = RowsRead { rows: Vec::with_capacity(rows.len()), token: token.into() };
        for row in rows {
            let shown = match ask.lists {
                Listed::Workflows | Listed::Targets => Some(Bytes::new()),
                Listed::Schedules => self.shown_schedule(&ask.namespace, &row)?,
                Listed::Batches => self.shown_batch(&ask.namespace, &row),
            };
            // What was deleted since its row was read is not shown.
            read.rows.extend(shown.map(|shown| RowRead { row: Some(row), shown }));
        }
        self.are_whole(part)?;
        Ok(read)
    }

    /// Refuses what was read of a replica that is fenced by now: it is so before the first of its rows goes.
    fn are_whole(&self, part: &Part) -> Result<(), Error> {
        if part.groups.iter().any(|group| self.is_fenced(*group)) { Err(Error::Moved) } else { Ok(()) }
    }

    /// Counts the rows that some shards have here.
    pub(crate) fn count_at(
        &self,
        ask: Ask,
        part: Part,
    ) -> impl Future<Output = Result<CountWorkflowExecutionsResponse, Error>> + Send + use<R> {
        let (node, begun) = (self.clone(), R::Instant::now());
        let reading = self.clone();
        async move {
            let counted = R::disk(move || {
                let query = ask.query(true)?;
                let lists = reading.lists(&ask.namespace.id, &part)?;
                let counted = crate::counts::count(&lists, &query, ask.lists, ask.lists.spaces(&query))?;
                reading.are_whole(&part)?;
                Ok(counted)
            })
            .await;
            node.board().meter.reads.count.ended(R::Instant::now() - begun, counted.is_err());
            counted
        }
    }

    /// The shards whose replicas here are as new as this call, and the others.
    async fn reach(&self) -> Result<Reach, Error> {
        if !self.is_alone() {
            // First the table: a shard that is not in it yet has served nothing before this call.
            self.catch_up(METADATA_GROUP).await?;
        }
        let placement = self.board().slots.placement();
        let groups = placement.serving();
        if self.is_alone() {
            return Ok(Reach { here: Part { groups, placement }, elsewhere: Vec::new() });
        }
        let mut asked = Vec::new();
        for group in groups {
            let node = self.clone();
            asked.push((group, R::spawn(async move { node.is_at_hand(group).await })));
        }
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        for (group, one) in asked {
            let at_hand = one.await.unwrap_or_else(|_| Err(not_asked()))?;
            if at_hand { here.push(group) } else { elsewhere.push(group) }
        }
        Ok(Reach { here: Part { groups: here, placement }, elsewhere })
    }

    /// The shards that have a replica here, to tell how a filter would be answered.
    pub(crate) fn part_here(&self) -> Part {
        let placement = self.board().slots.shown_placement();
        let groups = placement.serving().into_iter().filter(|group| self.holds(*group)).collect();
        Part { groups, placement }
    }
}

fn not_asked() -> Error {
    Error::Unavailable("a shard was not asked".into())
}

/// One page out of the first pages of several shards.
fn merge(query: &Query, ask: &Ask, pages: Vec<RowsRead>) -> Result<RowsRead, Error> {
    if let Some(order) = query.order() {
        let (rows, token) = ordered::merge(query, order, ask, pages)?;
        let rows = rows.into_iter().map(|row| RowRead { row: Some(row), shown: Bytes::new() }).collect();
        return Ok(RowsRead { rows, token: token.into() });
    }
    // Behind the nearest end of a page nothing is known of its shard.
    let mut cut = None;
    let mut rows: BTreeMap<(ListSpace, Reverse<i64>, String), RowRead> = BTreeMap::new();
    for page in pages {
        if let Some((space, at)) = list::read_token(&page.token)? {
            let end = (space, Reverse(at.time_ns), at.run_id);
            if cut.as_ref().is_none_or(|(nearest, _)| end < *nearest) {
                cut = Some((end, page.token));
            }
        }
        for read in page.rows {
            if let Some(row) = &read.row {
                rows.insert(list::place(row), read);
            }
        }
    }
    if let Some((end, _)) = &cut {
        rows.retain(|place, _| place <= end);
    }
    let is_full = rows.len() >= ask.size;
    let rows: Vec<RowRead> = rows.into_values().take(ask.size).collect();
    let last = rows.last().and_then(|read| read.row.as_ref()).filter(|_| is_full);
    let token = match (last, cut) {
        (Some(last), _) => list::write_token(last).into(),
        (None, Some((_, token))) => token,
        (None, None) => Bytes::new(),
    };
    Ok(RowsRead { rows, token })
}

/// The rows of a page.
pub(crate) fn rows(read: RowsRead) -> impl Iterator<Item = VisibilityRecord> {
    read.rows.into_iter().filter_map(|read| read.row)
}

#[cfg(test)]
mod tests {
    use mainstay_api::record::NamespaceRecord;

    use super::*;

    fn row(start_ns: i64, run: &str) -> VisibilityRecord {
        VisibilityRecord { start_ns, run_id: run.into(), workflow_id: run.into(), ..VisibilityRecord::default() }
    }

    fn ask(filter: &str, size: usize) -> (Query, Ask) {
        let ask = Ask::new(&Arc::new(NamespaceRecord::default()), Listed::Workflows, filter).page(size, Vec::new());
        (ask.query(false).expect("parses"), ask)
    }

    /// A shard's page: its rows behind a token, as many as are asked for, and where it went on to.
    fn page(shard: &[VisibilityRecord], token: &[u8], size: usize) -> RowsRead {
        let behind = list::read_token(token).expect("reads");
        let is_behind = |row: &VisibilityRecord| {
            behind
                .as_ref()
                .is_none_or(|(space, at)| list::place(row) > (*space, Reverse(at.time_ns), at.run_id.clone()))
        };
        let rows: Vec<VisibilityRecord> = shard.iter().filter(|row| is_behind(row)).take(size).cloned().collect();
        let token = rows.last().filter(|_| rows.len() >= size).map(list::write_token).unwrap_or_default().into();
        RowsRead { rows: rows.into_iter().map(|row| RowRead { row: Some(row), shown: Bytes::new() }).collect(), token }
    }

    #[test]
    fn pages_of_several_shards_show_each_row_once_and_in_order() {
        let shards: Vec<Vec<VisibilityRecord>> = (0..4)
            .map(|shard| (0..7).map(|n| row(100 - 3 * n - shard * 7 % 5, &format!("r-{shard}-{n}"))).collect())
            .collect();
        let mut wanted: Vec<VisibilityRecord> = shards.iter().flatten().cloned().collect();
        wanted.sort_by_key(list::place);
        for size in [1, 2, 3, 5, 28, 40] {
            let (query, mut asked) = ask("", size);
            let mut seen = Vec::new();
            loop {
                let pages = shards.iter().map(|shard| page(shard, &asked.token, size)).collect();
                let merged = merge(&query, &asked, pages).expect("merges");
                asked.token = merged.token.to_vec();
                assert!(merged.rows.len() <= size);
                seen.extend(rows(merged));
                if asked.token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, wanted, "{size}");
        }
    }

    #[test]
    fn a_page_that_ended_early_hides_what_lies_behind_its_end() {
        let (query, asked) = ask("", 10);
        let mut early = page(&[row(90, "a")], &[], 10);
        early.token = list::write_token(&row(80, "looked-at")).into();
        let other = page(&[row(85, "b"), row(70, "c")], &[], 10);
        let merged = merge(&query, &asked, vec![early.clone(), other]).expect("merges");
        assert_eq!(merged.token, early.token);
        assert_eq!(rows(merged).map(|row| row.run_id).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_order_holds_over_all_shards() {
        let (query, asked) = ask("ORDER BY WorkflowId DESC", 3);
        let pages = vec![page(&[row(1, "d"), row(1, "a")], &[], 3), page(&[row(9, "c"), row(9, "b")], &[], 3)];
        let merged = merge(&query, &asked, pages).expect("merges");
        assert!(!merged.token.is_empty());
        assert_eq!(rows(merged).map(|row| row.run_id).collect::<Vec<_>>(), ["d", "c", "b"]);
    }
}
