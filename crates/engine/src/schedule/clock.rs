//! Time: which times have come, what is missed, and when the schedule looks next.

use mainstay_api::log::Reply;
use mainstay_api::record::{BufferedAction, ScheduleRecord, TimerRow};
use mainstay_api::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;
use mainstay_base::Timestamp;
use mainstay_calendar::Occurrence;

use crate::convert::{time, time_ns};
use crate::transaction::Transaction;
use crate::{Answer, ScheduleNote, empty};

use super::{SECOND, Schedule, definition_row, state_row};

/// Actions that wait at most; more are dropped and counted.
const BUFFER_MAX: usize = 1_000;
/// Backfills fill the buffer only so far, to leave room for what comes by the clock.
const BACKFILL_ROOM: usize = BUFFER_MAX / 2;
/// Times looked at in one transition; the rest follows in the next.
const TIMES_MAX: usize = 2_000;
/// A schedule that never acts again is deleted after so long.
const IDLE_NS: i64 = 7 * 86_400 * SECOND;

/// The timer row of a schedule fired.
pub(crate) fn fire(tx: &mut Transaction<'_>, row: &TimerRow) -> Answer<Reply> {
    tx.remove_timer(row.clone());
    let Some(mut schedule) = Schedule::find(tx)? else { return Ok(empty()) };
    if schedule.record.run_id != row.run_id || schedule.record.timer_ns != row.due_ns {
        return Ok(empty());
    }
    schedule.record.timer_ns = 0;
    if schedule.is_closed() {
        tx.delete(state_row());
        tx.delete(definition_row());
        return Ok(empty());
    }
    if schedule.is_forgotten(tx.now()) {
        schedule.close(tx)?;
    } else {
        schedule.go_on(tx)?;
    }
    schedule.save(tx);
    Ok(empty())
}

impl Schedule {
    /// Does all that is due and sets the timer to what comes next.
    pub(super) fn go_on(&mut self, tx: &mut Transaction<'_>) -> Answer<()> {
        let now = tx.now();
        let mut times_left = TIMES_MAX;
        let before = (self.record.missed_catchup_window, self.record.buffer_dropped);
        self.pass_time(now, &mut times_left);
        self.backfill(now, &mut times_left);
        let (missed, dropped) = before;
        (missed..self.record.missed_catchup_window).for_each(|_| tx.note_schedule(ScheduleNote::MissedCatchupWindow));
        (dropped..self.record.buffer_dropped).for_each(|_| tx.note_schedule(ScheduleNote::BufferOverrun));
        self.work_off(tx)?;
        let due = self.next_look(now);
        self.arm(tx, due);
        Ok(())
    }

    /// Ends the schedule. The row stays for a while, to tell a deleted schedule from one that never was.
    pub(super) fn close(&mut self, tx: &mut Transaction<'_>) -> Answer<()> {
        self.record.close_ns = tx.now();
        self.listed_changed = true;
        let retention = tx.namespace()?.retention_ns;
        let due = tx.now().saturating_add(retention);
        self.record = ScheduleRecord {
            buffered: Vec::new(),
            backfills: Vec::new(),
            last_result: None,
            last_failure: None,
            ..std::mem::take(&mut self.record)
        };
        self.arm(tx, due);
        Ok(())
    }

    fn arm(&mut self, tx: &mut Transaction<'_>, due_ns: i64) {
        if self.record.timer_ns == due_ns {
            return;
        }
        if self.record.timer_ns != 0 {
            tx.remove_timer(self.timer(tx, self.record.timer_ns));
        }
        self.record.timer_ns = due_ns;
        if due_ns != 0 {
            tx.add_timer(self.timer(tx, due_ns));
        }
    }

    pub(super) fn next_after(&self, after_ns: i64) -> Option<Occurrence> {
        self.spec.as_ref()?.next_after(Timestamp::from_nanos(after_ns), self.jitter_seed())
    }

    /// Buffers what has come by the clock. While the schedule may not act, time passes without a trace.
    fn pass_time(&mut self, now: i64, times_left: &mut usize) {
        let catchup = self.catchup_ns();
        while *times_left > 0 && self.may_act() {
            let next = self.next_after(self.record.processed_ns).filter(|next| next.actual.as_nanos() <= now);
            let Some(next) = next else { break };
            *times_left -= 1;
            self.record.processed_ns = next.actual.as_nanos();
            if now - next.actual.as_nanos() > catchup {
                self.record.missed_catchup_window += 1;
            } else {
                self.buffer(next, Overlap::Unspecified, false);
            }
        }
        if *times_left > 0 || !self.may_act() {
            self.record.processed_ns = self.record.processed_ns.max(now);
        }
    }

    /// Buffers the next times of what is to be filled in, as far as there is room.
    fn backfill(&mut self, now: i64, times_left: &mut usize) {
        while let Some(request) = self.record.backfills.first() {
            if *times_left == 0 || self.record.buffered.len() >= BACKFILL_ROOM {
                return;
            }
            let (from, to) = (time_ns(request.start_time.as_ref()), time_ns(request.end_time.as_ref()));
            let policy = request.overlap_policy();
            match self.next_after(from).filter(|next| next.actual.as_nanos() <= to) {
                Some(next) => {
                    *times_left -= 1;
                    let nominal = next.nominal;
                    self.buffer(Occurrence { nominal, actual: Timestamp::from_nanos(now) }, policy, true);
                    self.record.backfills[0].start_time = time(next.actual.as_nanos());
                }
                None => drop(self.record.backfills.remove(0)),
            }
        }
    }

    /// Adds an action to the buffer.
    pub(super) fn buffer(&mut self, at: Occurrence, policy: Overlap, manual: bool) {
        if self.record.buffered.len() >= BUFFER_MAX {
            self.record.buffer_dropped += 1;
            return;
        }
        self.record.buffered.push(BufferedAction {
            nominal_ns: at.nominal.as_nanos(),
            actual_ns: at.actual.as_nanos(),
            overlap_policy: policy as i32,
            manual,
        });
    }

    /// When there is something to do without a command or a message; 0 if never.
    fn next_look(&self, now: i64) -> i64 {
        let has_room = self.record.buffered.len() < BACKFILL_ROOM;
        if !self.record.backfills.is_empty() && has_room {
            return now.saturating_add(1);
        }
        if self.may_act()
            && let Some(next) = self.next_after(self.record.processed_ns)
        {
            return next.actual.as_nanos();
        }
        if self.is_idle() { self.last_event_ns().saturating_add(IDLE_NS) } else { 0 }
    }

    /// Whether nothing happens here any more unless somebody asks for it.
    fn is_idle(&self) -> bool {
        let r = &self.record;
        !self.state().paused && r.buffered.is_empty() && r.starting.is_empty() && r.running.is_empty()
    }

    fn last_event_ns(&self) -> i64 {
        self.record.create_ns.max(self.record.update_ns).max(self.record.last_event_ns)
    }

    fn is_forgotten(&self, now: i64) -> bool {
        let has_next = self.may_act() && self.next_after(self.record.processed_ns).is_some();
        !has_next
            && self.is_idle()
            && self.record.backfills.is_empty()
            && self.last_event_ns().saturating_add(IDLE_NS) <= now
    }
}
