//! Splits of shards: a new group takes over half of a shard's slots while both serve.
//!
//! The split is a row of the metadata group. Every node opens the new group when it learns of it; the members that vote in the source
//! vote there, too. The source's leader does the rest, in steps that the next leader finds done or does again: it copies rows until
//! little differs, has the source give the slots away (from here on calls for them wait), copies the rest until nothing
//! differs, has the target serve them, and tells the table, which sends the calls on. Lists that were begun by the older table
//! may go on for a while; then the source's rows are removed.
//!
//! Only one copies at a time: an entry of the target's log names the session, and what comes from another is refused there.

use std::time::Duration;

use mainstay_api::admin::{SplitShardRequest, SplitShardResponse};
use mainstay_api::log::{BeginArrival, Command, DropSlots, EndArrival, HoldSlots, ImportRows, PutSplit, command::Op};
use mainstay_api::record::{SlotsLeft, SplitRecord, SplitVoter, split_record::Phase};
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::replicas_of;

use crate::node::{METADATA_GROUP, Node};
use crate::unreadable;

/// How often nodes look whether they lead the source of a split that is under way, and whether there is one, if nothing wakes them.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const IDLE_FOR: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Slots are given away when this many rows or fewer differed at the last comparison, or after some comparisons.
const ROWS_LEFT: usize = 100;
const COMPARISONS_MAX: usize = 8;
/// How long reads by an older table may go on.
const DROP_AFTER: Duration = Duration::from_secs(15);
/// Rows that one entry removes.
const DROPPED_TOGETHER: u32 = 1_000;

/// Opens the groups that the table has, and sends messages where it says, for as long as the node runs.
pub(crate) async fn follow<R: Runtime>(node: Node<R>) {
    let mut known = 0;
    while !node.is_stopped() {
        let changed = node.board().slots.changed.notified();
        let placement = node.board().slots.placement();
        while node.group_count() <= placement.shards() {
            let number = node.group_count();
            if let Err(error) = node.open_group(number).await {
                R::fatal(&format!("group {number} did not start: {error}"));
            }
            let split = placement.splits().iter().find(|split| split.target == number);
            let first = split.and_then(|split| split.voters.first());
            if first.is_some_and(|first| first.node_id == node.id())
                && let Ok(group) = node.group(number)
            {
                // If it does not, another voter does when its patience ends.
                let _stood = group.stand_first().await;
            }
        }
        let served = placement.splits().iter().filter(|split| split.phase() != Phase::Copying).count();
        if std::mem::replace(&mut known, served) != served {
            node.send_anew();
        }
        let _woken = node.within(R::Instant::now() + IDLE_FOR, changed).await;
    }
}

/// Carries splits out for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        let changed = node.board().slots.changed.notified();
        let Some(split) = node.board().slots.placement().under_way().cloned() else {
            let _woken = node.within(R::Instant::now() + IDLE_FOR, changed).await;
            continue;
        };
        let mut rest = LOOK_EVERY;
        if node.board().leads(split.source)
            && let Err(error) = node.go_on_with(&split).await
        {
            let (shard, target) = (split.source, split.target);
            tracing::warn!(component = "splits", "shard-id" = shard, target, %error, "the split goes on later");
            rest = RETRY_AFTER;
        }
        node.rest_until(R::Instant::now() + rest).await;
    }
}

fn command(op: Op) -> Command {
    Command { op: Some(op), ..Command::default() }
}

/// Who copies.
struct Session {
    id: u64,
    /// Of the rows that were sent last.
    number: u64,
}

impl<R: Runtime> Node<R> {
    /// Decides that a shard is split.
    pub(crate) async fn decide_split(&self, request: SplitShardRequest) -> Result<SplitShardResponse, Error> {
        let refused = |reason: String| Err(Error::FailedPrecondition(reason));
        if self.is_alone() {
            return refused("this server is no cluster; its shards are not split".into());
        }
        self.catch_up(METADATA_GROUP).await?;
        let placement = self.board().slots.placement();
        if let Some(split) = placement.under_way() {
            return refused(format!("shard {} is being split; one at a time", split.source));
        }
        if replicas_of(&self.board().holders.now(), request.shard).is_some_and(|known| !known.placed) {
            return refused(format!(
                "a replica of shard {} is moving; when that is done it can be split",
                request.shard
            ));
        }
        let (from, to) = match placement.half_of(request.shard) {
            Ok(half) => half,
            Err(reason) => return refused(reason),
        };
        if self.is_undecided(request.shard) {
            return refused(format!(
                "which nodes have replicas of shard {} is about to be decided; try again in a moment",
                request.shard
            ));
        }
        let voters = self.voters_of(request.shard)?;
        let (source, target) = (request.shard, placement.shards() + 1);
        let split = SplitRecord { source, target, from, to, phase: Phase::Copying as i32, voters };
        let shards = placement.first_shards();
        self.propose(METADATA_GROUP, command(Op::PutSplit(PutSplit { split: Some(split.clone()), shards }))).await?;
        self.catch_up(METADATA_GROUP).await?;
        match self.board().slots.placement().splits().iter().find(|known| known.target == target) {
            Some(known) if (known.source, known.from) == (source, from) => {
                Ok(SplitShardResponse { split: Some(split) })
            }
            _ => refused("another split was decided at the same time; try again".into()),
        }
    }

    /// The voters of a group, its leader first.
    fn voters_of(&self, group: u32) -> Result<Vec<SplitVoter>, Error> {
        let (holders, cluster) = (self.board().holders.now(), self.board().members.now());
        let leader = self.known_leader(group);
        let mut nodes: Vec<u64> = self.group(group)?.members().voters.into_iter().collect();
        if let Some(decided) = replicas_of(&holders, group) {
            // Who has no replica does not know the voters.
            nodes.clone_from(&decided.nodes);
        }
        let mut voters: Vec<SplitVoter> = Vec::new();
        for node_id in nodes {
            let member = cluster.members.iter().find(|member| member.node_id == node_id);
            let peer_address = member.map(|member| member.peer_address.clone()).unwrap_or_default();
            voters.push(SplitVoter { node_id, peer_address });
        }
        voters.sort_by_key(|voter| (Some(voter.node_id) != leader, voter.node_id));
        Ok(voters)
    }

    /// Begins again to deliver what the groups led here have to deliver: some messages have another destination now.
    fn send_anew(&self) {
        for group in (1..self.group_count()).filter(|group| self.board().leads(*group)) {
            if let Some(outbox) = self.board().outboxes.get(group as usize) {
                outbox.clear();
            }
            if let Err(error) = self.load_outbox(group) {
                self.cannot_read(group, &error);
            }
        }
    }

    /// As the leader of the source.
    async fn go_on_with(&self, split: &SplitRecord) -> Result<(), Error> {
        let begun = R::Instant::now();
        if split.phase() == Phase::Copying {
            self.move_slots(split).await?;
            self.put_phase(split, Phase::Served).await?;
            let took_ms = (R::Instant::now() - begun).as_millis() as u64;
            let (shard, target) = (split.source, split.target);
            tracing::info!(component = "splits", "shard-id" = shard, target, took_ms, "the new shard serves its slots");
        }
        self.rest_until(R::Instant::now() + DROP_AFTER).await;
        while !self.shard(split.source)?.serving().map_err(unreadable)?.has_dropped(split.target) {
            let began = R::Instant::now();
            let some = DropSlots { target: split.target, rows_max: DROPPED_TOGETHER };
            self.led(split.source, self.propose(split.source, command(Op::DropSlots(some)))).await?;
            // Half of the time belongs to others.
            self.rest_until(R::Instant::now() + (R::Instant::now() - began)).await;
        }
        self.put_phase(split, Phase::Done).await
    }

    async fn put_phase(&self, split: &SplitRecord, phase: Phase) -> Result<(), Error> {
        let shards = self.board().slots.placement().first_shards();
        let split = SplitRecord { phase: phase as i32, ..split.clone() };
        self.propose(METADATA_GROUP, command(Op::PutSplit(PutSplit { split: Some(split), shards }))).await.map(drop)
    }

    /// Copies rows until the target has them all, and has it serve.
    async fn move_slots(&self, split: &SplitRecord) -> Result<(), Error> {
        let mut session = Session { id: (R::random() as u64).max(1), number: 0 };
        let id = session.id;
        self.propose(split.target, command(Op::BeginArrival(BeginArrival { session: id }))).await?;
        if self.has_arrived(split).await? {
            return Ok(());
        }
        for _ in 0..COMPARISONS_MAX {
            if self.copy(split, &mut session).await? <= ROWS_LEFT {
                break;
            }
        }
        let held = R::Instant::now();
        let slots = SlotsLeft { target: split.target, from: split.from, to: split.to, ..SlotsLeft::default() };
        self.propose(split.source, command(Op::HoldSlots(HoldSlots { slots: Some(slots) }))).await?;
        // From here on these rows do not change: what this replica has applied of them is all there is.
        if !self.shard(split.source)?.serving().map_err(unreadable)?.has_left_to(split.target) {
            return Err(Error::Moved);
        }
        while self.copy(split, &mut session).await? > 0 {}
        let source = self.shard(split.source)?;
        let serving = source.serving().map_err(unreadable)?;
        let end = EndArrival {
            session: id,
            now_ns: source.now().map_err(unreadable)?,
            sequence_base: serving.sequence_base() + self.applied(split.source)?,
        };
        self.propose(split.target, command(Op::EndArrival(end))).await?;
        if !self.has_arrived(split).await? {
            return Err(Error::Moved);
        }
        let held_ms = (R::Instant::now() - held).as_millis() as u64;
        tracing::info!(component = "splits", "shard-id" = split.target, held_ms, "all rows have arrived");
        Ok(())
    }

    async fn has_arrived(&self, split: &SplitRecord) -> Result<bool, Error> {
        self.catch_up(split.target).await?;
        Ok(self.shard(split.target)?.serving().map_err(unreadable)?.has_arrived())
    }

    /// Compares all rows once and sends what differs; answers how many that were, of those that the target must have exactly.
    async fn copy(&self, split: &SplitRecord, session: &mut Session) -> Result<usize, Error> {
        self.catch_up(split.target).await?;
        let arriving = self.shard(split.target)?.serving().map_err(unreadable)?;
        if !arriving.has_taken(session.id, session.number) {
            // Somebody else copies, or began to and does not any more: what this session sends is refused.
            return Err(Error::Moved);
        }
        let (mut position, mut differed) = (Vec::new(), 0);
        loop {
            let (node, split_here) = (self.clone(), split.clone());
            let found = R::disk(move || {
                let SplitRecord { source, target, from, to, .. } = split_here;
                let (source, target) = (node.shard(source)?, node.shard(target)?);
                source.differences(target, (from, to), &position).map_err(unreadable)
            })
            .await?;
            differed += found.exact;
            if !found.rows.is_empty() {
                session.number += 1;
                let (session, number) = (session.id, session.number);
                let import = ImportRows { session, number, rows: found.rows };
                self.led(split.source, self.propose(split.target, command(Op::ImportRows(import)))).await?;
            }
            match found.next {
                Some(next) => position = next,
                None => return Ok(differed),
            }
        }
    }
}
