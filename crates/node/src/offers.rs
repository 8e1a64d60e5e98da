//! What leaders here tell the owners of task queues elsewhere: tasks that want a poller, and tasks that are gone.
//!
//! One list for each node, sent in order, a batch at a time, and again until it arrives. Nothing is lost for good: on a new epoch of
//! the cluster's members the lists are forgotten, and leaders offer all of their rows again. An owner offers a task that it gave to a
//! poller again, if the leader does not say within some seconds that it was started.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use mainstay_api::peer::{Offer, Offers, call};
use mainstay_runtime::{Instant, Runtime};
use tokio::sync::Notify;

use crate::lock;
use crate::node::Node;

/// Offers that travel together.
const BATCH: usize = 512;
const SEND_WITHIN: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Lists {
    waiting: BTreeMap<u64, VecDeque<Offer>>,
    /// Nodes that a batch is on its way to.
    busy: BTreeSet<u64>,
    epoch: u64,
}

/// Offers for other nodes.
#[derive(Default)]
pub(crate) struct Outbox {
    lists: Mutex<Lists>,
    ready: Notify,
}

impl Outbox {
    pub(crate) fn push(&self, node: u64, offer: Offer) {
        lock(&self.lists).waiting.entry(node).or_default().push_back(offer);
        self.ready.notify_one();
    }

    /// Forgets all offers: their queues may have other owners now.
    pub(crate) fn clear(&self, epoch: u64) {
        let mut lists = lock(&self.lists);
        lists.waiting.clear();
        lists.epoch = epoch;
    }

    /// A batch for each node that none is on its way to.
    fn take(&self) -> Vec<(u64, Offers)> {
        let mut lists = lock(&self.lists);
        let Lists { waiting, busy, epoch } = &mut *lists;
        let mut batches = Vec::new();
        for (node, list) in waiting.iter_mut() {
            if !list.is_empty() && busy.insert(*node) {
                let count = list.len().min(BATCH);
                batches.push((*node, Offers { epoch: *epoch, offers: list.drain(..count).collect() }));
            }
        }
        batches
    }

    /// A batch arrived, or did not and goes again.
    fn done(&self, node: u64, unsent: Option<Offers>) {
        let mut lists = lock(&self.lists);
        lists.busy.remove(&node);
        if let Some(Offers { epoch, offers }) = unsent
            && epoch == lists.epoch
        {
            let list = lists.waiting.entry(node).or_default();
            offers.into_iter().rev().for_each(|offer| list.push_front(offer));
        }
        drop(lists);
        self.ready.notify_one();
    }
}

/// Sends offers for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        let outbox = &node.board().dispatch.outbox;
        for (to, offers) in outbox.take() {
            drop(R::spawn(send(node.clone(), to, offers)));
        }
        let _woken = node.within(R::Instant::now() + Duration::from_secs(10), outbox.ready.notified()).await;
    }
}

async fn send<R: Runtime>(node: Node<R>, to: u64, offers: Offers) {
    let sent = node.call_node::<()>(to, 0, call::Call::Offers(offers.clone()), SEND_WITHIN).await;
    let unsent = if sent.is_ok() {
        None
    } else {
        R::sleep(RETRY_AFTER).await;
        Some(offers)
    };
    node.board().dispatch.outbox.done(to, unsent);
}
