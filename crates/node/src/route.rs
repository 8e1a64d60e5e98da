//! Where a call is carried out: at the leader of a group, wherever that is. Any node takes any call.
//!
//! A guess may be wrong, and a leader may die while a call is under way: then the call goes to the next leader, with the same command
//! id, so that a client sees latency and not an error. What a call does while this node leads is written elsewhere (`serve`,
//! `answer`); here it is only raced against the end of leadership.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::peer::{Answer, Call, answer, call};
use mainstay_consensus::PeerError;
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime, Select2, select2};
use prost::Message;

use crate::node::{METADATA_GROUP, Node};
use crate::slots::Place;
use crate::wire::Wire;

/// The service number of calls between nodes.
pub(crate) const SERVICE: u16 = 3;
/// How long a call looks for a leader, beyond what it waits for by itself.
pub(crate) const SEEK_WITHIN: Duration = Duration::from_secs(10);
/// A node that heard of no majority for so long, and then for some looks, is cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(2);
const CUT_OFF_LOOK_EVERY: Duration = Duration::from_millis(250);
const CUT_OFF_LOOKS: u32 = 4;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(25);

/// A call as carried out by this node. The argument says whether it may have happened before.
pub(crate) type Here<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl<R: Runtime> Node<R> {
    /// Carries out a call at the leader of the group of a place; looks for it as long as it takes, but at most [`SEEK_WITHIN`] beyond `within`.
    /// A node that is cut off from the others gives up sooner, so that its caller asks another.
    pub(crate) async fn at_leader<'a, T: Wire>(
        &'a self,
        place: impl Into<Place> + Send,
        within: Duration,
        call: impl Fn() -> call::Call + Send + Sync,
        here: impl Fn(bool) -> Here<'a, T> + Send + Sync,
    ) -> Result<T, Error> {
        let place = place.into();
        match select2(self.seek(place, within, call, here), self.cut_off(place)).await {
            Select2::First(result) => result,
            Select2::Second(()) => Err(Error::Unavailable(
                "this node does not hear of a majority of the others; ask another node, or try again".into(),
            )),
        }
    }

    /// Resolves when this node hears of too few others to do anything in a group, for a while.
    async fn cut_off(&self, place: Place) {
        let mut seen = 0;
        while seen < CUT_OFF_LOOKS {
            R::sleep(CUT_OFF_LOOK_EVERY).await;
            seen = if self.is_cut_off(self.group_at(place)) { seen + 1 } else { 0 };
        }
    }

    /// Whether this node and those that it heard of lately have no majority of a group's voters.
    fn is_cut_off(&self, group: u32) -> bool {
        // Who has no replica does not know the voters; but everybody has one of the metadata group.
        let group = if self.holds(group) { group } else { METADATA_GROUP };
        let (Some(peers), Ok(group)) = (self.peers(), self.group(group)) else { return false };
        let (voters, now) = (group.members().voters, R::Instant::now());
        let near =
            |id: &&u64| **id == self.id() || peers.last_heard(**id).is_some_and(|heard| now - heard <= CUT_OFF_AFTER);
        !voters.is_empty() && 2 * voters.iter().filter(near).count() <= voters.len()
    }

    async fn seek<'a, T: Wire>(
        &'a self,
        place: Place,
        within: Duration,
        call: impl Fn() -> call::Call + Send + Sync,
        here: impl Fn(bool) -> Here<'a, T> + Send + Sync,
    ) -> Result<T, Error> {
        let (begun, mut hint, mut may_repeat, mut tries) = (R::Instant::now(), None, false, 0);
        let mut before = None;
        loop {
            let me = self.id();
            let group = self.group_at(place);
            if before.replace(group).is_some_and(|before| before != group) {
                hint = None;
            }
            let leader = hint.take().filter(|node| *node != me).or_else(|| self.known_leader(group));
            // Who has no replica does not hear of leaders: those who have, or any member, know more.
            let leader = leader.or_else(|| self.some_holder(group, tries)).or_else(|| self.somebody(tries));
            tries += 1;
            let left = within.saturating_sub(R::Instant::now() - begun);
            if self.is_on_its_way(place, group) {
                // It waits until another group serves it.
            } else if self.board().leads(group) {
                match self.led(group, here(may_repeat)).await {
                    Err(Error::Moved) => may_repeat = true,
                    result => return result,
                }
            } else if let Some(leader) = leader.filter(|leader| *leader != me) {
                let asked = self.call_leader::<T>(leader, (group, place), call(), left + SEEK_WITHIN);
                match select2(asked, self.another_leader(group, leader)).await {
                    Select2::First(Ok(Asked::Done(result))) => return result,
                    // Who says that it leads itself does so in a moment, when it has applied what was before. Leadership may have
                    // ended while the command was in the log already.
                    Select2::First(Ok(Asked::Moved(next))) => {
                        hint = next.filter(|next| *next != leader);
                        may_repeat = true;
                    }
                    Select2::First(Err(PeerError::Unreachable(_))) => {}
                    Select2::First(Err(_)) | Select2::Second(()) => may_repeat = true,
                }
            }
            if R::Instant::now() - begun >= within + SEEK_WITHIN || self.is_stopped() {
                return Err(Error::Unavailable(format!("shard {group} has no leader that answers; try again")));
            }
            if hint.is_none() {
                self.pause(group).await;
            }
        }
    }

    /// As [`Node::at_leader`], for reads: what is answered is not older than the call.
    pub(crate) async fn read_at_leader<'a, T: Wire + 'a>(
        &'a self,
        place: impl Into<Place> + Send,
        within: Duration,
        call: impl Fn() -> call::Call + Send + Sync,
        here: impl Fn() -> Here<'a, T> + Send + Sync,
    ) -> Result<T, Error> {
        let place = place.into();
        self.at_leader(place, within, call, |_| {
            let read = here();
            Box::pin(async move {
                self.confirm(self.group_at(place)).await?;
                read.await
            })
        })
        .await
    }

    /// The leader of a group, as the replica here knows; what one remembers that is gone, or came back and was not rebuilt yet, is old.
    pub(crate) fn known_leader(&self, group: u32) -> Option<u64> {
        let is_member = self.holds(group) && !self.is_fenced(group);
        self.group(group).ok().filter(|_| is_member)?.leader()
    }

    /// Another member, a different one at each try.
    fn somebody(&self, tries: usize) -> Option<u64> {
        let founders = self.clustering().map(|clustering| clustering.founders.as_slice()).unwrap_or_default();
        let others: Vec<u64> = founders.iter().map(|member| member.node_id).filter(|id| *id != self.id()).collect();
        others.get(tries % others.len().max(1)).copied()
    }

    /// Waits a little, or until the leader changes.
    async fn pause(&self, group: u32) {
        match self.group(group) {
            Ok(group) => drop(select2(group.leadership_changed(), R::sleep(PAUSE)).await),
            // It is being opened.
            Err(_) => R::sleep(PAUSE).await,
        }
    }

    /// Does something as the leader of a group, until it is done or leadership ends.
    pub(crate) async fn led<T: Send>(
        &self,
        group: u32,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        if !self.board().leads(group) {
            return Err(Error::Moved);
        }
        match select2(work, self.lost(group)).await {
            // It met what is damaged here; the next leader has sound rows.
            Select2::First(Err(_)) if self.is_fenced(group) => Err(Error::Moved),
            Select2::First(result) => result,
            Select2::Second(()) => Err(Error::Moved),
        }
    }

    /// Makes sure that this node leads the group now, and has applied all that was committed.
    pub(crate) async fn confirm(&self, group: u32) -> Result<(), Error> {
        self.group(group)?.read_index().await.map_err(|_| Error::Moved)?;
        // A fenced replica has not applied what it counts as applied.
        if self.is_fenced(group) { Err(Error::Moved) } else { Ok(()) }
    }

    /// Calls another node.
    pub(crate) fn call_node<T: Wire>(
        &self,
        node: u64,
        group: u32,
        call: call::Call,
        within: Duration,
    ) -> impl Future<Output = Result<Asked<T>, PeerError>> + Send {
        self.call_leader(node, (group, Place::Group(group)), call, within)
    }

    /// Calls another node as the leader of the group of a place.
    fn call_leader<T: Wire>(
        &self,
        node: u64,
        (group, place): (u32, Place),
        call: call::Call,
        within: Duration,
    ) -> impl Future<Output = Result<Asked<T>, PeerError>> + Send {
        // Encoded before it waits: a future that held the message would be as large as the largest of messages.
        let (measured, begun) = (self.board().meter.calls.begin(&call), R::Instant::now());
        let within_ms = u64::try_from(within.saturating_sub(SEEK_WITHIN).as_millis()).unwrap_or(u64::MAX);
        let slot_and_one = match place {
            Place::Slot(slot) => u32::from(slot) + 1,
            Place::Group(_) => 0,
        };
        let call: Bytes = Call { group, within_ms, slot_and_one, call: Some(call) }.encode_to_vec().into();
        async move {
            let Some(peers) = self.peers() else { return Err(PeerError::Unreachable("this node is alone".into())) };
            let answer = peers.call(node, SERVICE, call, within).await;
            measured.ended(R::Instant::now() - begun, answer.is_err());
            answer.map(read_answer)
        }
    }
}

/// What a node answered.
pub(crate) enum Asked<T> {
    Done(Result<T, Error>),
    /// It is not the one to ask; perhaps it knows who is.
    Moved(Option<u64>),
}

impl<T> Asked<T> {
    /// For calls that are no group's: a node that says that it is another's is not available.
    pub(crate) fn result(self) -> Result<T, Error> {
        match self {
            Self::Done(result) => result,
            Self::Moved(_) => Err(Error::Moved),
        }
    }
}

fn read_answer<T: Wire>(bytes: Bytes) -> Asked<T> {
    let unreadable = |error: prost::DecodeError| Error::Internal(format!("a node's answer cannot be read: {error}"));
    match Answer::decode(bytes).map(|answer| answer.answer) {
        Ok(Some(answer::Answer::Done(done))) => Asked::Done(T::of_wire(done).map_err(unreadable)),
        Ok(Some(answer::Answer::Refused(refusal))) => Asked::Done(Err(refusal.into())),
        Ok(Some(answer::Answer::Moved(moved))) => Asked::Moved(Some(moved.leader).filter(|leader| *leader != 0)),
        Ok(None) => Asked::Done(Err(Error::Internal("a node's answer is of a newer version".into()))),
        Err(error) => Asked::Done(Err(unreadable(error))),
    }
}
