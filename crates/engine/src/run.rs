//! One run being changed: its record, and the batches of events that this entry adds to its history.
//!
//! An event goes into history at once, or, while a workflow task is started and the event comes from outside, into the buffer.
//! A batch is what is written atomically; a Started event of a workflow task ends its batch.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_api::record::{ChildRecord, ExecutionRecord, RequestIdRecord, RunDetails, RunRecord, VisibilityRecord};
use mainstay_api::temporal::enums::v1::{EventType, WorkflowExecutionStatus};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_base::{RunId, limits};
use prost::Message;

use crate::event::{self, Attributes, NewEvent};
use crate::store::{Fault, Row, Table};
use crate::transaction::{Transaction, decode, details_row, named, numbered, run_row};
use crate::{Answer, Error, speculative};

/// What most batches fit into.
const BATCH_SIZE: usize = 512;

/// Where an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// Into history, under this id.
    Written(i64),
    /// Into the buffer.
    Buffered,
}

impl Added {
    /// The id, or 0 for a buffered event.
    pub(crate) fn id(self) -> i64 {
        match self {
            Self::Written(id) => id,
            Self::Buffered => 0,
        }
    }
}

/// A run and the events that this entry adds to it. Must be saved.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) record: RunRecord,
    /// Read when first asked for.
    details: OnceCell<RunDetails>,
    details_changed: bool,
    /// First event id and events of each, encoded as a history.
    batches: Vec<(i64, Vec<u8>)>,
    open_batch: bool,
    listed_changed: bool,
}

impl Run {
    pub(crate) fn new(id: RunId, record: RunRecord, details: RunDetails) -> Self {
        let details = OnceCell::from(details);
        Self {
            id,
            record,
            details,
            details_changed: true,
            batches: Vec::new(),
            open_batch: false,
            listed_changed: true,
        }
    }

    /// Loads a run: the given one, or the current one if `run_id` is empty.
    pub(crate) fn load(tx: &Transaction<'_>, run_id: &str) -> Answer<Self> {
        let workflow_id = &tx.entity.workflow_id;
        let current;
        let text = if run_id.is_empty() {
            let found = tx.execution()?;
            let missing = || Error::not_found(format!("workflow not found for ID: {workflow_id}"));
            current = found.ok_or_else(missing)?.current_run_id;
            current.as_str()
        } else {
            run_id
        };
        let id: RunId = text.parse().map_err(|_| Error::invalid("Invalid RunId."))?;
        let Some(record) = tx.run_record(id)? else {
            let text = format!("workflow execution not found for workflow ID \"{workflow_id}\" and run ID \"{id}\"");
            return Err(Error::not_found(text).into());
        };
        let mut run = Self {
            id,
            record,
            details: OnceCell::new(),
            details_changed: false,
            batches: Vec::new(),
            open_batch: false,
            listed_changed: false,
        };
        speculative::adopt(tx, &mut run.record);
        Ok(run)
    }

    /// Loads a run that must be open.
    pub(crate) fn load_open(tx: &Transaction<'_>, run_id: &str) -> Answer<Self> {
        let run = Self::load(tx, run_id)?;
        if run.is_open() { Ok(run) } else { Err(already_completed().into()) }
    }

    /// What few transitions look at. If it cannot be read, the answer is a default and the transition is not written.
    pub(crate) fn details(&self, tx: &Transaction<'_>) -> &RunDetails {
        self.details.get_or_init(|| {
            tx.run_details(self.id).unwrap_or_else(|fault| {
                tx.fail(fault);
                RunDetails::default()
            })
        })
    }

    /// The same, to be changed.
    pub(crate) fn details_mut(&mut self, tx: &Transaction<'_>) -> &mut RunDetails {
        self.details(tx);
        self.details_changed = true;
        self.details.get_mut().expect("just set")
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.record.status(), WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused)
    }

    /// Whether a workflow task is with a worker: then events from outside wait.
    pub(crate) fn task_started(&self) -> bool {
        self.record.workflow_task.as_ref().is_some_and(|task| task.started_event_id != 0)
    }

    /// Whether what lists show has changed.
    pub(crate) fn mark_listed(&mut self) {
        self.listed_changed = true;
    }

    /// Adds an event to history, or to the buffer if it must wait.
    pub(crate) fn add(&mut self, tx: &mut Transaction<'_>, event: impl Into<NewEvent>) -> Added {
        let now = tx.now();
        self.add_at(tx, event, now)
    }

    /// As [`Self::add`], for what happened at another time than now.
    pub(crate) fn add_at(&mut self, tx: &mut Transaction<'_>, event: impl Into<NewEvent>, at_ns: i64) -> Added {
        let event = event.into();
        speculative::make_normal(tx, self);
        if self.task_started() && event::is_buffered(&event.attributes) {
            self.buffer_at(tx, event, at_ns);
            return Added::Buffered;
        }
        Added::Written(self.write_at(tx, event, at_ns))
    }

    /// Keeps an event until the buffer is flushed: behind what the commands of a completion write.
    pub(crate) fn buffer(&mut self, tx: &mut Transaction<'_>, event: impl Into<NewEvent>) {
        self.buffer_at(tx, event, tx.now());
    }

    fn buffer_at(&mut self, tx: &mut Transaction<'_>, event: impl Into<NewEvent>, at_ns: i64) {
        let encoded: Bytes = event.into().into_event(0, at_ns, 0).encode_to_vec().into();
        self.record.buffered_count += 1;
        self.record.buffered_bytes += encoded.len() as i64;
        let row = numbered(Table::Buffered, self.id, self.record.buffered_sequence);
        self.record.buffered_sequence += 1;
        tx.put_bytes(row, encoded);
    }

    /// Writes an event into history now, whatever is started.
    pub(crate) fn write(&mut self, tx: &Transaction<'_>, event: impl Into<NewEvent>) -> i64 {
        self.write_at(tx, event, tx.now())
    }

    /// Writes an event with a time of its own: that of when it happened, or that a worker was shown before.
    pub(crate) fn write_at(&mut self, tx: &Transaction<'_>, event: impl Into<NewEvent>, at_ns: i64) -> i64 {
        debug_assert!(speculative::pending(self).is_none(), "an event would take a foreseen id");
        let (id, task_id) = (self.record.next_event_id, self.task_id(tx));
        let mut event = event.into();
        self.append(|batch| event.append(batch, id, at_ns, task_id))
    }

    /// The first event of the batch that is being written.
    pub(crate) fn batch_event_id(&self) -> i64 {
        self.batches.last().map_or(self.record.next_event_id, |(first, _)| *first)
    }

    fn task_id(&self, tx: &Transaction<'_>) -> i64 {
        ((tx.context.log_index << 10) as i64).saturating_add(self.record.next_event_id & 0x3ff)
    }

    /// Adds an event that has the next id to the open batch; `append` writes it and answers its size.
    fn append(&mut self, append: impl FnOnce(&mut Vec<u8>) -> usize) -> i64 {
        let id = self.record.next_event_id;
        self.record.next_event_id += 1;
        if !self.open_batch {
            self.batches.push((id, Vec::with_capacity(BATCH_SIZE)));
            self.open_batch = true;
        }
        if let Some((_, batch)) = self.batches.last_mut() {
            self.record.history_size_bytes += append(batch) as i64;
        }
        id
    }

    /// Ends the batch: the next event begins another.
    pub(crate) fn end_batch(&mut self) {
        self.open_batch = false;
    }

    /// Writes the buffered events into history: in order of arrival, but with closes of activities and children last, their Started ids filled in.
    /// Answers whether there were any.
    pub(crate) fn flush_buffer(&mut self, tx: &mut Transaction<'_>) -> Result<bool, Fault> {
        if self.record.buffered_count == 0 {
            return Ok(false);
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (id, value) in tx.scan(Table::Buffered, self.id)? {
            tx.delete(Row { table: Table::Buffered, run: Some(self.id), id });
            let mut event: HistoryEvent = decode(Table::Buffered, value)?;
            let closes = event.attributes.as_mut().is_some_and(|a| event::item_close(a).is_some());
            if closes { last.push(event) } else { first.push(event) }
        }
        let mut started = BTreeMap::new();
        for mut event in first.into_iter().chain(last) {
            self.number(tx, &mut event, &mut started)?;
            self.append(|batch| event::append(batch, &event));
        }
        self.record.buffered_count = 0;
        self.record.buffered_bytes = 0;
        Ok(true)
    }

    /// Gives a buffered event its id, and what refers to it the same.
    fn number(
        &self,
        tx: &mut Transaction<'_>,
        event: &mut HistoryEvent,
        started: &mut BTreeMap<i64, i64>,
    ) -> Result<(), Fault> {
        event.event_id = self.record.next_event_id;
        event.task_id = self.task_id(tx);
        let id = event.event_id;
        match event.attributes.as_mut() {
            Some(Attributes::ActivityTaskStartedEventAttributes(a)) => {
                started.insert(a.scheduled_event_id, id);
            }
            Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(a)) => {
                started.insert(a.initiated_event_id, id);
                let row = numbered(Table::Child, self.id, a.initiated_event_id);
                if let Some(child) = tx.get::<ChildRecord>(&row)? {
                    tx.put(row, &ChildRecord { started_event_id: id, ..child });
                }
            }
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(a)) if !a.request_id.is_empty() => {
                self.remember_signal(tx, &a.request_id, id)?;
            }
            Some(Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(a))
                if !a.attached_request_id.is_empty() =>
            {
                self.remember(tx, &a.attached_request_id, EventType::WorkflowExecutionOptionsUpdated, id);
            }
            Some(attributes) => {
                if let Some((scheduled, started_id)) = event::item_close(attributes)
                    && let Some(id) = started.get(&scheduled)
                {
                    *started_id = *id;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Whether the close of this activity or child is in the buffer.
    pub(crate) fn has_buffered_close(&self, tx: &Transaction<'_>, scheduled_event_id: i64) -> Result<bool, Fault> {
        if self.record.buffered_count == 0 {
            return Ok(false);
        }
        for mut event in tx.scan_records::<HistoryEvent>(Table::Buffered, self.id)? {
            let close = event.attributes.as_mut().and_then(event::item_close);
            if close.is_some_and(|(scheduled, _)| scheduled == scheduled_event_id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a timer's buffered TimerFired event out of the buffer; answers the id of its Started event.
    pub(crate) fn take_buffered_fire(
        &mut self,
        tx: &mut Transaction<'_>,
        timer_id: &str,
    ) -> Result<Option<i64>, Fault> {
        if self.record.buffered_count == 0 {
            return Ok(None);
        }
        for (id, value) in tx.scan(Table::Buffered, self.id)? {
            let size = value.len() as i64;
            let event: HistoryEvent = decode(Table::Buffered, value)?;
            if let Some(Attributes::TimerFiredEventAttributes(a)) = event.attributes
                && a.timer_id == timer_id
            {
                tx.delete(Row { table: Table::Buffered, run: Some(self.id), id });
                self.record.buffered_count -= 1;
                self.record.buffered_bytes -= size;
                return Ok(Some(a.started_event_id));
            }
        }
        Ok(None)
    }

    /// Forgets the buffered events, when the run closes.
    pub(crate) fn drop_buffer(&mut self, tx: &mut Transaction<'_>) -> Result<(), Fault> {
        if self.record.buffered_count > 0 {
            for (id, _) in tx.scan(Table::Buffered, self.id)? {
                tx.delete(Row { table: Table::Buffered, run: Some(self.id), id });
            }
        }
        self.record.buffered_count = 0;
        self.record.buffered_bytes = 0;
        Ok(())
    }

    /// What a request id that started the run, or was attached to it, caused.
    pub(crate) fn seen(&self, tx: &Transaction<'_>, request_id: &str) -> Result<Option<RequestIdRecord>, Fault> {
        if request_id.is_empty() { Ok(None) } else { tx.get(&named(Table::RequestId, self.id, request_id)) }
    }

    /// Whether a signal with this request id was accepted. Ids of signals are apart from those of starts: one may be used for both.
    pub(crate) fn seen_signal(&self, tx: &Transaction<'_>, request_id: &str) -> Result<bool, Fault> {
        let row = named(Table::SignalRequest, self.id, request_id);
        Ok(!request_id.is_empty() && tx.get_bytes(&row)?.is_some())
    }

    /// Remembers a signal's request id. One that the start had too stays known as the start's, at the signal's event. (Recorded.)
    pub(crate) fn remember_signal(
        &self,
        tx: &mut Transaction<'_>,
        request_id: &str,
        event_id: i64,
    ) -> Result<(), Fault> {
        self.remember(tx, request_id, EventType::WorkflowExecutionSignaled, event_id);
        if event_id != 0
            && let Some(known) = self.seen(tx, request_id)?
        {
            tx.put(named(Table::RequestId, self.id, request_id), &RequestIdRecord { event_id, ..known });
        }
        Ok(())
    }

    pub(crate) fn remember(&self, tx: &mut Transaction<'_>, request_id: &str, event_type: EventType, event_id: i64) {
        let signal = event_type == EventType::WorkflowExecutionSignaled;
        let table = if signal { Table::SignalRequest } else { Table::RequestId };
        if !request_id.is_empty() {
            let record = RequestIdRecord { event_type: event_type as i32, event_id };
            tx.put(named(table, self.id, request_id), &record);
        }
    }

    /// Writes the run: history batches, record, and what lists show if that changed.
    pub(crate) fn save(mut self, tx: &mut Transaction<'_>) {
        self.record.state_transition_count += 1;
        self.save_uncounted(tx);
    }

    /// Writes the run after a change that is no transition of the workflow.
    pub(crate) fn save_uncounted(mut self, tx: &mut Transaction<'_>) {
        if speculative::pending(&self).is_some() {
            self.record.workflow_task = None;
        }
        for (first, batch) in std::mem::take(&mut self.batches) {
            tx.put_bytes(numbered(Table::History, self.id, first), batch.into());
        }
        if self.details_changed {
            tx.put(details_row(self.id), self.details(tx));
        }
        tx.put(run_row(self.id), &self.record);
        if self.is_open() && self.over_limit().is_some() {
            tx.oversized.push(self.id);
        }
        if self.listed_changed {
            let listed = self.into_visibility(tx);
            tx.put_visibility(listed);
        }
    }

    /// Why the server ends this run: its history is too long or too large.
    pub(crate) fn over_limit(&self) -> Option<&'static str> {
        if self.record.history_size_bytes > limits::HISTORY_SIZE_MAX {
            Some("Workflow history size exceeds limit.")
        } else if self.record.next_event_id - 1 > limits::HISTORY_COUNT_MAX {
            Some("Workflow history count exceeds limit.")
        } else if self.record.buffered_bytes + self.record.large_details_bytes > limits::STATE_SIZE_MAX {
            Some("Workflow mutable state size exceeds limit.")
        } else {
            None
        }
    }

    /// Bytes of the events that this entry adds to history.
    pub(crate) fn written_bytes(&self) -> usize {
        self.batches.iter().map(|(_, batch)| batch.len()).sum()
    }

    /// Sets the execution record from this run, which is the current one.
    pub(crate) fn make_current(&self, tx: &mut Transaction<'_>) {
        let details = self.details(tx);
        tx.put_execution(&ExecutionRecord {
            current_run_id: self.record.run_id.clone(),
            status: self.record.status,
            start_request_id: details.start_request_id.clone(),
            first_execution_run_id: details.first_execution_run_id.clone(),
        });
    }

    /// What lists show of the run.
    pub(crate) fn into_visibility(mut self, tx: &Transaction<'_>) -> VisibilityRecord {
        self.details(tx);
        let closed = !self.is_open();
        let (r, details) = (self.record, self.details.take().unwrap_or_default());
        VisibilityRecord {
            namespace_id: tx.entity.namespace_id.clone(),
            workflow_id: tx.entity.workflow_id.clone(),
            run_id: r.run_id,
            workflow_type: r.workflow_type,
            status: r.status,
            start_ns: r.start_ns,
            execution_ns: r.execution_ns,
            close_ns: r.close_ns,
            history_length: if closed { r.next_event_id - 1 } else { 0 },
            history_size_bytes: if closed { r.history_size_bytes } else { 0 },
            state_transition_count: if closed { r.state_transition_count } else { 0 },
            task_queue: r.task_queue,
            memo: details.memo,
            search_attributes: details.search_attributes,
            parent_workflow_id: details.parent_workflow_id,
            parent_run_id: details.parent_run_id,
            root_workflow_id: details.root_workflow_id,
            root_run_id: details.root_run_id,
            ..VisibilityRecord::default()
        }
    }
}

/// The answer to anything that needs an open run.
pub(crate) fn already_completed() -> Error {
    Error::not_found("workflow execution already completed")
}
