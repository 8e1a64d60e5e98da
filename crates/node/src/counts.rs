//! Counts of rows: by counters and the index alone where a filter asks for types and statuses, else by a look at every row that the
//! plan leads to.

use std::collections::BTreeMap;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_api::temporal::workflowservice::v1::{
    CountWorkflowExecutionsResponse, count_workflow_executions_response::AggregationGroup,
};
use mainstay_engine::Error;
use mainstay_runtime::Runtime;
use mainstay_shard::{ListSpace, SORTED_MAX};
use mainstay_visibility::plan::{Access, Point};
use mainstay_visibility::{Query, Tally};

use crate::gather::{Ask, Listed};
use crate::list::{LOOKED_AT_MAX, spaces_of};
use crate::node::Node;
use crate::rows::Moment;
use crate::service::Namespace;

/// Rows that one count looks at. A count has no pages, so beyond that it is refused.
const COUNTED_MAX: usize = 5_000_000;
/// Groups of one count, which are held until all is counted.
const GROUPS_MAX: usize = 10_000;

/// Counts by group.
#[derive(Default)]
struct Groups {
    count: i64,
    /// Statuses in the order of their numbers, as the reference server's store has them; other groups by value.
    by_value: BTreeMap<(i32, Vec<u8>), AggregationGroup>,
    /// Whether there were more groups than are held.
    overflowed: bool,
}

impl Groups {
    /// Counts a row, and answers whether there is room for its group.
    fn add(&mut self, query: &Query, row: &VisibilityRecord) -> bool {
        self.count += 1;
        if query.group_by().is_none() {
            return true;
        }
        let value = query.group_value(row);
        let key = (query.group_rank(row), value.data.to_vec());
        if self.by_value.len() >= GROUPS_MAX && !self.by_value.contains_key(&key) {
            self.overflowed = true;
            return false;
        }
        let group = || AggregationGroup { group_values: vec![value], count: 0 };
        self.by_value.entry(key).or_insert_with(group).count += 1;
        true
    }
}

/// Counts the rows of some shards. Blocks.
pub(crate) fn count(
    lists: &Moment<'_>,
    query: &Query,
    listed: Listed,
    spaces: &[ListSpace],
) -> Result<CountWorkflowExecutionsResponse, Error> {
    let mut groups = Groups::default();
    match query.tally() {
        // While a shard is split, counters and index entries of some rows are at two shards.
        Some(tally) if listed == Listed::Workflows && lists.is_whole() => {
            count_by_status(lists, query, &tally, &mut groups)?;
        }
        _ => {
            // A job's targets are counted once, whatever it takes.
            let max = if listed == Listed::Targets { usize::MAX } else { COUNTED_MAX };
            count_each(lists, query, spaces, max, &mut groups)?;
        }
    }
    Ok(CountWorkflowExecutionsResponse { count: groups.count, groups: groups.by_value.into_values().collect() })
}

impl<R: Runtime> Node<R> {
    pub(crate) async fn count_rows(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> Result<CountWorkflowExecutionsResponse, Error> {
        self.gather_counts(Ask::new(&namespace, Listed::Workflows, filter)).await
    }

    /// How a filter's rows are listed, and how they are counted: a line each, for people.
    pub(crate) async fn explain_filter(&self, namespace: Namespace, filter: String) -> Result<(String, String), Error> {
        let custom = &namespace.search_attributes;
        let query = Query::parse(&filter, custom).or_else(|why| Query::parse_list(&filter, custom).map_err(|_| why));
        let query = query.map_err(Error::InvalidArgument)?;
        let node = self.clone();
        R::disk(move || {
            let plan = node.lists(&namespace.id, &node.part_here())?.plan(&query, spaces_of(&query))?;
            let pages = format!("; a page looks at {LOOKED_AT_MAX} rows at most");
            let list = match query.order() {
                Some(order) if plan.walk.is_some() => format!("{plan}; ordered by {order}{pages}"),
                Some(order) => format!("{plan}; sorted by {order}, at most {SORTED_MAX} rows"),
                None => format!("{plan}{}", if plan.access == Access::Scan { pages.as_str() } else { "" }),
            };
            let count = match query.tally() {
                Some(tally) if tally.types.is_empty() => "counters by status".to_string(),
                Some(_) => "index entries by type and status; no row is read".to_string(),
                None => format!("{plan}; at most {COUNTED_MAX} rows"),
            };
            Ok((list, count))
        })
        .await
    }
}

fn count_by_status(lists: &Moment<'_>, query: &Query, tally: &Tally, groups: &mut Groups) -> Result<(), Error> {
    let mut by_status = BTreeMap::new();
    if tally.types.is_empty() {
        by_status = lists.counts()?;
        by_status.retain(|status, _| tally.counts(*status));
    } else {
        for (status, posting) in tally.postings() {
            let access = Access::Points(vec![Point::Posting(posting)]);
            let count = lists.count(&access, &[ListSpace::Open, ListSpace::Closed], usize::MAX)?;
            *by_status.entry(status).or_default() += count as i64;
        }
    }
    for (status, count) in by_status.into_iter().filter(|(_, count)| *count > 0) {
        groups.count += count;
        if query.group_by().is_some() {
            let value = Query::status_group(status);
            let group = AggregationGroup { group_values: vec![value.clone()], count };
            groups.by_value.insert((status, value.data.to_vec()), group);
        }
    }
    Ok(())
}

fn count_each(
    lists: &Moment<'_>,
    query: &Query,
    spaces: &[ListSpace],
    max: usize,
    groups: &mut Groups,
) -> Result<(), Error> {
    visit_matching(lists, query, spaces, max, &mut |row| groups.add(query, row))?;
    if groups.overflowed {
        let why = format!("more than {GROUPS_MAX} groups: group by what has fewer values, or ask for fewer rows");
        return Err(too_much(why));
    }
    Ok(())
}

fn too_much(message: String) -> Error {
    Error::ResourceExhausted { cause: ResourceExhaustedCause::SystemOverloaded, message }
}

/// Visits all rows that match, until `visit` answers false.
fn visit_matching(
    lists: &Moment<'_>,
    query: &Query,
    spaces: &[ListSpace],
    max: usize,
    visit: &mut dyn FnMut(&VisibilityRecord) -> bool,
) -> Result<(), Error> {
    let plan = lists.plan(query, spaces)?;
    let mut rows = lists.rows(&plan, spaces, None);
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        if looked_at > max {
            let why = format!("the count would look at more than {max} rows: no index helps with this filter");
            return Err(too_much(why));
        }
        if query.matches(&row) && !visit(&row) {
            break;
        }
    }
    Ok(())
}
