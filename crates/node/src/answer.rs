//! What other nodes ask of this one: as the leader of a group, as the owner of a task queue, or as itself.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::peer::{self, Answer, Call, Flag, Given as GivenAway, ReadIndex, call};
use mainstay_base::Timestamp;
use mainstay_consensus::Handler;
use mainstay_engine::{EntityKey, Error};
use mainstay_matching::Poller;
use mainstay_runtime::{Instant, Runtime};
use prost::Message;

use crate::execute::Proposal;
use crate::node::{Node, WeakNode};
use crate::service::Patience;
use crate::wire::{self, Wire};

/// Answers calls for as long as the node is there.
pub(crate) struct Door<R: Runtime>(pub(crate) WeakNode<R>);

impl<R: Runtime> Handler for Door<R> {
    fn handle(&self, _from: u64, body: Bytes) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> {
        let node = self.0.upgrade();
        Box::pin(async move {
            let node = node.filter(|node| !node.is_stopped()).ok_or("the node is stopping")?;
            let call = Call::decode(body).map_err(|error| format!("a call that cannot be read: {error}"))?;
            Ok(node.answer(call).await.encode_to_vec().into())
        })
    }
}

/// An answer under way. Boxed one by one: together they would be one future as large as the largest of them, many times over.
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl<R: Runtime> Node<R> {
    fn answer(self, call: Call) -> Answering {
        let Call { group, within_ms, slot_and_one, call } = call;
        let within = Duration::from_millis(within_ms);
        let slot = slot_and_one.checked_sub(1).and_then(|slot| u16::try_from(slot).ok());
        // Another group serves it, or will soon: the caller looks again.
        if slot.is_some_and(|slot| self.board().leads(group) && !self.board().slots.serves(group, slot)) {
            return Box::pin(async { wire::answer::<()>(Err(Error::Moved), None) });
        }
        match call {
            None => Box::pin(async { unknown() }),
            Some(call) => self.answer_as_leader(group, within, call),
        }
    }

    /// Does something as the leader of a group, and answers what came of it.
    fn leading<T: Wire + 'static, F>(self, group: u32, work: impl FnOnce(Self) -> F + Send + 'static) -> Answering
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        Box::pin(async move {
            let result = self.led(group, Box::pin(work(self.clone()))).await;
            wire::answer(result, self.known_leader(group))
        })
    }

    /// The same for a read, which must not be older than the call.
    fn reading<T: Wire + 'static, F>(self, group: u32, work: impl FnOnce(Self) -> F + Send + 'static) -> Answering
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.leading(group, move |node| async move {
            node.confirm(group).await?;
            work(node).await
        })
    }

    fn answer_as_leader(self, group: u32, within: Duration, call: call::Call) -> Answering {
        use call::Call as C;
        let repeated = |command_id| Proposal { command_id, may_repeat: true };
        match call {
            C::Execute(asked) => self.leading(group, move |node| async move {
                node.propose_here(group, asked.command.unwrap_or_default(), repeated(asked.command_id)).await
            }),
            C::CompleteTask(started) => self.reading(group, move |node| async move { node.task_of(started) }),
            C::BeginWorkflowTask(begin) => {
                self.leading(group, move |node| async move { node.begin_workflow_here(group, begin).await })
            }
            C::BeginActivityTask(begin) => {
                self.leading(group, move |node| async move { node.begin_activity_here(group, begin).await })
            }
            C::CompleteWorkflowTask(asked) => self.leading(group, move |node| async move {
                let (token, request) = (asked.token.unwrap_or_default(), asked.request.unwrap_or_default());
                node.complete_workflow(token, request, repeated(asked.command_id)).await
            }),
            C::AnswerQuery(asked) => self.leading(group, move |node| async move {
                node.answer_question(&asked.query_id, asked.request.unwrap_or_default())
            }),
            C::PutNamespace(record) => {
                self.leading(group, move |node| async move { node.store_and_tell(record).await })
            }
            call => self.answer_as_reader(group, within, call),
        }
    }

    fn answer_as_reader(self, group: u32, within: Duration, call: call::Call) -> Answering {
        use call::Call as C;
        match call {
            C::Query(asked) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&asked.namespace_id).await?;
                node.ask(namespace, asked.request.unwrap_or_default(), within).await
            }),
            C::Update(asked) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&asked.namespace_id).await?;
                let patience = Patience { timeout: within, is_callers: asked.is_callers };
                node.update_workflow(namespace, asked.request.unwrap_or_default(), patience).await
            }),
            C::PollUpdate(asked) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&asked.namespace_id).await?;
                let patience = Patience { timeout: within, is_callers: asked.is_callers };
                node.await_known_update(namespace, asked.request.unwrap_or_default(), patience).await
            }),
            C::UpdateWithStart(asked) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&asked.namespace_id).await?;
                let patience = Patience { timeout: within, is_callers: asked.is_callers };
                let (start, update) = (asked.start.unwrap_or_default(), asked.update.unwrap_or_default());
                node.start_and_update_here(namespace, start, update, patience).await
            }),
            C::History(query) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&query.namespace_id).await?;
                node.read_history(namespace, wire::own_history_query(query, within)).await
            }),
            C::Describe(asked) => self.reading(group, move |node| async move {
                let execution = asked.execution.unwrap_or_default();
                let entity = EntityKey { namespace_id: asked.namespace_id, workflow_id: execution.workflow_id };
                node.describe_here(&entity, &execution.run_id)
            }),
            C::ReadRows(asked) => self.reading(group, move |node| async move {
                let (ask, part) = node.asked_of(group, asked).await?;
                node.rows_at(ask, part).await
            }),
            C::CountRows(asked) => self.reading(group, move |node| async move {
                let (ask, part) = node.asked_of(group, asked).await?;
                node.count_at(ask, part).await
            }),
            call => self.answer_of_entities(group, within, call),
        }
    }

    fn answer_of_entities(self, group: u32, within: Duration, call: call::Call) -> Answering {
        use call::Call as C;
        match call {
            C::DescribeSchedule(asked) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&asked.namespace_id).await?;
                node.schedule_description(&namespace, &asked.id).await
            }),
            C::ScheduleTimes(asked) => self.reading(group, move |node| async move {
                let schedule = asked.schedule.unwrap_or_default();
                let namespace = node.named_namespace(&schedule.namespace_id).await?;
                let (from, to) = (Timestamp::from_nanos(asked.from_ns), Timestamp::from_nanos(asked.to_ns));
                let times = node.schedule_times_between(&namespace, &schedule.id, from, to)?;
                Ok(peer::Times { times })
            }),
            C::DescribeBatch(asked) => self.reading(group, move |node| async move {
                let namespace = node.named_namespace(&asked.namespace_id).await?;
                node.batch_description(&namespace, &asked.id)
            }),
            C::ResetPoint(asked) => self.reading(group, move |node| async move {
                let (operation, execution) = (asked.operation.unwrap_or_default(), asked.execution.unwrap_or_default());
                node.reset_point(&asked.namespace_id, &operation, &execution)
            }),
            C::ReadIndex(_) => {
                self.reading(group, move |node| async move { Ok(ReadIndex { index: node.applied(group)? }) })
            }
            call => self.answer_as_itself(within, call),
        }
    }

    fn answer_as_itself(self, within: Duration, call: call::Call) -> Answering {
        use call::Call as C;
        match call {
            C::Poll(poll) => Box::pin(async move { wire::answer(self.give_away(poll, within).await, None) }),
            C::AwaitNamespace(record) => {
                Box::pin(async move { wire::answer(self.await_namespace(&record).await, None) })
            }
            C::DescribeQueue(asked) => Box::pin(async move {
                let namespace = self.named_namespace(&asked.namespace_id).await;
                let request = asked.request.unwrap_or_default();
                wire::answer(namespace.map(|namespace| self.queue_description(&namespace, &request)), None)
            }),
            call => {
                let answer = self.answer_at_once(call);
                Box::pin(async { answer })
            }
        }
    }

    fn answer_at_once(&self, call: call::Call) -> Answer {
        use call::Call as C;
        match call {
            C::Unload(queue) => {
                self.board().dispatch.unload(wire::own_queue(queue), self.now());
                wire::answer(Ok(()), None)
            }
            C::HasPoller(queue) => {
                let yes = self.board().dispatch.has_recent_poller(&wire::own_queue(queue), self.now());
                wire::answer(Ok(Flag { yes }), None)
            }
            C::Offers(offers) => {
                for offer in &offers.offers {
                    if let Some(peer::offer::What::StickyUnavailable(id)) = &offer.what
                        && let Some(question) = self.board().questions.find(id)
                    {
                        question.sticky_unavailable();
                    }
                }
                self.board().dispatch.receive(offers, self.now());
                wire::answer(Ok(()), None)
            }
            C::TakeQuery(take) => {
                let question = self.board().questions.find(&take.id);
                let task = question.map_or(Ok(None), |question| self.query_task(&question, take.sticky));
                wire::answer(task, None)
            }
            C::TakeSpeculative(take) => wire::answer(self.give_speculative(&take), None),
            C::Status(_) => wire::answer(Ok(self.own_status()), None),
            _ => unknown(),
        }
    }

    /// Lets a poller of another node wait here, if this node owns its queue.
    async fn give_away(&self, poll: peer::Poll, within: Duration) -> Result<GivenAway, Error> {
        let queue = wire::own_queue(poll.queue.unwrap_or_default());
        let owners = self.board().dispatch.owners();
        if poll.epoch <= owners.epoch && !owners.is_mine(&queue) {
            return Err(Error::Moved);
        }
        let peer::Poll { identity, rate_per_second, build_id, .. } = poll;
        let poller = Poller { id: 0, identity, rate_per_second, build_id };
        let mut waiting = self.board().dispatch.poll(queue.clone(), poller, self.time());
        match self.within(R::Instant::now() + within, waiting.given()).await {
            Some(Ok(Some(given))) => Ok(GivenAway { offer: Some(given.offer(&queue, false, self.id())) }),
            Some(Err(moved)) => Err(moved),
            Some(Ok(None)) | None => Ok(GivenAway { offer: None }),
        }
    }
}

fn unknown() -> Answer {
    wire::answer::<()>(Err(Error::Unimplemented("a call of a newer version".into())), None)
}
