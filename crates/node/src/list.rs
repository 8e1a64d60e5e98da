//! Lists: rows that match a filter, in list order, cut into pages.
//!
//! A page token is the place of the last row that was shown, or looked at, so paging skips and repeats nothing that exists throughout.
//! A page looks at [`LOOKED_AT_MAX`] rows at most: where the index does not help and rows that match are far between, it ends early,
//! even empty, and its token goes on behind what was looked at. Reads run away from the async workers. Another order than that of lists
//! is [`crate::ordered`]'s.

use std::cmp::Reverse;
use std::sync::Arc;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_base::Timestamp;
use mainstay_engine::Error;
use mainstay_runtime::Runtime;
use mainstay_shard::{ListPosition, ListSpace};
use mainstay_visibility::{Query, shown};

use crate::gather::{self, Ask, Listed, Part};
use crate::node::Node;
use crate::rows::Moment;
use crate::service::{ListPage, Namespace};
use crate::slots::Shown;

const TOKEN_VERSION: u8 = 1;
/// Rows that one page looks at.
pub(crate) const LOOKED_AT_MAX: usize = mainstay_shard::WALKED_MAX;
/// What a list of workflow executions shows, in this order.
const EXECUTIONS: [ListSpace; 2] = [ListSpace::Open, ListSpace::Closed];

const EVERYTHING: [ListSpace; 4] = [ListSpace::Open, ListSpace::Closed, ListSpace::Schedules, ListSpace::Batches];

/// The lists in which a filter for workflow executions looks: also those of the system, if it asks for them.
pub(crate) fn spaces_of(query: &Query) -> &'static [ListSpace] {
    if query.shows_system() { &EVERYTHING } else { &EXECUTIONS }
}

/// What one page of rows is asked for.
pub(crate) struct RowPage<'a> {
    pub(crate) namespace_id: &'a str,
    pub(crate) part: &'a Part,
    /// Of the first page of an order: as of when runs are open, if that is decided elsewhere.
    pub(crate) as_of_ns: Option<i64>,
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
        let ask = Ask::new(&namespace, Listed::Workflows, filter).page(page_size, page_token);
        let read = self.gather_rows(ask).await?;
        let next_page_token = read.token.to_vec();
        Ok(ListPage { executions: gather::rows(read).map(info).collect(), next_page_token })
    }

    /// A page of rows, and the token of the next. Blocks.
    pub(crate) fn row_page(
        &self,
        page: &RowPage<'_>,
        spaces: &[ListSpace],
    ) -> Result<(Vec<VisibilityRecord>, Vec<u8>), Error> {
        let position = read_token(page.token)?;
        let size = page.size.max(1);
        let lists = self.lists(page.namespace_id, page.part)?;
        let plan = lists.plan(page.query, spaces)?;
        let mut rows = lists.rows(&plan, spaces, position);
        let mut found: Vec<VisibilityRecord> = Vec::new();
        let mut looked_at = 0;
        let mut end = Vec::new();
        while let Some(row) = rows.next()? {
            looked_at += 1;
            let is_last = looked_at >= LOOKED_AT_MAX;
            if is_last {
                end = write_token(&row);
            }
            if page.query.matches(&row) {
                found.push(row);
            }
            if is_last || found.len() >= size {
                break;
            }
        }
        let next_page_token = match found.last() {
            Some(last) if found.len() >= size => write_token(last),
            _ => end,
        };
        Ok((found, next_page_token))
    }

    /// Some shards' lists at this moment.
    pub(crate) fn lists(&self, namespace_id: &str, part: &Part) -> Result<Moment<'_>, Error> {
        let shards = part.groups.iter().map(|group| Ok((*group, self.shard(*group)?))).collect::<Result<_, Error>>()?;
        Ok(Moment::of(shards, Shown::by(Arc::clone(&part.placement)), namespace_id))
    }
}

/// The order of a list, as the keys of rows have it.
pub(crate) fn place(row: &VisibilityRecord) -> (ListSpace, Reverse<i64>, String) {
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

pub(crate) fn read_token(token: &[u8]) -> Result<Option<(ListSpace, ListPosition)>, Error> {
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
