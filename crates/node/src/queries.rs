//! Queries that wait for a worker. They live in memory only: a caller that loses its node asks again.
//!
//! A query is *direct* (a worker gets it as a task of its own) or *buffered* (it rides on the run's next workflow task). The asker
//! decides which and waits for [`News`]; who answers finds the question by its id, or by the run that it rides on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mainstay_api::peer::QueryOffer;
use mainstay_api::temporal::common::v1::Payloads;
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::query::v1::WorkflowQuery;
use mainstay_base::RunId;
use mainstay_engine::EntityKey;
use tokio::sync::mpsc;

use crate::lock;

/// A worker's answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Answered(Option<Payloads>),
    Failed { message: String, failure: Box<Failure> },
}

/// What an asker hears.
#[derive(Debug)]
pub(crate) enum News {
    Answered(Answer),
    /// A poller took the direct query.
    Taken,
    /// The sticky queue has no worker.
    StickyUnavailable,
    /// The workflow task that carried it ended without an answer: look again.
    Released,
}

/// One query under way.
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) entity: EntityKey,
    pub(crate) run: RunId,
    pub(crate) query: WorkflowQuery,
    news: mpsc::UnboundedSender<News>,
    /// A completion that may answer it is being applied.
    held: AtomicBool,
}

impl Question {
    pub(crate) fn new(
        id: String,
        entity: EntityKey,
        run: RunId,
        query: WorkflowQuery,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<News>) {
        let (news, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { id, entity, run, query, news, held: AtomicBool::new(false) }), receiver)
    }

    /// The query, for another node's queue.
    pub(crate) fn offer(&self, me: u64, sticky: bool) -> QueryOffer {
        QueryOffer {
            node: me,
            id: self.id.clone(),
            namespace_id: self.entity.namespace_id.clone(),
            workflow_id: self.entity.workflow_id.clone(),
            run_id: self.run.to_string(),
            sticky,
        }
    }

    /// Tells the asker that a poller has it; answers whether the asker still waits.
    pub(crate) fn taken(&self) -> bool {
        self.news.send(News::Taken).is_ok()
    }

    pub(crate) fn sticky_unavailable(&self) {
        let _gone = self.news.send(News::StickyUnavailable);
    }

    pub(crate) fn answer(&self, answer: Answer) -> bool {
        self.news.send(News::Answered(answer)).is_ok()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Asked {
    by_id: HashMap<String, Arc<Question>>,
    buffered: BTreeMap<(EntityKey, RunId), Vec<Arc<Question>>>,
}

/// All queries under way on this node.
#[derive(Default)]
pub(crate) struct Questions {
    asked: Mutex<Asked>,
}

/// Keeps a query known until its asker is gone.
pub(crate) struct Registered<'a> {
    questions: &'a Questions,
    question: Arc<Question>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut asked = lock(&self.questions.asked);
        asked.by_id.remove(&self.question.id);
        asked.unbuffer(&self.question);
    }
}

impl Asked {
    fn unbuffer(&mut self, question: &Question) {
        let key = (question.entity.clone(), question.run);
        if let Some(waiting) = self.buffered.get_mut(&key) {
            waiting.retain(|other| other.id != question.id);
            if waiting.is_empty() {
                self.buffered.remove(&key);
            }
        }
    }
}

impl Questions {
    pub(crate) fn register(&self, question: Arc<Question>) -> Registered<'_> {
        lock(&self.asked).by_id.insert(question.id.clone(), Arc::clone(&question));
        Registered { questions: self, question }
    }

    /// The query with this id, if its asker still waits.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Question>> {
        lock(&self.asked).by_id.get(id).cloned()
    }

    /// Lets a query wait for the run's next workflow task. Answers false if as many as may wait do.
    pub(crate) fn buffer(&self, question: &Arc<Question>, max: usize) -> bool {
        let mut asked = lock(&self.asked);
        let waiting = asked.buffered.entry((question.entity.clone(), question.run)).or_default();
        if waiting.iter().any(|other| other.id == question.id) {
            return true;
        }
        let fits = waiting.len() < max;
        if fits {
            waiting.push(Arc::clone(question));
        }
        fits
    }

    /// The query is no longer to ride on a workflow task.
    pub(crate) fn unbuffer(&self, question: &Question) {
        lock(&self.asked).unbuffer(question);
    }

    /// The queries that ride on a workflow task that starts now.
    pub(crate) fn attach(&self, entity: &EntityKey, run: RunId) -> BTreeMap<String, WorkflowQuery> {
        let waiting = self.waiting(entity, run);
        waiting.into_iter().map(|question| (question.id.clone(), question.query.clone())).collect()
    }

    fn waiting(&self, entity: &EntityKey, run: RunId) -> Vec<Arc<Question>> {
        let asked = lock(&self.asked);
        if asked.buffered.is_empty() {
            return Vec::new();
        }
        asked.buffered.get(&(entity.clone(), run)).cloned().unwrap_or_default()
    }

    /// A completion of the run's workflow task is about to be applied: its queries wait for what it says.
    pub(crate) fn hold(&self, entity: &EntityKey, run: RunId) -> Held {
        let questions = self.waiting(entity, run);
        questions.iter().for_each(|question| question.held.store(true, Ordering::Release));
        Held { questions }
    }
}

/// Queries whose asker waits for a completion. Dropping it releases them.
pub(crate) struct Held {
    questions: Vec<Arc<Question>>,
}

impl Held {
    /// Hands an answer to its asker.
    pub(crate) fn answer(&self, id: &str, answer: Answer) {
        if let Some(question) = self.questions.iter().find(|question| question.id == id) {
            question.answer(answer);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for question in &self.questions {
            question.held.store(false, Ordering::Release);
            let _gone = question.news.send(News::Released);
        }
    }
}
