//! Reads of history: pages of whole batches, long polls for what is new, the close event alone, newest first.
//!
//! Events stay encoded: a page is the stored bytes. A page holds at most so many *batches*, as with Temporal, and a bounded number of
//! bytes; a page that is full is followed by a token even if it was the last.
//!
//! The history of a run that a reset made consists of parts: what it shares with the run before, and its own. Temporal keeps them apart,
//! and reads one after the other until it has as many events as batches were asked for. So a page may end where a part does.

use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::record::{RunDetails, RunRecord};
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_base::{RunId, limits};
use mainstay_engine::{EntityKey, Error, Row, Table};
use mainstay_runtime::{Instant, Runtime};

use crate::node::Node;
use crate::service::{HistoryPage, HistoryPosition, HistoryQuery, Namespace};
use crate::unreadable;

/// A page ends behind the batch that makes it this large.
const PAGE_BYTES: usize = 2 << 20;

/// Part of a history: where it begins and ends, and how much of it is wanted.
pub(crate) struct Range {
    pub(crate) first: i64,
    /// Exclusive.
    pub(crate) end: i64,
    pub(crate) batches: usize,
    pub(crate) reverse: bool,
    /// The first events of the parts that resets added, in order. Empty if it does not matter where a page ends.
    pub(crate) forks: Vec<i64>,
}

impl Range {
    /// The rest of the part in which reading goes on at an event: its first event and its end.
    fn part(&self, next: i64) -> (i64, i64) {
        let mut forks = self.forks.iter().copied();
        if self.reverse {
            let first = forks.rfind(|fork| *fork <= next).unwrap_or(self.first);
            (first.max(self.first), next + 1)
        } else {
            let end = forks.find(|fork| *fork > next).unwrap_or(self.end);
            (next, end.min(self.end))
        }
    }
}

/// What was read.
pub(crate) struct Read {
    pub(crate) events: Vec<Bytes>,
    /// The first event that was not read; of a reverse read the last one that was not.
    pub(crate) next: i64,
    /// As much was read as was wanted; there may be more.
    pub(crate) is_full: bool,
}

impl<R: Runtime> Node<R> {
    /// The run that a client means, with its record.
    pub(crate) fn read_run(&self, group: u32, entity: &EntityKey, run_id: &str) -> Result<(RunId, RunRecord), Error> {
        let current;
        let text = if run_id.is_empty() {
            let execution = self.shard(group)?.execution(entity).map_err(unreadable)?;
            current = execution.ok_or_else(|| unknown(entity))?.current_run_id;
            current.as_str()
        } else {
            run_id
        };
        let run: RunId = text.parse().map_err(|_| Error::invalid("Invalid RunId."))?;
        Ok((run, self.read_record(group, entity, run)?))
    }

    /// The record of a run, with the workflow task that only the leader's memory holds.
    pub(crate) fn read_record(&self, group: u32, entity: &EntityKey, run: RunId) -> Result<RunRecord, Error> {
        let (shard, begun) = (self.shard(group)?, R::Instant::now());
        let found = shard.run(entity, run).map_err(unreadable);
        self.board().meter.reads.execution.ended(R::Instant::now() - begun, found.is_err());
        if let Some(mut record) = found? {
            let task = self.board().updates.task(entity, run);
            if let Some(task) = task.filter(|task| mainstay_engine::speculative::fits(&record, task)) {
                record.workflow_task = Some(task);
            }
            return Ok(record);
        }
        let id = &entity.workflow_id;
        let text = format!("workflow execution not found for workflow ID \"{id}\" and run ID \"{run}\"");
        Err(Error::not_found(text))
    }

    /// How a run began and what follows it.
    pub(crate) fn read_details(&self, group: u32, entity: &EntityKey, run: RunId) -> Result<RunDetails, Error> {
        let found = self.shard(group)?.record(entity, &details_row(run)).map_err(unreadable)?;
        Ok(found.unwrap_or_default())
    }

    pub(crate) fn read_events(&self, group: u32, entity: &EntityKey, run: RunId, range: &Range) -> Result<Read, Error> {
        let next = if range.reverse { range.end - 1 } else { range.first };
        let mut read = Read { events: Vec::new(), next, is_full: false };
        let (shard, begun) = (self.shard(group)?, R::Instant::now());
        let mut bytes = 0;
        let done = loop {
            let (first, end) = range.part(read.next);
            let mut batches = 0;
            let visit = &mut |(first, batch): (i64, RawHistory)| {
                batches += 1;
                bytes += batch.events.iter().map(Bytes::len).sum::<usize>();
                let count = i64::try_from(batch.events.len()).unwrap_or(i64::MAX);
                if range.reverse {
                    read.next = first - 1;
                    read.events.extend(batch.events.into_iter().rev());
                } else {
                    read.next = first + count;
                    read.events.extend(batch.events);
                }
                read.is_full = batches >= range.batches || bytes >= PAGE_BYTES;
                !read.is_full
            };
            let done = shard.history(entity, run, first, end, range.reverse, visit).map_err(unreadable);
            let is_last = if range.reverse { first == range.first } else { end == range.end };
            if done.is_err() || read.is_full || is_last {
                break done;
            }
            read.next = if range.reverse { read.next.min(first - 1) } else { read.next.max(end) };
            read.is_full = read.events.len() >= range.batches;
            if read.is_full {
                break done;
            }
        };
        self.board().meter.reads.history.ended(R::Instant::now() - begun, done.is_err());
        done.map(|()| read)
    }

    /// Where the history of a run was continued by resets.
    fn forks(&self, group: u32, entity: &EntityKey, run: RunId, record: &RunRecord) -> Result<Vec<i64>, Error> {
        let is_reset = record.last_reset_ns != 0;
        Ok(if is_reset { self.read_details(group, entity, run)?.forks } else { Vec::new() })
    }

    pub(crate) async fn read_history(&self, namespace: Namespace, query: HistoryQuery) -> Result<HistoryPage, Error> {
        let deadline = R::Instant::now() + query.timeout;
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: query.execution.workflow_id.clone() };
        let group = self.route(&entity);
        let run_id = query.position.as_ref().map_or(query.execution.run_id.as_str(), |at| at.run_id.as_str());
        let (run, record) = self.read_run(group, &entity, run_id)?;
        if query.close_event_only {
            return self.close_event(group, &entity, run, &query, deadline).await;
        }
        if query.reverse {
            return self.reverse_page(group, &entity, run, &record, &query);
        }
        let waits = query.wait_new_event || query.position.as_ref().is_some_and(|at| at.wait);
        if !waits {
            return self.page(group, &entity, run, &record, &query);
        }
        self.awaited_page(group, &entity, run, &query, deadline).await
    }

    fn page(
        &self,
        group: u32,
        entity: &EntityKey,
        run: RunId,
        record: &RunRecord,
        query: &HistoryQuery,
    ) -> Result<HistoryPage, Error> {
        let at = query.position.clone().unwrap_or_default();
        let bound = if at.until_event_id > 0 { at.until_event_id } else { record.next_event_id };
        let forks = self.forks(group, entity, run, record)?;
        let range =
            Range { first: at.event_id.max(1), end: bound, batches: page_size(query.page_size), reverse: false, forks };
        let mut read = self.read_events(group, entity, run, &range)?;
        let next = read.is_full.then(|| HistoryPosition::page(run, read.next, bound));
        if next.is_none() && !query.skip_unwritten && bound == record.next_event_id {
            read.events.extend(mainstay_engine::unwritten(record));
        }
        Ok(HistoryPage { history: RawHistory { events: read.events }, next })
    }

    fn reverse_page(
        &self,
        group: u32,
        entity: &EntityKey,
        run: RunId,
        record: &RunRecord,
        query: &HistoryQuery,
    ) -> Result<HistoryPage, Error> {
        let last = query.position.as_ref().map_or(record.next_event_id - 1, |at| at.event_id);
        let forks = self.forks(group, entity, run, record)?;
        let range = Range { first: 1, end: last + 1, batches: page_size(query.page_size), reverse: true, forks };
        let read = self.read_events(group, entity, run, &range)?;
        let next = (read.is_full && read.next >= 1).then(|| HistoryPosition::page(run, read.next, 0));
        Ok(HistoryPage { history: RawHistory { events: read.events }, next })
    }

    /// A page behind the position; if there is nothing yet, waits for it. An open run always has a next page.
    async fn awaited_page(
        &self,
        group: u32,
        entity: &EntityKey,
        run: RunId,
        query: &HistoryQuery,
        deadline: R::Instant,
    ) -> Result<HistoryPage, Error> {
        let first = query.position.as_ref().map_or(1, |at| at.event_id.max(1));
        let wait = self.board().waits.register(entity.clone(), run);
        loop {
            let changed = wait.changed();
            let record = self.read_record(group, entity, run)?;
            let (end, forks) = (record.next_event_id, self.forks(group, entity, run, &record)?);
            let range = Range { first, end, batches: page_size(query.page_size), reverse: false, forks };
            let read = self.read_events(group, entity, run, &range)?;
            let open = is_open(&record);
            if !read.events.is_empty() || !open {
                let more = open || read.next < record.next_event_id;
                let next = more.then(|| HistoryPosition::long_poll(run, read.next));
                return Ok(HistoryPage { history: RawHistory { events: read.events }, next });
            }
            if self.within(deadline, changed).await.is_none() {
                return Ok(HistoryPage {
                    history: RawHistory::default(),
                    next: Some(HistoryPosition::long_poll(run, first)),
                });
            }
        }
    }

    async fn close_event(
        &self,
        group: u32,
        entity: &EntityKey,
        run: RunId,
        query: &HistoryQuery,
        deadline: R::Instant,
    ) -> Result<HistoryPage, Error> {
        let wait = self.board().waits.register(entity.clone(), run);
        loop {
            let changed = wait.changed();
            let record = self.read_record(group, entity, run)?;
            let waits = query.wait_new_event || query.position.as_ref().is_some_and(|at| at.wait);
            // A paused run is not running, so who does not wait is shown its last event, as by Temporal; who waits, waits for the end.
            if !is_open(&record) || !waits && record.status() == Status::Paused {
                let range = Range { first: 1, end: record.next_event_id, batches: 1, reverse: true, forks: Vec::new() };
                let mut read = self.read_events(group, entity, run, &range)?;
                read.events.truncate(1);
                return Ok(HistoryPage { history: RawHistory { events: read.events }, next: None });
            }
            if self.within(deadline, changed).await.is_none() {
                let next = waits.then(|| HistoryPosition::long_poll(run, record.next_event_id));
                return Ok(HistoryPage { history: RawHistory::default(), next });
            }
        }
    }
}

/// The row of a run's details.
pub(crate) fn details_row(run: RunId) -> Row {
    Row { table: Table::RunDetails, run: Some(run), id: Vec::new() }
}

fn unknown(entity: &EntityKey) -> Error {
    Error::not_found(format!("workflow not found for ID: {}", entity.workflow_id))
}

fn is_open(record: &RunRecord) -> bool {
    matches!(record.status(), Status::Running | Status::Paused)
}

fn page_size(asked: usize) -> usize {
    if asked == 0 { limits::HISTORY_PAGE_MAX } else { asked.min(limits::HISTORY_PAGE_MAX) }
}
