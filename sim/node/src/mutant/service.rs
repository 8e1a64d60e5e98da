//! Bugs between the frontend and the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_api::log::command::Op;
use mainstay_api::log::{ActivityTaskStarted, Command, Reply, TaskToken, WorkflowTaskStarted, reply};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::WorkflowIdConflictPolicy;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::Error;
use mainstay_node::Node;
use mainstay_node::service::{HistoryPage, HistoryQuery, ListPage, Namespace, WorkflowTask, WorkflowTaskCompletion};
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_runtime::{SimRuntime, draw};

use super::Mutant;

/// What a bug remembers.
#[derive(Default)]
struct Memory {
    activity: Option<ActivityTaskStarted>,
    descriptions: BTreeMap<(String, String), api::DescribeWorkflowExecutionResponse>,
    query: Option<api::QueryWorkflowResponse>,
    /// By run: the token of the task that was started last.
    tokens: BTreeMap<String, TaskToken>,
}

/// A node, with a bug in front of it if one of this kind was chosen.
#[derive(Clone)]
pub struct Service {
    node: Node<SimRuntime>,
    mutant: Option<Mutant>,
    memory: Arc<Mutex<Memory>>,
}

impl Service {
    /// A node with the bug.
    #[must_use]
    pub fn new(node: Node<SimRuntime>, mutant: Option<Mutant>) -> Self {
        Self { node, mutant, memory: Arc::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, task: &Option<WorkflowTask>) {
        if let Some(task) = task {
            self.memory().tokens.insert(task.token.run_id.clone(), task.token.clone());
        }
    }
}

/// A signal under a request id that nobody remembers.
fn renamed(command: &Command) -> Option<Command> {
    let mut other = command.clone();
    let Some(Op::SignalWorkflow(signal)) = other.op.as_mut() else { return None };
    signal.request_id = format!("{:032x}", SimRuntime::random());
    Some(other)
}

fn done(command: &Command) -> Option<Reply> {
    let reply = match command.op.as_ref()? {
        Op::SignalWorkflow(_) => reply::Reply::SignalWorkflow(api::SignalWorkflowExecutionResponse::default()),
        _ => return None,
    };
    Some(Reply { reply: Some(reply), ..Reply::default() })
}

impl mainstay_node::Service for Service {
    fn namespace(&self, name: &str) -> Option<Namespace> {
        self.node.namespace(name)
    }

    fn namespace_by_id(&self, id: &str) -> Option<Namespace> {
        self.node.namespace_by_id(id)
    }

    fn namespaces(&self) -> Vec<Namespace> {
        self.node.namespaces()
    }

    async fn put_namespace(&self, record: NamespaceRecord) -> Result<Namespace, Error> {
        self.node.put_namespace(record).await
    }

    fn cluster_id(&self) -> String {
        self.node.cluster_id()
    }

    async fn execute(&self, mut command: Command) -> Result<Reply, Error> {
        match self.mutant {
            Some(Mutant::ReplyBeforeCommit) if done(&command).is_some() => {
                // Only what would be accepted is accepted early.
                let execution = WorkflowExecution { workflow_id: command.workflow_id.clone(), run_id: String::new() };
                if let Some(namespace) = self.node.namespace_by_id(&command.namespace_id)
                    && let Ok(described) = self.node.describe(namespace, execution).await
                    && described.workflow_execution_info.is_some_and(|info| info.close_time.is_none())
                {
                    let (node, answer) = (self.node.clone(), done(&command).unwrap_or_default());
                    drop(SimRuntime::spawn(async move { node.execute(command).await }));
                    return Ok(answer);
                }
            }
            Some(Mutant::RetryUnderAnotherId) if draw(0..10) == 0 => {
                if let Some(other) = renamed(&command) {
                    let _ = self.node.execute(other).await;
                }
            }
            Some(Mutant::ApplyTwice) if draw(0..10) == 0 => {
                let again = renamed(&command).unwrap_or_else(|| command.clone());
                let answer = self.node.execute(command).await;
                let _ = self.node.execute(again).await;
                return answer;
            }
            Some(Mutant::AcknowledgeNothing) if draw(0..20) == 0 => {
                if let Some(answer) = done(&command) {
                    return Ok(answer);
                }
            }
            Some(Mutant::IgnoreConflictPolicy) => {
                if let Some(Op::StartWorkflow(start)) = command.op.as_mut()
                    && let Some(request) = start.request.as_mut()
                {
                    request.workflow_id_conflict_policy = WorkflowIdConflictPolicy::TerminateExisting as i32;
                }
            }
            _ => {}
        }
        self.node.execute(command).await
    }

    async fn complete_task(&self, namespace: Namespace, started: WorkflowTaskStarted) -> Result<WorkflowTask, Error> {
        self.node.complete_task(namespace, started).await
    }

    async fn poll_workflow_task(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<WorkflowTask>, Error> {
        let task = self.node.poll_workflow_task(namespace, request, timeout).await?;
        self.started(&task);
        Ok(task)
    }

    async fn poll_activity_task(
        &self,
        namespace: Namespace,
        request: api::PollActivityTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<ActivityTaskStarted>, Error> {
        if self.is(Mutant::StartTwice)
            && draw(0..10) == 0
            && let Some(again) = self.memory().activity.take()
        {
            return Ok(Some(again));
        }
        let task = self.node.poll_activity_task(namespace, request, timeout).await?;
        self.memory().activity.clone_from(&task);
        Ok(task)
    }

    async fn complete_workflow_task(
        &self,
        namespace: Namespace,
        mut token: TaskToken,
        request: api::RespondWorkflowTaskCompletedRequest,
    ) -> Result<WorkflowTaskCompletion, Error> {
        if self.is(Mutant::AcceptStaleToken)
            && let Some(last) = self.memory().tokens.get(&token.run_id)
        {
            token = last.clone();
        }
        let answer = self.node.complete_workflow_task(namespace, token, request).await?;
        self.started(&answer.workflow_task);
        Ok(answer)
    }

    async fn answer_query(
        &self,
        namespace: Namespace,
        token: TaskToken,
        request: api::RespondQueryTaskCompletedRequest,
    ) -> Result<(), Error> {
        self.node.answer_query(namespace, token, request).await
    }

    async fn query(
        &self,
        namespace: Namespace,
        request: api::QueryWorkflowRequest,
        timeout: Duration,
    ) -> Result<api::QueryWorkflowResponse, Error> {
        if self.is(Mutant::StaleQuery)
            && let Some(last) = self.memory().query.clone()
        {
            return Ok(last);
        }
        let answer = self.node.query(namespace, request, timeout).await?;
        self.memory().query = Some(answer.clone());
        Ok(answer)
    }

    async fn history(&self, namespace: Namespace, query: HistoryQuery) -> Result<HistoryPage, Error> {
        let mut page = self.node.history(namespace, query).await?;
        if self.is(Mutant::ShortPage) && page.next.is_some() && page.history.events.len() > 1 && draw(0..4) == 0 {
            page.history.events.pop();
        }
        Ok(page)
    }

    async fn describe(
        &self,
        namespace: Namespace,
        execution: WorkflowExecution,
    ) -> Result<api::DescribeWorkflowExecutionResponse, Error> {
        let key = (execution.workflow_id.clone(), execution.run_id.clone());
        if self.is(Mutant::StaleDescribe)
            && let Some(old) = self.memory().descriptions.remove(&key)
        {
            return Ok(old);
        }
        let answer = self.node.describe(namespace, execution).await?;
        self.memory().descriptions.insert(key, answer.clone());
        Ok(answer)
    }

    async fn list(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<ListPage, Error> {
        self.node.list(namespace, filter, page_size, page_token).await
    }

    async fn count(&self, namespace: Namespace, filter: String) -> Result<api::CountWorkflowExecutionsResponse, Error> {
        self.node.count(namespace, filter).await
    }

    async fn describe_task_queue(
        &self,
        namespace: Namespace,
        request: api::DescribeTaskQueueRequest,
    ) -> Result<api::DescribeTaskQueueResponse, Error> {
        self.node.describe_task_queue(namespace, request).await
    }

    async fn shutdown_worker(
        &self,
        namespace: Namespace,
        request: api::ShutdownWorkerRequest,
    ) -> Result<api::ShutdownWorkerResponse, Error> {
        self.node.shutdown_worker(namespace, request).await
    }

    async fn cluster_status(&self) -> mainstay_api::admin::GetClusterStatusResponse {
        self.node.cluster_status().await
    }
}
