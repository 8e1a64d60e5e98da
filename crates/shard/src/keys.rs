//! Where each row is: keys of the state store.
//!
//! A key is the shard's number, the space, and the space's own order. Names are escaped so that a key sorts as the tuple of its
//! parts and no name can pretend to be two: a zero byte becomes `00 ff`, and a name ends with `00 01`. Numbers are big-endian,
//! signed ones with their sign bit flipped. Entity keys begin with the slot, so that a split copies ranges.

use mainstay_api::record::{TaskRow, TimerRow, VisibilityRecord};
use mainstay_base::{RunId, Slot};
use mainstay_engine::{EntityKey, MessageId, Row, Table};

use crate::index::ListSpace;

pub(crate) const ENTITY: u8 = 1;
pub(crate) const TASK: u8 = 2;
pub(crate) const TIMER: u8 = 3;
pub(crate) const LIST: u8 = 4;
const LISTED: u8 = 5;
const LISTED_BY_WORKFLOW: u8 = 6;
pub(crate) const NAMESPACE: u8 = 7;
pub(crate) const OUTBOX: u8 = 8;
pub(crate) const MESSAGE_OUTCOME: u8 = 9;
pub(crate) const MESSAGE_FLOOR: u8 = 10;
/// What came of commands that may be retried, by command id, which begins with a time.
pub(crate) const OUTCOME: u8 = 30;
/// Index entries of listed runs.
const POSTING: u8 = 33;
/// How many listed runs have a status.
const COUNTER: u8 = 34;
const META: u8 = 0;

/// What most keys of rows have behind the entity: a run, a table, and a number or a request id.
const ROW_LENGTH: usize = 64;

/// The time and the run at the end of a posting's key.
const POSTING_END: usize = 8 + 16;

/// Builds keys of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys(pub(crate) u32);

fn name(key: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == 0) {
        key.extend_from_slice(&rest[..=at]);
        key.push(0xff);
        rest = &rest[at + 1..];
    }
    key.extend_from_slice(rest);
    key.extend_from_slice(&[0, 1]);
}

/// Bytes that end a name.
const NAME_END: usize = 2;

/// A name at the beginning of a key's rest, and what follows it.
fn read_name(key: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut rest = key;
    loop {
        rest = match rest {
            [0, 1, rest @ ..] => return Some((String::from_utf8(text).ok()?, rest)),
            [0, 0xff, rest @ ..] => {
                text.push(0);
                rest
            }
            [0, ..] | [] => return None,
            [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
        };
    }
}

fn signed(key: &mut Vec<u8>, number: i64) {
    key.extend_from_slice(&((number as u64) ^ (1 << 63)).to_be_bytes());
}

/// Newest first.
fn descending(key: &mut Vec<u8>, number: i64) {
    key.extend_from_slice(&(!((number as u64) ^ (1 << 63))).to_be_bytes());
}

fn read_descending(bytes: [u8; 8]) -> i64 {
    (!u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

/// A posting's key without the time and run at its end.
pub(crate) fn split_posting(key: &[u8]) -> Option<&[u8]> {
    key.get(..key.len().checked_sub(POSTING_END)?)
}

/// The time and run of a posting's key.
pub(crate) fn read_posting(key: &[u8]) -> Option<(i64, String)> {
    let (_, end) = key.split_at_checked(key.len().checked_sub(POSTING_END)?)?;
    let (time, run) = end.split_first_chunk::<8>()?;
    Some((read_descending(*time), RunId::from_bytes(<[u8; 16]>::try_from(run).ok()?).to_string()))
}

fn by_message(mut key: Vec<u8>, id: MessageId) -> Vec<u8> {
    key.extend_from_slice(&id.source_slot.to_be_bytes());
    key.extend_from_slice(&id.sequence.to_be_bytes());
    key
}

impl Keys {
    fn space(self, space: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(96);
        key.extend_from_slice(&self.0.to_be_bytes());
        key.push(space);
        key
    }

    /// A row that there is one of.
    fn meta(self, name: &[u8]) -> Vec<u8> {
        let mut key = self.space(META);
        key.extend_from_slice(name);
        key
    }

    /// First key of the shard, and the first after it.
    pub(crate) fn whole(self) -> (Vec<u8>, Vec<u8>) {
        (self.0.to_be_bytes().to_vec(), self.0.saturating_add(1).to_be_bytes().to_vec())
    }

    /// What the log was applied to: written with every batch.
    pub(crate) fn applied(self) -> Vec<u8> {
        self.meta(b"applied")
    }

    /// The shard's last time.
    pub(crate) fn now(self) -> Vec<u8> {
        self.meta(b"now")
    }

    /// The outcomes of commands, oldest first.
    pub(crate) fn outcomes(self) -> Vec<u8> {
        self.space(OUTCOME)
    }

    pub(crate) fn outcome(self, command_id: &[u8]) -> Vec<u8> {
        let mut key = self.outcomes();
        key.extend_from_slice(command_id);
        key
    }

    /// The last outcome that was forgotten.
    pub(crate) fn outcomes_floor(self) -> Vec<u8> {
        self.meta(b"outcomes")
    }

    /// The shard's number, with which all of its keys begin.
    pub(crate) fn number(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Which slots the shard does not serve.
    pub(crate) fn slots(self) -> Vec<u8> {
        self.meta(b"slots")
    }

    /// Which members have replicas of which shards; in the metadata group alone.
    pub(crate) fn replicas(self) -> Vec<u8> {
        self.meta(b"replicas")
    }

    /// The splits of shards; in the metadata group alone.
    pub(crate) fn splits(self) -> Vec<u8> {
        self.meta(b"splits")
    }

    /// The cluster's members; in the metadata group alone.
    pub(crate) fn members(self) -> Vec<u8> {
        self.meta(b"members")
    }

    /// How the keys of an entity's rows begin.
    pub(crate) fn entity(self, entity: &EntityKey) -> Vec<u8> {
        let mut key = self.space(ENTITY);
        key.extend_from_slice(&Slot::of(&entity.namespace_id, &entity.workflow_id).get().to_be_bytes());
        name(&mut key, entity.namespace_id.as_bytes());
        name(&mut key, entity.workflow_id.as_bytes());
        key
    }

    /// All rows of a table of a run: what their ids are appended to.
    pub(crate) fn rows(self, entity: &EntityKey, table: Table, run: Option<RunId>) -> Vec<u8> {
        Self::within(&self.entity(entity), table, run)
    }

    /// The same behind the beginning of an entity's keys.
    pub(crate) fn within(entity: &[u8], table: Table, run: Option<RunId>) -> Vec<u8> {
        let mut key = Vec::with_capacity(entity.len() + ROW_LENGTH);
        key.extend_from_slice(entity);
        match run {
            None => key.push(0),
            Some(run) => {
                key.push(1);
                key.extend_from_slice(&run.to_bytes());
            }
        }
        key.push(table as u8);
        key
    }

    pub(crate) fn row(self, entity: &EntityKey, row: &Row) -> Vec<u8> {
        let mut key = self.rows(entity, row.table, row.run);
        key.extend_from_slice(&row.id);
        key
    }

    /// All rows of all entities.
    pub(crate) fn entities(self) -> Vec<u8> {
        self.space(ENTITY)
    }

    /// Whose row a key of an entity is; none if it is no such key.
    pub(crate) fn read_row(self, key: &[u8]) -> Option<(EntityKey, Row)> {
        let rest = key.strip_prefix(self.entities().as_slice())?.get(2..)?;
        let (namespace_id, rest) = read_name(rest)?;
        let (workflow_id, rest) = read_name(rest)?;
        let (run, rest) = match rest.split_first()? {
            (0, rest) => (None, rest),
            (_, rest) => {
                let (run, rest) = rest.split_first_chunk::<16>()?;
                (Some(RunId::from_bytes(*run)), rest)
            }
        };
        let (number, id) = rest.split_first()?;
        let table = *Table::ALL.iter().find(|table| **table as u8 == *number)?;
        Some((EntityKey { namespace_id, workflow_id }, Row { table, run, id: id.to_vec() }))
    }

    pub(crate) fn tasks(self) -> Vec<u8> {
        self.space(TASK)
    }

    pub(crate) fn task(self, row: &TaskRow) -> Vec<u8> {
        let mut key = self.tasks();
        key.push(row.kind as u8);
        name(&mut key, row.namespace_id.as_bytes());
        name(&mut key, row.task_queue.as_bytes());
        key.extend_from_slice(&row.sequence.to_be_bytes());
        key
    }

    pub(crate) fn timers(self) -> Vec<u8> {
        self.space(TIMER)
    }

    /// The first timer due at this time.
    pub(crate) fn timers_from(self, from_ns: i64) -> Vec<u8> {
        let mut key = self.timers();
        signed(&mut key, from_ns);
        key
    }

    pub(crate) fn timer(self, row: &TimerRow) -> Vec<u8> {
        let mut key = self.timers();
        signed(&mut key, row.due_ns);
        name(&mut key, row.namespace_id.as_bytes());
        name(&mut key, row.workflow_id.as_bytes());
        name(&mut key, row.run_id.as_bytes());
        key.push(row.kind as u8);
        signed(&mut key, row.id);
        key
    }

    /// Messages that this shard has sent and not heard the outcome of, by source slot and sequence.
    pub(crate) fn outbox(self) -> Vec<u8> {
        self.space(OUTBOX)
    }

    pub(crate) fn message(self, id: MessageId) -> Vec<u8> {
        by_message(self.outbox(), id)
    }

    /// What came of a message that this shard received.
    pub(crate) fn message_outcome(self, id: MessageId) -> Vec<u8> {
        by_message(self.space(MESSAGE_OUTCOME), id)
    }

    /// Below this, messages of a source slot are settled.
    pub(crate) fn message_floor(self, source_slot: u16) -> Vec<u8> {
        let mut key = self.space(MESSAGE_FLOOR);
        key.extend_from_slice(&source_slot.to_be_bytes());
        key
    }

    /// Rows of all lists.
    pub(crate) fn lists(self) -> Vec<u8> {
        self.space(LIST)
    }

    /// Rows of a namespace in list order: newest first.
    pub(crate) fn list_space(self, namespace_id: &str, space: ListSpace) -> Vec<u8> {
        let mut key = self.space(LIST);
        name(&mut key, namespace_id.as_bytes());
        key.push(space as u8);
        key
    }

    pub(crate) fn list(self, namespace_id: &str, space: ListSpace, time_ns: i64, run_id: &str) -> Vec<u8> {
        let mut key = self.list_space(namespace_id, space);
        descending(&mut key, time_ns);
        key.extend_from_slice(run_id.as_bytes());
        key
    }

    pub(crate) fn list_row(self, row: &VisibilityRecord) -> Vec<u8> {
        let space = ListSpace::of(row);
        let time_ns = if space == ListSpace::Closed { row.close_ns } else { row.start_ns };
        self.list(&row.namespace_id, space, time_ns, &row.run_id)
    }

    /// The beginning of a list, cut off behind a time: where the rows of that time begin.
    pub(crate) fn listed_at(mut prefix: Vec<u8>, time_ns: i64) -> Vec<u8> {
        descending(&mut prefix, time_ns);
        prefix
    }

    /// The time and run of a list key, if it is of this list.
    pub(crate) fn read_place(self, namespace_id: &str, space: ListSpace, key: &[u8]) -> Option<(i64, String)> {
        let rest = key.strip_prefix(self.list_space(namespace_id, space).as_slice())?;
        let (time, run_id) = rest.split_first_chunk::<8>()?;
        Some((read_descending(*time), String::from_utf8(run_id.to_vec()).ok()?))
    }

    /// How the keys begin of a posting's rows in a list, which are in list order.
    pub(crate) fn postings(self, namespace_id: &str, space: ListSpace, posting: &[u8]) -> Vec<u8> {
        let mut key = self.space(POSTING);
        name(&mut key, namespace_id.as_bytes());
        key.push(space as u8);
        key.extend_from_slice(posting);
        key
    }

    /// One of them, behind that beginning. A run is 16 bytes here; ids of another form, which no run of ours has, are alike.
    pub(crate) fn posting(self, postings: &[u8], time_ns: i64, run_id: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(postings.len() + POSTING_END);
        key.extend_from_slice(postings);
        descending(&mut key, time_ns);
        key.extend_from_slice(&run_id.parse().map_or([0; 16], RunId::to_bytes));
        key
    }

    /// The counters of all namespaces.
    pub(crate) fn all_counters(self) -> Vec<u8> {
        self.space(COUNTER)
    }

    /// The counters of a namespace.
    pub(crate) fn counters(self, namespace_id: &str) -> Vec<u8> {
        let mut key = self.space(COUNTER);
        name(&mut key, namespace_id.as_bytes());
        key
    }

    /// One of them: of a range of slots, and a status, which is the last byte.
    pub(crate) fn counter(self, namespace_id: &str, slots: u16, status: i32) -> Vec<u8> {
        let mut key = self.counters(namespace_id);
        key.extend_from_slice(&slots.to_be_bytes());
        key.push(status as u8);
        key
    }

    /// The list key that a run has now.
    pub(crate) fn listed(self, namespace_id: &str, run_id: &str) -> Vec<u8> {
        let mut key = self.space(LISTED);
        name(&mut key, namespace_id.as_bytes());
        key.extend_from_slice(run_id.as_bytes());
        key
    }

    /// The list keys of the runs of a workflow id.
    pub(crate) fn listed_by_workflow(self, namespace_id: &str, workflow_id: &str) -> Vec<u8> {
        let mut key = self.space(LISTED_BY_WORKFLOW);
        name(&mut key, namespace_id.as_bytes());
        name(&mut key, workflow_id.as_bytes());
        key
    }

    /// The same of all workflow ids that begin so.
    pub(crate) fn listed_by_workflows(self, namespace_id: &str, prefix: &str) -> Vec<u8> {
        let mut key = self.listed_by_workflow(namespace_id, prefix);
        key.truncate(key.len() - NAME_END);
        key
    }

    /// The workflow id of such a key.
    pub(crate) fn read_listed_workflow(self, namespace_id: &str, key: &[u8]) -> Option<String> {
        let rest = key.strip_prefix(self.listed_by_workflows(namespace_id, "").as_slice())?;
        read_name(rest).map(|(workflow_id, _)| workflow_id)
    }

    /// Whether a key is of those of workflow ids.
    pub(crate) fn is_listed_by_workflow(self, key: &[u8]) -> bool {
        key.starts_with(&self.space(LISTED_BY_WORKFLOW))
    }

    /// One of them.
    pub(crate) fn listed_run_of_workflow(self, row: &VisibilityRecord) -> Vec<u8> {
        let mut key = self.listed_by_workflow(&row.namespace_id, &row.workflow_id);
        key.extend_from_slice(row.run_id.as_bytes());
        key
    }

    pub(crate) fn namespaces(self) -> Vec<u8> {
        self.space(NAMESPACE)
    }

    pub(crate) fn namespace(self, id: &str) -> Vec<u8> {
        let mut key = self.namespaces();
        key.extend_from_slice(id.as_bytes());
        key
    }
}

/// The first key that does not begin with `prefix`. Prefixes of this module never consist of 0xff alone.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(parts: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        parts.iter().for_each(|part| name(&mut key, part.as_bytes()));
        key
    }

    proptest! {
        #[test]
        fn names_sort_as_tuples(a in "[\\x00\\x01a\u{80}]{0,4}", b in "[\\x00\\x01a]{0,3}", c in "[\\x00\\x01a\u{80}]{0,4}", d in "[\\x00\\x01a]{0,3}") {
            prop_assert_eq!(named(&[&a, &b]).cmp(&named(&[&c, &d])), (&a, &b).cmp(&(&c, &d)));
        }

        #[test]
        fn numbers_sort_as_such(a: i64, b: i64) {
            let (mut x, mut y) = (Vec::new(), Vec::new());
            signed(&mut x, a);
            signed(&mut y, b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let (mut x, mut y) = (Vec::new(), Vec::new());
            descending(&mut x, a);
            descending(&mut y, b);
            prop_assert_eq!(x.cmp(&y), b.cmp(&a));
            prop_assert_eq!(x.first_chunk().map(|bytes| read_descending(*bytes)), Some(a));
        }
    }

    #[test]
    fn a_row_is_read_back_from_its_key() {
        let keys = Keys(3);
        let entity = EntityKey { namespace_id: "n\0".into(), workflow_id: "w\0\u{1}".into() };
        for table in Table::ALL {
            for run in [None, Some(RunId::from_bytes([7; 16]))] {
                let row = Row { table: *table, run, id: vec![0, 1, 2] };
                assert_eq!(keys.read_row(&keys.row(&entity, &row)), Some((entity.clone(), row)));
            }
        }
        assert_eq!(Keys(4).read_row(&keys.row(&entity, &Row { table: Table::Run, run: None, id: vec![] })), None);
        assert_eq!(keys.read_row(&keys.applied()), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_after_all_that_begin_with_it() {
        assert_eq!(after(&[1, 2]), vec![1, 3]);
        assert_eq!(after(&[1, 0xff]), vec![2]);
    }
}
