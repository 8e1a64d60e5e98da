//! What nodes send each other, as messages: each answer of [`crate::Service`] has a form for the way between nodes.

use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::log::{ActivityTaskStarted, Reply};
use mainstay_api::peer;
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::Error;
use mainstay_matching::{QueueKey, QueueKind};
use prost::Message;

use crate::service::{
    HistoryPage, HistoryPosition, HistoryQuery, MultiError, UpdatedWithStart, WorkflowTask, WorkflowTaskCompletion,
};

/// Something that travels between nodes as an encoded message.
pub(crate) trait Wire: Sized + Send {
    fn to_wire(self) -> Bytes;
    fn of_wire(bytes: Bytes) -> Result<Self, prost::DecodeError>;
}

macro_rules! as_they_are {
    ($($message:ty,)*) => {$(
        impl Wire for $message {
            fn to_wire(self) -> Bytes {
                self.encode_to_vec().into()
            }
            fn of_wire(bytes: Bytes) -> Result<Self, prost::DecodeError> {
                Self::decode(bytes)
            }
        }
    )*};
}

as_they_are! {
    Reply,
    NamespaceRecord,
    api::DescribeWorkflowExecutionResponse,
    api::QueryWorkflowResponse,
    api::UpdateWorkflowExecutionResponse,
    api::PollWorkflowExecutionUpdateResponse,
    api::DescribeTaskQueueResponse,
    peer::Given,
    peer::ReadIndex,
    peer::RowsRead,
    peer::Times,
    peer::FoundResetPoint,
    api::CountWorkflowExecutionsResponse,
    api::DescribeScheduleResponse,
    api::DescribeBatchOperationResponse,
    peer::Flag,
    mainstay_api::admin::NodeStatus,
}

macro_rules! by_way_of {
    ($($own:ty => $message:ty,)*) => {$(
        impl Wire for $own {
            fn to_wire(self) -> Bytes {
                <$message>::from(self).encode_to_vec().into()
            }
            fn of_wire(bytes: Bytes) -> Result<Self, prost::DecodeError> {
                <$message>::decode(bytes).map(Into::into)
            }
        }
    )*};
}

by_way_of! {
    WorkflowTask => peer::WorkflowTask,
    WorkflowTaskCompletion => peer::WorkflowTaskCompletion,
    HistoryPage => peer::HistoryPage,
}

impl Wire for Option<WorkflowTask> {
    fn to_wire(self) -> Bytes {
        peer::MaybeWorkflowTask { task: self.map(Into::into) }.encode_to_vec().into()
    }
    fn of_wire(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(peer::MaybeWorkflowTask::decode(bytes)?.task.map(Into::into))
    }
}

impl Wire for Option<ActivityTaskStarted> {
    fn to_wire(self) -> Bytes {
        peer::MaybeActivityTask { task: self }.encode_to_vec().into()
    }
    fn of_wire(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(peer::MaybeActivityTask::decode(bytes)?.task)
    }
}

impl Wire for Result<UpdatedWithStart, MultiError> {
    fn to_wire(self) -> Bytes {
        let mut message = peer::UpdatedWithStart::default();
        match self {
            Ok((started, updated)) => (message.started, message.updated) = (Some(started), Some(updated)),
            Err(MultiError::Start(error)) => message.start_refused = Some(error.into()),
            Err(MultiError::Update(error)) => message.update_refused = Some(error.into()),
            Err(MultiError::UpdateOfStarted(error)) => {
                (message.started, message.update_refused) = (Some(Default::default()), Some(error.into()));
            }
            Err(MultiError::Whole(error)) => message.refused = Some(error.into()),
        }
        message.encode_to_vec().into()
    }
    fn of_wire(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        let message = peer::UpdatedWithStart::decode(bytes)?;
        Ok(match (message.start_refused, message.update_refused, message.refused) {
            (Some(refusal), _, _) => Err(MultiError::Start(refusal.into())),
            (_, Some(refusal), _) if message.started.is_some() => Err(MultiError::UpdateOfStarted(refusal.into())),
            (_, Some(refusal), _) => Err(MultiError::Update(refusal.into())),
            (_, _, Some(refusal)) => Err(MultiError::Whole(refusal.into())),
            _ => Ok((message.started.unwrap_or_default(), message.updated.unwrap_or_default())),
        })
    }
}

impl Wire for () {
    fn to_wire(self) -> Bytes {
        Bytes::new()
    }
    fn of_wire(_: Bytes) -> Result<Self, prost::DecodeError> {
        Ok(())
    }
}

impl From<HistoryPosition> for peer::HistoryPosition {
    fn from(at: HistoryPosition) -> Self {
        let HistoryPosition { run_id, event_id, until_event_id, wait } = at;
        Self { run_id, event_id, until_event_id, wait }
    }
}

impl From<peer::HistoryPosition> for HistoryPosition {
    fn from(at: peer::HistoryPosition) -> Self {
        let peer::HistoryPosition { run_id, event_id, until_event_id, wait } = at;
        Self { run_id, event_id, until_event_id, wait }
    }
}

impl From<WorkflowTask> for peer::WorkflowTask {
    fn from(task: WorkflowTask) -> Self {
        Self { token: Some(task.token), response: Some(task.response), rest: task.rest.map(Into::into) }
    }
}

impl From<peer::WorkflowTask> for WorkflowTask {
    fn from(task: peer::WorkflowTask) -> Self {
        Self {
            token: task.token.unwrap_or_default(),
            response: task.response.unwrap_or_default(),
            rest: task.rest.map(Into::into),
        }
    }
}

impl From<WorkflowTaskCompletion> for peer::WorkflowTaskCompletion {
    fn from(done: WorkflowTaskCompletion) -> Self {
        Self {
            response: Some(done.response),
            workflow_task: done.workflow_task.map(Into::into),
            activity_tasks: done.activity_tasks,
        }
    }
}

impl From<peer::WorkflowTaskCompletion> for WorkflowTaskCompletion {
    fn from(done: peer::WorkflowTaskCompletion) -> Self {
        Self {
            response: done.response.unwrap_or_default(),
            workflow_task: done.workflow_task.map(Into::into),
            activity_tasks: done.activity_tasks,
        }
    }
}

impl From<HistoryPage> for peer::HistoryPage {
    fn from(page: HistoryPage) -> Self {
        Self { events: page.history.events, next: page.next.map(Into::into) }
    }
}

impl From<peer::HistoryPage> for HistoryPage {
    fn from(page: peer::HistoryPage) -> Self {
        Self { history: RawHistory { events: page.events }, next: page.next.map(Into::into) }
    }
}

/// A read of history, for another node.
pub(crate) fn history_query(namespace_id: &str, query: &HistoryQuery) -> peer::HistoryQuery {
    peer::HistoryQuery {
        namespace_id: namespace_id.to_string(),
        execution: Some(query.execution.clone()),
        position: query.position.clone().map(Into::into),
        page_size: query.page_size as u64,
        wait_new_event: query.wait_new_event,
        close_event_only: query.close_event_only,
        reverse: query.reverse,
        skip_unwritten: query.skip_unwritten,
    }
}

/// The same, read again.
pub(crate) fn own_history_query(query: peer::HistoryQuery, timeout: std::time::Duration) -> HistoryQuery {
    HistoryQuery {
        execution: query.execution.unwrap_or_default(),
        position: query.position.map(Into::into),
        page_size: usize::try_from(query.page_size).unwrap_or(usize::MAX),
        wait_new_event: query.wait_new_event,
        close_event_only: query.close_event_only,
        reverse: query.reverse,
        skip_unwritten: query.skip_unwritten,
        timeout,
    }
}

/// A queue's name, for another node.
pub(crate) fn queue(key: &QueueKey) -> peer::Queue {
    let QueueKey { namespace_id, name, kind } = key.clone();
    peer::Queue { namespace_id, name, activity: kind == QueueKind::Activity }
}

/// The same, read again.
pub(crate) fn own_queue(queue: peer::Queue) -> QueueKey {
    let kind = if queue.activity { QueueKind::Activity } else { QueueKind::Workflow };
    QueueKey { namespace_id: queue.namespace_id, name: queue.name, kind }
}

/// A node's answer to a call.
pub(crate) fn answer<T: Wire>(result: Result<T, Error>, leader: Option<u64>) -> peer::Answer {
    let answer = match result {
        Ok(value) => peer::answer::Answer::Done(value.to_wire()),
        Err(Error::Moved) => peer::answer::Answer::Moved(peer::Moved { leader: leader.unwrap_or_default() }),
        Err(error) => peer::answer::Answer::Refused(error.into()),
    };
    peer::Answer { answer: Some(answer) }
}
