//! The seam between the engine and the shard: rows of one entity in, changes out.
//!
//! The engine names rows by table, run and id, and never a key; the shard maps rows to keys and never learns what an activity
//! is. Index rows (tasks, timers, visibility) are changes of their own kind, because the shard orders them across entities.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::record::{EntityMessage, MessageOutcome, NamespaceRecord, TaskRow, TimerRow, VisibilityRecord};
use mainstay_base::RunId;

/// The key of a workflow execution: all its runs live in one shard under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    /// The namespace's id, not its name.
    pub namespace_id: String,
    /// The workflow id.
    pub workflow_id: String,
}

/// What a row of an entity holds. The number is part of the stored key and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// `ExecutionRecord`; no run, empty id.
    Execution = 1,
    /// `RunRecord`; empty id.
    Run = 2,
    /// `RunDetails`; empty id.
    RunDetails = 26,
    /// `RawHistory` of one batch; id = first event id, 8 bytes big-endian.
    History = 3,
    /// `ActivityRecord`; id = scheduled event id, 8 bytes big-endian.
    Activity = 4,
    /// Scheduled event id (8 bytes big-endian) of the pending activity with this id.
    ActivityId = 5,
    /// `UserTimerRecord`; id = timer id.
    UserTimer = 6,
    /// Timer id of the user timer with this started event id (8 bytes big-endian).
    UserTimerEvent = 7,
    /// `RequestIdRecord`; id = a request id that started the run or was attached to it.
    RequestId = 8,
    /// An encoded `HistoryEvent` without an id, waiting for the started workflow task to close; id = 8 bytes big-endian.
    Buffered = 9,
    /// `ChildRecord`; id = initiated event id, 8 bytes big-endian.
    Child = 10,
    /// `ExternalRecord`; id = initiated event id, 8 bytes big-endian.
    External = 11,
    /// `UpdateRecord`; id = update id.
    Update = 14,
    /// `RequestIdRecord`; id = the request id of a signal that this run has accepted.
    SignalRequest = 18,
    /// `TaskQueueConfig` of the namespace whose entity has no workflow id; no run, id by [`crate::task_queue_config::row_id`].
    TaskQueueConfig = 17,
    /// `ScheduleRecord`; no run, empty id.
    Schedule = 20,
    /// `ScheduleDefinition`; no run, empty id.
    ScheduleDefinition = 21,
    /// `BatchRecord`; no run, empty id.
    Batch = 22,
    /// The `StartBatchOperationRequest` of a job; no run, empty id.
    BatchRequest = 23,
}

impl Table {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Execution,
        Self::Run,
        Self::RunDetails,
        Self::History,
        Self::Activity,
        Self::ActivityId,
        Self::UserTimer,
        Self::UserTimerEvent,
        Self::RequestId,
        Self::Buffered,
        Self::Child,
        Self::External,
        Self::Update,
        Self::SignalRequest,
        Self::TaskQueueConfig,
        Self::Schedule,
        Self::ScheduleDefinition,
        Self::Batch,
        Self::BatchRequest,
    ];
}

/// One row of an entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// What it holds.
    pub table: Table,
    /// The run it belongs to; none for rows of the execution itself.
    pub run: Option<RunId>,
    /// Which one, within table and run; ordered bytewise.
    pub id: Vec<u8>,
}

/// The identity of a message: increasing sequences of each source slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Hash slot of the entity that sent it.
    pub source_slot: u16,
    /// Its place among the messages of that slot.
    pub sequence: u64,
}

/// A failure below the engine: an I/O error, or bytes that do not decode. Apply cannot go on after one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// Reads of the shard's records, as they were before the command at hand.
pub trait Store {
    /// One row.
    fn get(&self, entity: &EntityKey, row: &Row) -> Result<Option<Bytes>, Fault>;

    /// All rows of a table of a run whose id is at least `from`, in order of id, until `visit` answers false.
    fn scan(
        &self,
        entity: &EntityKey,
        table: Table,
        run: Option<RunId>,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Fault>;

    /// The namespace as this shard's log knows it.
    fn namespace(&self, id: &str) -> Result<Option<Arc<NamespaceRecord>>, Fault>;

    /// Whether this row is in the timer index.
    fn has_timer(&self, row: &TimerRow) -> Result<bool, Fault>;

    /// A message of this shard's outbox.
    fn message(&self, id: MessageId) -> Result<Option<EntityMessage>, Fault>;

    /// What came of a message that this shard received.
    fn outcome(&self, id: MessageId) -> Result<Option<MessageOutcome>, Fault>;

    /// Messages of this source slot below this sequence are settled and never executed again; 0 at first.
    fn floor(&self, source_slot: u16) -> Result<u64, Fault>;
}

/// What apply writes. All changes of one entry become one atomic batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Sets a row.
    Put { entity: Arc<EntityKey>, row: Row, value: Bytes },
    /// Removes a row, if it exists.
    Delete { entity: Arc<EntityKey>, row: Row },
    /// Makes a task dispatchable.
    AddTask(TaskRow),
    /// Removes a task row: by kind, namespace id, queue and sequence.
    RemoveTask(TaskRow),
    /// Adds to the timer index.
    AddTimer(TimerRow),
    /// Removes from the timer index, if there.
    RemoveTimer(TimerRow),
    /// Sets what a list shows of a run, replacing what it showed.
    PutVisibility(Box<VisibilityRecord>),
    /// Removes a run from lists: by namespace id and run id.
    RemoveVisibility(Box<VisibilityRecord>),
    /// Sets the shard's copy of a namespace.
    PutNamespace(NamespaceRecord),
    /// Removes the shard's copy of the namespace with this id.
    RemoveNamespace(String),
    /// Adds a message to the outbox, or replaces the one with its id.
    PutMessage(Box<EntityMessage>),
    /// Removes a message from the outbox.
    RemoveMessage(MessageId),
    /// Remembers what came of a received message.
    PutOutcome(MessageId, MessageOutcome),
    /// Sets the floor of a source slot and forgets the outcomes below it.
    RaiseFloor(MessageId),
}
