//! Updates that no event tells of yet, and the speculative workflow tasks that carry them. They live in the leader's memory only: a
//! caller that loses its node asks again.
//!
//! An update is *admitted* until a worker is sent it with the start of a workflow task. An acceptance makes a row of it, and it is
//! forgotten here; a rejection, or whatever ends it before, is its [`Fate`]. If the task that carried it ends without an answer, the
//! next one carries it again. This module keeps the books; which task a run needs is decided by [`crate::speculative`].
//!
//! One that a reset brought back is here only while somebody waits for it. History brings it to its worker, so it needs neither a message
//! nor a task of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use mainstay_api::log::{Command, SpeculativeTask, command::Op};
use mainstay_api::record::{RunRecord, WorkflowTaskRecord};
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::protocol::v1::{Message, message::SequencingId};
use mainstay_api::temporal::update::v1::Request;
use mainstay_base::{RunId, limits};
use mainstay_engine::{EntityKey, Error, speculative};
use prost::Message as _;
use tokio::sync::Notify;

use crate::lock;

/// How an update ended without an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// By its worker, or for it.
    Rejected(Failure),
    /// What its callers are told.
    Aborted(Error),
}

/// One update under way.
pub(crate) struct Update {
    pub(crate) id: String,
    pub(crate) request: Request,
    fate: Mutex<Option<Fate>>,
}

impl Update {
    pub(crate) fn new(request: Request) -> Arc<Self> {
        let id = request.meta.as_ref().map(|meta| meta.update_id.clone()).unwrap_or_default();
        Arc::new(Self { id, request, fate: Mutex::default() })
    }

    pub(crate) fn fate(&self) -> Option<Fate> {
        lock(&self.fate).clone()
    }

    fn end(&self, fate: Fate) {
        lock(&self.fate).get_or_insert(fate);
    }

    /// As a worker is sent it.
    fn message(&self, sequencing_event_id: i64) -> Message {
        let body = prost_types::Any {
            type_url: "type.googleapis.com/temporal.api.update.v1.Request".into(),
            value: self.request.encode_to_vec(),
        };
        Message {
            id: format!("{}/request", self.id),
            protocol_instance_id: self.id.clone(),
            sequencing_id: Some(SequencingId::EventId(sequencing_event_id)),
            body: Some(body),
        }
    }
}

struct Waiting {
    update: Arc<Update>,
    /// When the task started that it was sent with; 0 if it is only admitted.
    sent_ns: i64,
    /// It was sent, but must be sent again unless its worker answers.
    again: bool,
    /// A reset brought it back.
    in_history: bool,
}

impl Waiting {
    fn admitted(update: Arc<Update>) -> Self {
        Self { update, sent_ns: 0, again: false, in_history: false }
    }
}

#[derive(Default)]
struct OfRun {
    /// Its shard.
    group: u32,
    /// In the order of their admission.
    waiting: Vec<Waiting>,
    task: Option<WorkflowTaskRecord>,
    /// Completions of this run's task that are being applied.
    held: usize,
}

impl OfRun {
    /// Whether an update waits that only a message can bring to a worker.
    fn needs_task(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.in_history)
    }
}

type Key = (EntityKey, RunId);

/// An update that comes with the start of its run.
struct Starting {
    entity: EntityKey,
    request_id: String,
    update: Arc<Update>,
}

#[derive(Default)]
struct Books {
    runs: BTreeMap<Key, OfRun>,
    starting: Vec<Starting>,
    /// Runs that changed since they were last looked at.
    touched: BTreeSet<Key>,
    last_id: u64,
}

/// All updates under way on this node.
#[derive(Default)]
pub(crate) struct Updates {
    books: Mutex<Books>,
    /// Held while a run is read and what is kept of it is changed: a later state is never replaced by an earlier.
    settling: Mutex<()>,
    pub(crate) changed: Notify,
}

/// What must follow from a look at a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Consequence {
    /// A speculative task to offer.
    pub(crate) offer: Option<WorkflowTaskRecord>,
    /// The id of a speculative task that must not be taken any more.
    pub(crate) retract: Option<u64>,
    /// Somebody's update has ended.
    pub(crate) ended: bool,
}

/// A run as a look at it found it.
pub(crate) struct Look<'a> {
    pub(crate) record: Option<&'a RunRecord>,
    /// Ids of updates that history knows to be accepted.
    pub(crate) accepted: BTreeSet<String>,
    pub(crate) now: mainstay_base::Timestamp,
}

impl Updates {
    /// From the read of a run until what is kept of it is changed.
    pub(crate) fn settling(&self) -> MutexGuard<'_, ()> {
        lock(&self.settling)
    }

    /// The update with this id, while it is under way.
    pub(crate) fn find(&self, entity: &EntityKey, run: RunId, id: &str) -> Option<Arc<Update>> {
        let books = lock(&self.books);
        let of_run = books.runs.get(&(entity.clone(), run))?;
        of_run.waiting.iter().map(|waiting| &waiting.update).find(|update| update.id == id).cloned()
    }

    /// Ids of a run's updates under way.
    pub(crate) fn ids(&self, entity: &EntityKey, run: RunId) -> Vec<String> {
        let books = lock(&self.books);
        let of_run = books.runs.get(&(entity.clone(), run));
        of_run.map(|of| of.waiting.iter().map(|w| w.update.id.clone()).collect()).unwrap_or_default()
    }

    /// Admits an update to an open run, if its limits allow.
    pub(crate) fn admit(
        &self,
        group: u32,
        entity: &EntityKey,
        run: RunId,
        record: &RunRecord,
        update: Arc<Update>,
    ) -> Result<(), Error> {
        let mut books = lock(&self.books);
        let key = (entity.clone(), run);
        if let Some(of_run) = books.runs.get(&key) {
            check_limits(record, &of_run.waiting, &update)?;
        } else {
            check_limits(record, &[], &update)?;
        }
        let of_run = books.runs.entry(key).or_default();
        of_run.group = group;
        of_run.waiting.push(Waiting::admitted(update));
        Ok(())
    }

    /// Somebody waits for an update that a reset brought back. `sent_ns`: when the task started that brought it to a worker who has not
    /// answered; 0 if the next one does.
    pub(crate) fn follow(&self, group: u32, entity: &EntityKey, run: RunId, update: Arc<Update>, sent_ns: i64) {
        let mut books = lock(&self.books);
        let of_run = books.runs.entry((entity.clone(), run)).or_default();
        of_run.group = group;
        of_run.waiting.push(Waiting { update, sent_ns, again: false, in_history: true });
    }

    /// Keeps an update for the run that a start with this request id is about to begin.
    pub(crate) fn expect_start(&self, entity: &EntityKey, request_id: &str, update: Arc<Update>) {
        let starting = Starting { entity: entity.clone(), request_id: request_id.to_string(), update };
        lock(&self.books).starting.push(starting);
    }

    /// The start is over: the update is no longer kept for it. Answers whether it still was.
    pub(crate) fn forget_start(&self, update: &Arc<Update>) -> bool {
        let mut books = lock(&self.books);
        let before = books.starting.len();
        books.starting.retain(|starting| !Arc::ptr_eq(&starting.update, update));
        books.starting.len() < before
    }

    /// Whether any start is about to begin a run with an update.
    pub(crate) fn expects_starts(&self) -> bool {
        !lock(&self.books).starting.is_empty()
    }

    /// This node leads a group no longer: what it kept of its runs is void. Answers which runs, with their speculative tasks.
    pub(crate) fn abandon(&self, group: u32) -> Vec<(EntityKey, RunId, Option<u64>)> {
        let mut books = lock(&self.books);
        let lost = books.runs.extract_if(.., |_, of_run| of_run.group == group);
        lost.map(|((entity, run), mut of_run)| {
            let fate = Fate::Aborted(Error::Moved);
            of_run.waiting.drain(..).for_each(|waiting| waiting.update.end(fate.clone()));
            (entity, run, of_run.task.map(|task| task.speculative_id))
        })
        .collect()
    }

    /// A run began: its update is admitted before its first task is offered.
    pub(crate) fn started(&self, group: u32, entity: &EntityKey, run: RunId, request_id: &str) {
        let mut books = lock(&self.books);
        let Books { runs, starting, .. } = &mut *books;
        let is_of_run = |one: &Starting| one.entity == *entity && one.request_id == request_id;
        if !starting.iter().any(is_of_run) {
            return;
        }
        let of_run = runs.entry((entity.clone(), run)).or_default();
        of_run.group = group;
        let mut ids: BTreeSet<String> = of_run.waiting.iter().map(|waiting| waiting.update.id.clone()).collect();
        // A call that is repeated while its first try is under way brings the same update: a worker is sent one.
        let is_new = |one: &mut Starting| is_of_run(one) && ids.insert(one.update.id.clone());
        let begun = starting.extract_if(.., is_new).map(|one| Waiting::admitted(one.update));
        of_run.waiting.extend(begun);
    }

    /// The messages of a task that starts now: the run's updates under way, which count as sent with it. What its worker has from
    /// the task before, which it only prolonged, is not said again.
    pub(crate) fn send(
        &self,
        entity: &EntityKey,
        run: RunId,
        started_ns: i64,
        started_event_id: i64,
        prolonged: &BTreeSet<String>,
    ) -> Vec<Message> {
        let mut books = lock(&self.books);
        if books.runs.is_empty() {
            return Vec::new();
        }
        let Some(of_run) = books.runs.get_mut(&(entity.clone(), run)) else { return Vec::new() };
        for waiting in &mut of_run.waiting {
            (waiting.sent_ns, waiting.again) = (started_ns, false);
        }
        let is_new = |waiting: &&Waiting| !waiting.in_history && !prolonged.contains(&waiting.update.id);
        let new = of_run.waiting.iter().filter(is_new);
        new.map(|waiting| waiting.update.message(started_event_id - 1)).collect()
    }

    /// History knows these updates of a run: its rows tell of them from here on.
    pub(crate) fn forget(&self, entity: &EntityKey, run: RunId, accepted: &BTreeSet<String>) {
        let mut books = lock(&self.books);
        if let Some(of_run) = books.runs.get_mut(&(entity.clone(), run)) {
            of_run.waiting.retain(|waiting| !accepted.contains(&waiting.update.id));
        }
    }

    /// Whether updates wait for the next task: those that were not sent with the one that started then.
    pub(crate) fn wait_since(&self, entity: &EntityKey, run: RunId, started_ns: i64) -> bool {
        let books = lock(&self.books);
        let of_run = books.runs.get(&(entity.clone(), run));
        let waits = |waiting: &Waiting| !waiting.in_history && (waiting.again || waiting.sent_ns != started_ns);
        of_run.is_some_and(|of_run| of_run.waiting.iter().any(waits))
    }

    /// The requests that were sent with a task.
    pub(crate) fn sent_with(&self, entity: &EntityKey, run: RunId, started_ns: i64) -> Vec<Request> {
        let books = lock(&self.books);
        if books.runs.is_empty() {
            return Vec::new();
        }
        let of_run = books.runs.get(&(entity.clone(), run));
        let is_sent = |waiting: &&Waiting| !waiting.in_history && waiting.sent_ns == started_ns;
        let sent = of_run.into_iter().flat_map(|of| &of.waiting).filter(is_sent);
        sent.map(|waiting| waiting.update.request.clone()).collect()
    }

    /// Ends updates that were sent with a task, by id and by whether they must be sent again; others that were sent with it are
    /// admitted again.
    pub(crate) fn end_sent(
        &self,
        entity: &EntityKey,
        run: RunId,
        started_ns: i64,
        mut fate: impl FnMut(&str, bool) -> Option<Fate>,
    ) {
        let mut books = lock(&self.books);
        let Some(of_run) = books.runs.get_mut(&(entity.clone(), run)) else { return };
        of_run.waiting.retain_mut(|waiting| {
            if waiting.sent_ns != started_ns {
                return true;
            }
            let ended = fate(&waiting.update.id, std::mem::take(&mut waiting.again));
            waiting.sent_ns = 0;
            let stays = ended.is_none();
            ended.into_iter().for_each(|fate| waiting.update.end(fate));
            stays
        });
    }

    /// Ends those updates that were sent with a task of which its worker said something, by id.
    pub(crate) fn end_said(
        &self,
        entity: &EntityKey,
        run: RunId,
        started_ns: i64,
        said: impl Fn(&str) -> Option<Fate>,
    ) {
        let books = lock(&self.books);
        let of_run = books.runs.get(&(entity.clone(), run));
        for waiting in of_run.into_iter().flat_map(|of_run| &of_run.waiting) {
            if waiting.sent_ns == started_ns
                && let Some(fate) = said(&waiting.update.id)
            {
                waiting.update.end(fate);
            }
        }
    }

    /// Attaches to a command the speculative tasks of the runs that it may change.
    pub(crate) fn attach(&self, command: &mut Command) {
        let books = lock(&self.books);
        if books.runs.is_empty() {
            return;
        }
        let mut tasks = Vec::new();
        let mut add = |entity: &EntityKey| tasks.extend(tasks_of(&books, entity));
        let key = |namespace_id: &str, workflow_id: &str| EntityKey {
            namespace_id: namespace_id.to_string(),
            workflow_id: workflow_id.to_string(),
        };
        match &command.op {
            Some(Op::FireTimers(fire)) => {
                let entities: BTreeSet<EntityKey> =
                    fire.rows.iter().map(|row| key(&row.namespace_id, &row.workflow_id)).collect();
                entities.iter().for_each(&mut add);
            }
            Some(Op::DeliverMessages(deliver)) => {
                let entities: BTreeSet<EntityKey> =
                    deliver.messages.iter().map(|message| key(&message.namespace_id, &message.workflow_id)).collect();
                entities.iter().for_each(&mut add);
            }
            // Whoever brings outcomes back attached what their receivers need.
            Some(Op::AcknowledgeMessages(_)) => return,
            _ => add(&crate::execute::entity_of(command)),
        }
        command.speculative_tasks = tasks;
    }

    /// Attaches to a command the speculative tasks of the workflows that sent messages whose outcomes it brings.
    pub(crate) fn attach_of(&self, command: &mut Command, senders: &BTreeSet<EntityKey>) {
        let books = lock(&self.books);
        if !books.runs.is_empty() {
            command.speculative_tasks = senders.iter().flat_map(|sender| tasks_of(&books, sender)).collect();
        }
    }

    /// The speculative tasks of a workflow's runs.
    pub(crate) fn tasks(&self, entity: &EntityKey) -> Vec<SpeculativeTask> {
        tasks_of(&lock(&self.books), entity)
    }

    /// The speculative tasks of a group's runs that no worker has.
    pub(crate) fn unstarted(&self, group: u32) -> Vec<(EntityKey, RunId, WorkflowTaskRecord)> {
        let books = lock(&self.books);
        let of_group = books.runs.iter().filter(|(_, of_run)| of_run.group == group);
        of_group
            .filter_map(|((entity, run), of_run)| Some((entity.clone(), *run, of_run.task.clone()?)))
            .filter(|(_, _, task)| task.started_event_id == 0)
            .collect()
    }

    /// A run's speculative task.
    pub(crate) fn task(&self, entity: &EntityKey, run: RunId) -> Option<WorkflowTaskRecord> {
        let books = lock(&self.books);
        if books.runs.is_empty() {
            return None;
        }
        books.runs.get(&(entity.clone(), run))?.task.clone()
    }

    /// Replaces a run's speculative task by what became of it, if it is still there.
    pub(crate) fn replace_task(&self, entity: &EntityKey, run: RunId, task: WorkflowTaskRecord) {
        let mut books = lock(&self.books);
        let kept = books.runs.get_mut(&(entity.clone(), run)).and_then(|of_run| of_run.task.as_mut());
        if let Some(kept) = kept.filter(|kept| kept.speculative_id == task.speculative_id) {
            *kept = task;
        }
    }

    /// A call about a run was refused so that the reference server drops what it keeps of the run in memory: updates are admitted again
    /// by their callers' calls, which it repeats, and a speculative task that a worker has is void. Answers the task's id.
    pub(crate) fn drop_memory(&self, entity: &EntityKey, run: RunId) -> Option<u64> {
        let mut books = lock(&self.books);
        let of_run = books.runs.get_mut(&(entity.clone(), run))?;
        of_run.waiting.iter_mut().for_each(|waiting| waiting.again = waiting.sent_ns != 0);
        let void = of_run.task.take_if(|task| task.started_event_id != 0);
        drop(books);
        self.touch(entity, run);
        void.map(|task| task.speculative_id)
    }

    /// Apply changed a run.
    pub(crate) fn touch(&self, entity: &EntityKey, run: RunId) {
        let mut books = lock(&self.books);
        if books.runs.is_empty() {
            return;
        }
        let key = (entity.clone(), run);
        // While a completion is being applied, whoever sent it looks at the run afterwards.
        if books.runs.get(&key).is_some_and(|of_run| of_run.held == 0) {
            books.touched.insert(key);
            drop(books);
            self.changed.notify_one();
        }
    }

    pub(crate) fn take_touched(&self) -> BTreeSet<Key> {
        std::mem::take(&mut lock(&self.books).touched)
    }

    /// Nobody else looks after a run until this is released.
    pub(crate) fn hold(&self, entity: &EntityKey, run: RunId) {
        if let Some(of_run) = lock(&self.books).runs.get_mut(&(entity.clone(), run)) {
            of_run.held += 1;
        }
    }

    pub(crate) fn release(&self, entity: &EntityKey, run: RunId) {
        if let Some(of_run) = lock(&self.books).runs.get_mut(&(entity.clone(), run)) {
            of_run.held = of_run.held.saturating_sub(1);
        }
        self.touch(entity, run);
    }

    /// Brings what is kept of a run in line with its rows, and makes the speculative task that it needs.
    pub(crate) fn settle(&self, entity: &EntityKey, run: RunId, look: &Look<'_>, abort: &Error) -> Consequence {
        let mut guard = lock(&self.books);
        let books = &mut *guard;
        let key = (entity.clone(), run);
        let Some(of_run) = books.runs.get_mut(&key) else { return Consequence::default() };
        let mut consequence = Consequence::default();
        of_run.waiting.retain(|waiting| !look.accepted.contains(&waiting.update.id));
        let open = look.record.filter(|record| record.close_ns == 0);
        if open.is_none() {
            consequence.ended = !of_run.waiting.is_empty();
            of_run.waiting.drain(..).for_each(|waiting| waiting.update.end(Fate::Aborted(abort.clone())));
        }
        let needs_task = of_run.needs_task();
        let of_no_use = |task: &mut WorkflowTaskRecord| {
            let idle = !needs_task && task.started_event_id == 0;
            idle || !open.is_some_and(|record| speculative::fits(record, task))
        };
        if let Some(task) = of_run.task.take_if(of_no_use) {
            consequence.retract = Some(task.speculative_id);
        }
        if of_run.task.is_none() && of_run.held == 0 && needs_task {
            let id = next_id(&mut books.last_id, open, look.now);
            of_run.task = open.and_then(|record| speculative::schedule(record, id, look.now));
            consequence.offer.clone_from(&of_run.task);
        }
        if of_run.waiting.is_empty() && of_run.task.is_none() && of_run.held == 0 {
            books.runs.remove(&key);
        }
        consequence
    }

    /// Makes the speculative task that a run needs, for a worker that has just completed its last one. None if it needs none.
    pub(crate) fn schedule_inline(
        &self,
        entity: &EntityKey,
        run: RunId,
        record: &RunRecord,
        now: mainstay_base::Timestamp,
    ) -> Option<WorkflowTaskRecord> {
        let mut guard = lock(&self.books);
        let books = &mut *guard;
        let of_run = books.runs.get_mut(&(entity.clone(), run))?;
        if of_run.task.is_some() || !of_run.needs_task() {
            return None;
        }
        let id = next_id(&mut books.last_id, Some(record), now);
        of_run.task = speculative::schedule(record, id, now);
        of_run.task.clone()
    }
}

/// Larger than that of every speculative task before, also of one that an earlier leader made.
fn next_id(last: &mut u64, record: Option<&RunRecord>, now: mainstay_base::Timestamp) -> u64 {
    let ended = record.map_or(0, |record| record.ended_speculative_id);
    *last = (*last + 1).max(ended + 1).max(now.as_nanos().max(0).unsigned_abs());
    *last
}

fn tasks_of(books: &Books, entity: &EntityKey) -> Vec<SpeculativeTask> {
    let first = (entity.clone(), RunId::from_bytes([0; 16]));
    let of_entity = books.runs.range(first..).take_while(|((other, _), _)| other == entity);
    of_entity
        .filter_map(|((_, run), of_run)| {
            let task = of_run.task.clone()?;
            Some(SpeculativeTask { run_id: run.to_string(), task: Some(task) })
        })
        .collect()
}

fn check_limits(record: &RunRecord, waiting: &[Waiting], update: &Update) -> Result<(), Error> {
    let accepted = usize::try_from(record.open_update_count).unwrap_or(0);
    let limited =
        |message: String| Error::ResourceExhausted { cause: ResourceExhaustedCause::ConcurrentLimit, message };
    let max = limits::UPDATES_IN_FLIGHT_MAX;
    if waiting.len() + accepted >= max {
        let text = format!("limit on number of concurrent in-flight updates has been reached ({max})");
        return Err(limited(text));
    }
    let bytes: usize = waiting.iter().map(|w| w.update.request.encoded_len()).sum();
    let max = limits::UPDATES_IN_FLIGHT_BYTES_MAX;
    if bytes + update.request.encoded_len() > max {
        return Err(limited(format!("limit on total payload size of in-flight updates has been reached ({max})")));
    }
    let max = limits::UPDATES_MAX;
    if waiting.len() + usize::try_from(record.update_count).unwrap_or(0) >= max {
        let advice = "Make sure any duplicate updates share an Update ID so the server can deduplicate them, and \
                      consider rejecting updates that you aren't going to process";
        let text = format!("limit on number of total updates has been reached ({max}). {advice}");
        return Err(Error::FailedPrecondition(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mainstay_api::temporal::update::v1::Meta;

    use super::*;

    fn update(id: &str) -> Arc<Update> {
        let meta = Some(Meta { update_id: id.into(), ..Meta::default() });
        Update::new(Request { meta, ..Request::default() })
    }

    #[test]
    fn an_update_that_comes_with_two_tries_of_one_start_is_sent_once() {
        let (updates, run) = (Updates::default(), RunId::from_bytes([1; 16]));
        let entity = EntityKey { namespace_id: "n".into(), workflow_id: "w".into() };
        let (first, again, other) = (update("u"), update("u"), update("v"));
        updates.expect_start(&entity, "r", Arc::clone(&first));
        updates.expect_start(&entity, "r", Arc::clone(&again));
        updates.expect_start(&entity, "r", Arc::clone(&other));
        updates.started(1, &entity, run, "another start");
        assert!(updates.ids(&entity, run).is_empty());
        updates.started(1, &entity, run, "r");
        assert_eq!(updates.ids(&entity, run), ["u", "v"]);
        assert!(!updates.forget_start(&first) && !updates.forget_start(&other), "they wait for a worker");
        assert!(updates.forget_start(&again), "its caller follows the one that waits");
        let sent = updates.send(&entity, run, 5, 3, &BTreeSet::new());
        assert_eq!(sent.iter().map(|message| message.protocol_instance_id.as_str()).collect::<Vec<_>>(), ["u", "v"]);
    }
}
