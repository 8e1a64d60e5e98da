//! Groups in which nothing happens cost nothing: liveness is then a matter of nodes, not of groups.
//!
//! A leader whose group was idle for a while, and whose members all have everything, *offers* to be quiet. Offers to one node
//! travel together, a few times a second. A member *agrees* if it follows that leader, in that term, up to that entry: then its
//! clock for elections stands still for as long as offers keep coming, and it votes for nobody. If all members agreed, the
//! leader stops its heartbeats. So two nodes exchange one small message, however many groups they share.
//!
//! A leader that hands over makes no offers any more in its term: it sends no heartbeats then, and if the message to its successor is lost
//! it is the others' patience that ends the term.
//!
//! A group wakes with a proposal, when its leader or members change, when one member does not agree, and on a member when offers
//! stop coming: then the leader's node is suspected. A leader that wakes first asks a majority whether it still leads, since its
//! right to propose has run out meanwhile.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;

use crate::codec::Input;
use crate::peer::{RAFT_SERVICE, WeakPeers};
use crate::router::Router;
use crate::rpc::{self, Method};

/// How often offers are made.
const OFFER_EVERY: Duration = Duration::from_millis(300);
/// An offer that is not answered in this time was not agreed to.
const OFFER_WITHIN: Duration = Duration::from_millis(400);
/// A member suspects a leader that it did not hear of for this time, and up to [`SUSPECT_SPREAD`] longer, lest all groups and all
/// members stand for election at one moment.
const SUSPECT_AFTER: Duration = Duration::from_millis(1000);
const SUSPECT_SPREAD: Duration = Duration::from_millis(300);

/// A leader's word that nothing happens in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub group: u32,
    pub term: u64,
    /// The last entry, which is committed.
    pub last: u64,
}

/// Whether a replica sleeps, and why.
pub(crate) struct Quiet<R: Runtime>(Mutex<State<R>>);

struct State<R: Runtime> {
    asleep: bool,
    /// When something last happened.
    active: R::Instant,
    /// Until when the agreement holds.
    covered: Option<R::Instant>,
    /// The last term that this replica led and wanted to end.
    ceded: Option<u64>,
}

impl<R: Runtime> Quiet<R> {
    pub fn new() -> Self {
        Self(Mutex::new(State { asleep: false, active: R::Instant::now(), covered: None, ceded: None }))
    }

    fn state<T>(&self, with: impl FnOnce(&mut State<R>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something happens: no offers are made for a while.
    pub fn touch(&self) {
        self.state(|state| state.active = R::Instant::now());
    }

    /// The same, and it does not sleep any more. Whether it did.
    pub fn wake(&self) -> bool {
        self.state(|state| {
            state.active = R::Instant::now();
            state.covered = None;
            std::mem::replace(&mut state.asleep, false)
        })
    }

    /// Falls asleep, or goes on to sleep, for as long as there are new agreements. Whether it was awake.
    pub fn sleep(&self) -> bool {
        let spread = Duration::from_nanos((R::random() % SUSPECT_SPREAD.as_nanos()) as u64);
        let until = R::Instant::now() + SUSPECT_AFTER + spread;
        self.state(|state| {
            state.covered = Some(until);
            !std::mem::replace(&mut state.asleep, true)
        })
    }

    /// This replica does not want to lead any more in this term.
    pub fn cede(&self, term: u64) {
        self.state(|state| state.ceded = Some(term));
    }

    pub fn has_ceded(&self, term: u64) -> bool {
        self.state(|state| state.ceded == Some(term))
    }

    pub fn is_asleep(&self) -> bool {
        self.state(|state| state.asleep)
    }

    /// When something last happened.
    pub fn active(&self) -> R::Instant {
        self.state(|state| state.active)
    }

    pub fn is_idle(&self, after: Duration) -> bool {
        self.state(|state| R::Instant::now() - state.active > after)
    }

    /// Whether it sleeps, and the agreement holds.
    pub fn is_covered(&self) -> bool {
        self.state(|state| state.asleep && state.covered.is_some_and(|until| R::Instant::now() < until))
    }

    /// Whether it sleeps, and the agreement does not hold any more.
    pub fn is_orphaned(&self) -> bool {
        self.state(|state| state.asleep && state.covered.is_some_and(|until| R::Instant::now() >= until))
    }
}

/// Makes offers for all groups of a node, and looks for suspects, until the peers are stopped.
pub(crate) async fn run<R: Runtime>(peers: WeakPeers<R>) {
    loop {
        R::sleep(OFFER_EVERY).await;
        let Some(peers) = peers.upgrade() else { return };
        let groups = peers.router().replicas();
        let mut by_node: BTreeMap<u64, Vec<Offer>> = BTreeMap::new();
        let mut made = Vec::new();
        for group in groups {
            group.suspect();
            if let Some((offer, members)) = group.offer() {
                members.iter().for_each(|node| by_node.entry(*node).or_default().push(offer));
                made.push((group, offer, members));
            }
        }
        let asked = by_node.into_iter().map(|(node, offers)| {
            let message = encode(&offers);
            let peers = peers.clone();
            async move {
                let answer = peers.call(node, RAFT_SERVICE, message, OFFER_WITHIN).await;
                let agreed = answer.ok().and_then(|answer| decode_answer(answer).ok()).unwrap_or_default();
                (node, offers.into_iter().zip(agreed).filter(|(_, agreed)| *agreed).map(|(offer, _)| offer.group))
            }
        });
        let mut agreed: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (node, groups) in futures_util::future::join_all(asked).await {
            groups.for_each(|group| agreed.entry(group).or_default().push(node));
        }
        for (group, offer, members) in made {
            let by = agreed.get(&offer.group);
            group.settle(offer, members.iter().all(|member| by.is_some_and(|by| by.contains(member))));
        }
    }
}

/// Answers another node's offers: one byte for each.
pub(crate) fn hear(router: &Router, from: u64, body: Bytes) -> Result<Bytes, StorageError> {
    let mut input = Input::raw(body, "offers to be quiet");
    let mut agreed = Vec::new();
    for _ in 0..input.count(20)? {
        let offer = Offer { group: input.u32()?, term: input.u64()?, last: input.u64()? };
        let replica = router.replica(offer.group);
        agreed.push(u8::from(replica.is_some_and(|replica| replica.hear(from, offer))));
    }
    input.end()?;
    Ok(agreed.into())
}

fn encode(offers: &[Offer]) -> Bytes {
    let mut out = rpc::head(0, Method::Quiet, 4 + 20 * offers.len());
    out.put_u32(crate::codec::length(offers.len()));
    for Offer { group, term, last } in offers {
        out.put_u32(*group);
        out.put_u64(*term);
        out.put_u64(*last);
    }
    out.freeze()
}

fn decode_answer(answer: Bytes) -> Result<Vec<bool>, StorageError> {
    let mut input = Input::raw(answer, "answer to offers");
    let mut agreed = Vec::new();
    while !input.is_empty() {
        agreed.push(input.flag()?);
    }
    Ok(agreed)
}
