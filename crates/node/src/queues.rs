//! Task queues as this node's callers see them: polls and questions go to the node that owns the queue.

use std::time::Duration;

use mainstay_api::peer::{self, Flag, Given as GivenAway, call, offer::What};
use mainstay_api::temporal::workflowservice::v1::{DescribeTaskQueueRequest, DescribeTaskQueueResponse};
use mainstay_engine::Error;
use mainstay_matching::{Poller, QueueKey, QueueKind};
use mainstay_runtime::{Instant, Runtime, Select2, select2};

use crate::dispatch::Given;
use crate::node::Node;
use crate::route::SEEK_WITHIN;
use crate::service::{Namespace, WorkflowTask};
use crate::wire;

const ASK_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(25);

impl<R: Runtime> Node<R> {
    /// The next task of a queue for a poller; none when the time is up.
    pub(crate) async fn next_given(&self, queue: &QueueKey, poller: &Poller, deadline: R::Instant) -> Option<Given> {
        loop {
            let owners = self.board().dispatch.owners();
            let owner = owners.of(queue);
            if owner == self.id() {
                let mut poll = self.board().dispatch.poll(queue.clone(), poller.clone(), self.time());
                if let Ok(given) = self.within(deadline, poll.given()).await? {
                    return given;
                }
            } else {
                let asked = self.poll_at(owner, owners.epoch, queue, poller, deadline);
                match self.within(deadline, select2(asked, self.board().members.divided_after(owners.epoch))).await? {
                    Select2::First(Ok(given)) => return given,
                    Select2::First(Err(_)) => R::sleep(PAUSE).await,
                    Select2::Second(()) => {}
                }
            }
            if self.is_stopped() || R::Instant::now() >= deadline {
                return None;
            }
        }
    }

    async fn poll_at(
        &self,
        owner: u64,
        epoch: u64,
        queue: &QueueKey,
        poller: &Poller,
        deadline: R::Instant,
    ) -> Result<Option<Given>, Error> {
        let poll = peer::Poll {
            queue: Some(wire::queue(queue)),
            identity: poller.identity.clone(),
            rate_per_second: poller.rate_per_second,
            build_id: poller.build_id.clone(),
            epoch,
        };
        let left = deadline - R::Instant::now();
        let asked = self.call_node::<GivenAway>(owner, 0, call::Call::Poll(poll), left + SEEK_WITHIN).await;
        let offer = asked.map_err(|error| Error::Unavailable(error.to_string()))?.result()?.offer;
        let Some(offer) = offer else { return Ok(None) };
        match offer.what {
            Some(What::Row(row)) => Ok(Some(Given::Row { group: offer.group, row })),
            Some(What::Query(query)) => Ok(Some(Given::Distant(query))),
            Some(What::Speculative(offer)) => Ok(Some(Given::Speculative(offer))),
            _ => Ok(None),
        }
    }

    /// A query that was given to a poller, as its asker's node makes a task of it. None if the asker is gone.
    pub(crate) async fn take_query(
        &self,
        query: peer::QueryOffer,
        sticky: bool,
    ) -> Result<Option<WorkflowTask>, Error> {
        if query.node == self.id() {
            let question = self.board().questions.find(&query.id);
            return question.map_or(Ok(None), |question| self.query_task(&question, sticky));
        }
        self.take_at(query.node, call::Call::TakeQuery(peer::TakeQuery { id: query.id, sticky })).await
    }

    /// A task that is in another node's memory. None if that does not answer: an asker asks again, and a speculative task times out.
    async fn take_at(&self, node: u64, take: call::Call) -> Result<Option<WorkflowTask>, Error> {
        match self.call_node::<Option<WorkflowTask>>(node, 0, take, ASK_WITHIN).await {
            Ok(asked) => asked.result(),
            Err(_) => Ok(None),
        }
    }

    /// A speculative task that was given to a poller, as its leader starts it. None if it is gone.
    pub(crate) async fn take_speculative(&self, take: peer::TakeSpeculative) -> Result<Option<WorkflowTask>, Error> {
        let leader = take.offer.as_ref().and_then(|offer| offer.key).unwrap_or_default().node;
        if leader == self.id() {
            return self.give_speculative(&take);
        }
        self.take_at(leader, call::Call::TakeSpeculative(take)).await
    }

    /// Whether a worker polls a queue, or did just now.
    pub(crate) async fn has_recent_poller(&self, queue: &QueueKey) -> bool {
        let owner = self.board().dispatch.owners().of(queue);
        if owner == self.id() {
            return self.board().dispatch.has_recent_poller(queue, self.now());
        }
        let asked = self.call_node::<Flag>(owner, 0, call::Call::HasPoller(wire::queue(queue)), ASK_WITHIN).await;
        asked.is_ok_and(|asked| asked.result().is_ok_and(|flag| flag.yes))
    }

    /// What people see of a queue.
    pub(crate) async fn describe_queue(
        &self,
        namespace: &Namespace,
        request: DescribeTaskQueueRequest,
    ) -> Result<DescribeTaskQueueResponse, Error> {
        let name = request.task_queue.clone().unwrap_or_default().name;
        let key = QueueKey { namespace_id: namespace.id.clone(), name, kind: QueueKind::Workflow };
        let owner = self.board().dispatch.owners().of(&key);
        if owner == self.id() {
            return Ok(self.queue_description(namespace, &request));
        }
        let asked = peer::DescribeQueue { namespace_id: namespace.id.clone(), request: Some(request) };
        let answer = self.call_node(owner, 0, call::Call::DescribeQueue(asked), ASK_WITHIN).await;
        answer.map_err(|error| Error::Unavailable(error.to_string()))?.result()
    }

    /// The worker behind a queue is gone.
    pub(crate) async fn unload(&self, queue: QueueKey) {
        let owner = self.board().dispatch.owners().of(&queue);
        if owner == self.id() {
            self.board().dispatch.unload(queue, self.now());
        } else {
            // If it does not arrive, the queue is unloaded for want of pollers soon.
            let _told = self.call_node::<()>(owner, 0, call::Call::Unload(wire::queue(&queue)), ASK_WITHIN).await;
        }
    }
}
