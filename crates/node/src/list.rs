//! Lists and counts: each shard's rows in list order, merged, filtered, cut into pages.
//!
//! A page token is the place of the last row that was shown, so paging skips and repeats nothing that exists throughout. A filter
//! that names one workflow id reads that id's rows alone. Scans run away from the async workers.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::{
    CountWorkflowExecutionsResponse, count_workflow_executions_response::AggregationGroup,
};
use mainstay_base::Timestamp;
use mainstay_engine::{EntityKey, Error};
use mainstay_runtime::Runtime;
use mainstay_shard::{ListPosition, ListSpace};
use mainstay_visibility::{Openness, Query, shown};

use crate::node::Node;
use crate::service::{ListPage, Namespace};
use crate::unreadable;

const TOKEN_VERSION: u8 = 1;
/// What a list of workflow executions shows, in this order.
const EXECUTIONS: [ListSpace; 2] = [ListSpace::Open, ListSpace::Closed];

const EVERYTHING: [ListSpace; 4] = [ListSpace::Open, ListSpace::Closed, ListSpace::Schedules, ListSpace::Batches];

/// The lists in which a filter for workflow executions looks: also those of the system, if it asks for them.
fn spaces_of(query: &Query) -> &'static [ListSpace] {
    if query.shows_system() { &EVERYTHING } else { &EXECUTIONS }
}

/// What one page of rows is asked for.
pub(crate) struct RowPage<'a> {
    pub(crate) namespace_id: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) token: &'a [u8],
    pub(crate) size: usize,
}

impl<R: Runtime> Node<R> {
    pub(crate) async fn list_page(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<ListPage, Error> {
        let query = Query::parse_list(&filter, &namespace.search_attributes).map_err(Error::InvalidArgument)?;
        let node = self.clone();
        R::disk(move || {
            let rows = RowPage { namespace_id: &namespace.id, query: &query, token: &page_token, size: page_size };
            let (rows, next_page_token) = node.row_page(&rows, spaces_of(&query))?;
            Ok(ListPage { executions: rows.into_iter().map(info).collect(), next_page_token })
        })
        .await
    }

    /// A page of rows, and the token of the next. Blocks.
    pub(crate) fn row_page(
        &self,
        page: &RowPage<'_>,
        spaces: &[ListSpace],
    ) -> Result<(Vec<VisibilityRecord>, Vec<u8>), Error> {
        let position = read_token(page.token)?;
        let size = page.size.max(1);
        let rows = self.matching_rows(page, spaces, position, size)?;
        let next_page_token = match rows.last() {
            Some(last) if rows.len() >= size => write_token(last),
            _ => Vec::new(),
        };
        Ok((rows, next_page_token))
    }

    fn matching_rows(
        &self,
        page: &RowPage<'_>,
        spaces: &[ListSpace],
        position: Option<(ListSpace, ListPosition)>,
        limit: usize,
    ) -> Result<Vec<VisibilityRecord>, Error> {
        let RowPage { namespace_id, query, .. } = *page;
        if let Some(workflow_id) = query.workflow_id().filter(|_| *spaces == EXECUTIONS) {
            return self.rows_of_workflow(namespace_id, workflow_id, query, position, limit);
        }
        let mut found = Vec::new();
        for space in spaces.iter().copied() {
            let at = match &position {
                Some((begun, _)) if *begun > space => continue,
                Some((begun, at)) if *begun == space => Some(at),
                _ => None,
            };
            let left = limit - found.len();
            if left == 0 {
                break;
            }
            if is_excluded(query, space) {
                continue;
            }
            let mut merged = Vec::new();
            for group in 1..=self.config().shards {
                let mut taken = 0;
                let visit = &mut |row: VisibilityRecord| {
                    if query.matches(&row) {
                        taken += 1;
                        merged.push(row);
                    }
                    taken < left
                };
                self.shard(group)?.list(namespace_id, space, at, visit).map_err(unreadable)?;
            }
            merged.sort_by_cached_key(place);
            merged.truncate(left);
            found.extend(merged);
        }
        Ok(found)
    }

    fn rows_of_workflow(
        &self,
        namespace_id: &str,
        workflow_id: &str,
        query: &Query,
        position: Option<(ListSpace, ListPosition)>,
        limit: usize,
    ) -> Result<Vec<VisibilityRecord>, Error> {
        let entity = EntityKey { namespace_id: namespace_id.to_string(), workflow_id: workflow_id.to_string() };
        let shard = self.shard(self.route(&entity))?;
        let mut rows = shard.listed_runs(namespace_id, workflow_id).map_err(unreadable)?;
        let begin = position.map(|(space, at)| (space, Reverse(at.time_ns), at.run_id));
        rows.retain(|row| query.matches(row) && begin.as_ref().is_none_or(|begin| place(row) > *begin));
        rows.sort_by_cached_key(place);
        rows.truncate(limit);
        Ok(rows)
    }

    pub(crate) async fn count_rows(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> Result<CountWorkflowExecutionsResponse, Error> {
        let query = Query::parse(&filter, &namespace.search_attributes).map_err(Error::InvalidArgument)?;
        let node = self.clone();
        R::disk(move || {
            let mut count = 0;
            let mut groups: BTreeMap<Vec<u8>, AggregationGroup> = BTreeMap::new();
            node.visit_rows(&namespace.id, &query, spaces_of(&query), &mut |row| {
                count += 1;
                if query.group_by().is_some() {
                    let value = query.group_value(row);
                    let group = groups
                        .entry(value.data.to_vec())
                        .or_insert_with(|| AggregationGroup { group_values: vec![value], count: 0 });
                    group.count += 1;
                }
            })?;
            Ok(CountWorkflowExecutionsResponse { count, groups: groups.into_values().collect() })
        })
        .await
    }

    /// Visits all rows that match, in no particular order. Blocks.
    pub(crate) fn visit_rows(
        &self,
        namespace_id: &str,
        query: &Query,
        spaces: &[ListSpace],
        visit: &mut dyn FnMut(&VisibilityRecord),
    ) -> Result<(), Error> {
        let mut each = |row: VisibilityRecord| {
            if query.matches(&row) {
                visit(&row);
            }
            true
        };
        for space in spaces.iter().copied().filter(|space| !is_excluded(query, *space)) {
            for group in 1..=self.config().shards {
                self.shard(group)?.list(namespace_id, space, None, &mut each).map_err(unreadable)?;
            }
        }
        Ok(())
    }
}

fn is_excluded(query: &Query, space: ListSpace) -> bool {
    match query.status() {
        Some(Openness::Open) => space == ListSpace::Closed,
        Some(Openness::Closed) => space == ListSpace::Open,
        None => false,
    }
}

/// The order of a list, as the keys of rows have it.
fn place(row: &VisibilityRecord) -> (ListSpace, Reverse<i64>, String) {
    let space = ListSpace::of(row);
    let time_ns = if space == ListSpace::Closed { row.close_ns } else { row.start_ns };
    (space, Reverse(time_ns), row.run_id.clone())
}

/// The token of the page behind a row.
pub(crate) fn write_token(last: &VisibilityRecord) -> Vec<u8> {
    let (space, Reverse(time_ns), run_id) = place(last);
    let mut token = vec![TOKEN_VERSION, space as u8];
    token.extend_from_slice(&time_ns.to_be_bytes());
    token.extend_from_slice(run_id.as_bytes());
    token
}

fn read_token(token: &[u8]) -> Result<Option<(ListSpace, ListPosition)>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::invalid("Invalid NextPageToken.");
    let (head, rest) = token.split_at_checked(2).ok_or_else(invalid)?;
    let (time, run_id) = rest.split_first_chunk::<8>().ok_or_else(invalid)?;
    let space = match head {
        [TOKEN_VERSION, 0] => ListSpace::Open,
        [TOKEN_VERSION, 1] => ListSpace::Closed,
        [TOKEN_VERSION, 2] => ListSpace::Schedules,
        [TOKEN_VERSION, 3] => ListSpace::Batches,
        _ => return Err(invalid()),
    };
    let run_id = String::from_utf8(run_id.to_vec()).map_err(|_| invalid())?;
    Ok(Some((space, ListPosition { time_ns: i64::from_be_bytes(*time), run_id })))
}

fn info(row: VisibilityRecord) -> WorkflowExecutionInfo {
    let time = |ns: i64| {
        let (seconds, nanos) = Timestamp::from_nanos(ns).to_parts();
        (ns != 0).then_some(prost_types::Timestamp { seconds, nanos })
    };
    let execution = |workflow_id: &str, run_id: &str| {
        let both = WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: run_id.to_string() };
        (!workflow_id.is_empty()).then_some(both)
    };
    let span = row.close_ns.saturating_sub(row.execution_ns);
    let duration = prost_types::Duration { seconds: span / 1_000_000_000, nanos: (span % 1_000_000_000) as i32 };
    WorkflowExecutionInfo {
        execution: execution(&row.workflow_id, &row.run_id),
        r#type: Some(WorkflowType { name: row.workflow_type }),
        start_time: time(row.start_ns),
        close_time: time(row.close_ns),
        execution_duration: (row.close_ns != 0).then_some(duration),
        status: row.status,
        history_length: row.history_length,
        parent_execution: execution(&row.parent_workflow_id, &row.parent_run_id),
        execution_time: time(row.execution_ns),
        memo: Some(row.memo.unwrap_or_default()),
        search_attributes: Some(shown(row.search_attributes.unwrap_or_default())),
        task_queue: row.task_queue,
        state_transition_count: row.state_transition_count,
        history_size_bytes: row.history_size_bytes,
        root_execution: execution(&row.root_workflow_id, &row.root_run_id),
        ..WorkflowExecutionInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_token_names_the_place_of_a_row() {
        let row = VisibilityRecord { start_ns: 7, close_ns: 9, run_id: "r".into(), ..VisibilityRecord::default() };
        let (space, at) = read_token(&write_token(&row)).expect("reads").expect("is there");
        assert_eq!((space, at.time_ns, at.run_id.as_str()), (ListSpace::Closed, 9, "r"));
        assert_eq!(read_token(&[]), Ok(None));
        for garbage in [&b"x"[..], &[1, 9, 0, 0, 0, 0, 0, 0, 0, 0], &[9; 40], &[1, 0, 1]] {
            assert!(read_token(garbage).is_err());
        }
    }

    #[test]
    fn a_row_survives_the_way_out() {
        let row = VisibilityRecord { workflow_id: "w".into(), run_id: "r".into(), ..VisibilityRecord::default() };
        assert!(!info(row).encode_to_vec().is_empty());
    }
}
