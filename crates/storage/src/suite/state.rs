//! The suite of states.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Step;
use crate::{StateBatch, StateStore, StateView};

type Rows = BTreeMap<Vec<u8>, Bytes>;

fn batch(puts: &[(&str, &'static str)], deletes: &[&str]) -> StateBatch {
    let mut batch = StateBatch::new();
    puts.iter().for_each(|(key, value)| batch.put(*key, *value));
    deletes.iter().for_each(|key| batch.delete(*key));
    batch
}

fn keys(view: &dyn StateView, from: &str, to: &str, limit: usize, reverse: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        found.push(String::from_utf8_lossy(key).into_owned());
        found.len() < limit
    };
    if reverse {
        view.scan_reverse(from.as_bytes(), to.as_bytes(), &mut visit).unwrap();
    } else {
        view.scan(from.as_bytes(), to.as_bytes(), &mut visit).unwrap();
    }
    found
}

fn text(value: Option<Bytes>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// Walks through the operations of a state, which must be empty.
pub fn state(state: &dyn StateStore) {
    state.write(batch(&[("b", "2"), ("a", "1"), ("c", "3")], &[])).unwrap();
    assert_eq!(state.get_persisted(b"a").unwrap(), None);
    state.flush().unwrap();
    assert_eq!(text(state.get_persisted(b"a").unwrap()).as_deref(), Some("1"));
    state.write(batch(&[("a", "1b")], &["b", "missing"])).unwrap();
    assert_eq!(text(state.get(b"a").unwrap()).as_deref(), Some("1b"));
    assert_eq!(text(state.get_persisted(b"a").unwrap()).as_deref(), Some("1"));
    assert_eq!(text(state.get_persisted(b"b").unwrap()).as_deref(), Some("2"));
    scans(state);
    views(state);
    ranges(state);
    assert!(state.usage().unwrap().available > 0);
}

fn scans(state: &dyn StateStore) {
    assert_eq!(keys(state, "a", "z", 9, false), ["a", "c"]);
    assert_eq!(keys(state, "a", "z", 9, true), ["c", "a"]);
    assert_eq!(keys(state, "a", "z", 1, false), ["a"]);
    assert_eq!(keys(state, "a", "z", 1, true), ["c"]);
    assert_eq!(keys(state, "a", "c", 9, true), ["a"], "the end of a range does not belong to it");
    assert_eq!(keys(state, "b", "b", 9, false), [""; 0]);
    assert_eq!(keys(state, "z", "a", 9, true), [""; 0]);
}

fn views(state: &dyn StateStore) {
    let view = state.view();
    let export = state.export().unwrap();
    state.write(batch(&[("d", "4"), ("a", "1c")], &["c"])).unwrap();
    state.flush().unwrap();
    assert_eq!(text(view.get(b"a").unwrap()).as_deref(), Some("1b"));
    assert_eq!(view.get(b"d").unwrap(), None);
    assert_eq!(keys(&*view, "a", "z", 9, false), ["a", "c"]);
    let later = std::thread::spawn(move || {
        assert_eq!(text(export.get(b"a").unwrap()).as_deref(), Some("1b"));
        assert_eq!(export.get(b"d").unwrap(), None);
        assert_eq!(keys(&*export, "a", "z", 9, false), ["a", "c"]);
    });
    later.join().unwrap();
    assert_eq!(keys(state, "a", "z", 9, false), ["a", "d"]);
}

fn ranges(state: &dyn StateStore) {
    let mut ordered = batch(&[("a1", "x"), ("b", "x"), ("d", "x")], &[]);
    ordered.delete_range("a", "b");
    ordered.put("a2", "after");
    state.write(ordered).unwrap();
    assert_eq!(keys(state, "a", "z", 9, false), ["a2", "b", "d"]);
    assert_eq!(keys(state, "a", "z", 9, true), ["d", "b", "a2"]);
    state.flush().unwrap();
    assert_eq!(state.get_persisted(b"a1").unwrap(), None);
    state.write(batch(&[("e", "first"), ("e", "last")], &["a2"])).unwrap();
    assert_eq!(text(state.get(b"e").unwrap()).as_deref(), Some("last"));
}

/// A state that a script can crash and open again.
pub trait StateSubject {
    /// The state as it is open now.
    fn store(&self) -> &dyn StateStore;
    /// Loses power and opens again. At most what was not flushed may be lost, as a suffix of batches; `luck` says how much.
    fn crash(&mut self, luck: u8);
}

/// Runs a script and compares the state with a model after every step.
pub fn state_script(subject: &mut dyn StateSubject, script: &[Step]) {
    // What the state may be after a crash: as flushed, then after each batch since.
    let mut history = vec![Rows::new()];
    for (number, step) in script.iter().enumerate() {
        match step.0 % 8 {
            0 => {
                subject.store().flush().unwrap();
                history = history.split_off(history.len() - 1);
            }
            1 => {
                let persisted = persisted(subject.store());
                subject.crash(step.1);
                let found = read(subject.store());
                assert!(history.contains(&persisted), "step {number}: persisted {persisted:?}, never written");
                assert!(history.contains(&found), "step {number}: a crash left {found:?}, never written");
                history = vec![found];
            }
            _ => {
                let mut next = history.last().cloned().unwrap_or_default();
                subject.store().write(changes(&mut next, *step, number)).unwrap();
                history.push(next);
            }
        }
        assert_eq!(Some(&read(subject.store())), history.last(), "after step {number}: {step:?}");
    }
}

const KEYS: u8 = 24;

fn key(number: u8) -> Vec<u8> {
    vec![b'k', number % KEYS]
}

fn changes(rows: &mut Rows, (what, a, b): Step, number: usize) -> StateBatch {
    let mut batch = StateBatch::new();
    match what % 8 {
        2 => {
            batch.delete(key(a));
            rows.remove(&key(a));
        }
        3 => {
            let (from, to) = (key(a.min(b)), key(a.max(b)));
            rows.retain(|key, _| *key < from || *key >= to);
            batch.delete_range(from, to);
        }
        _ => {
            for at in a..=a.saturating_add(b % 5) {
                let value = Bytes::from(format!("{number}-{at}").into_bytes());
                batch.put(key(at), value.clone());
                rows.insert(key(at), value);
            }
        }
    }
    batch
}

fn read(state: &dyn StateStore) -> Rows {
    let mut rows = Rows::new();
    let mut backwards = Vec::new();
    state
        .scan(b"k", b"l", &mut |key, value| {
            rows.insert(key.to_vec(), Bytes::copy_from_slice(value));
            true
        })
        .unwrap();
    state
        .scan_reverse(b"k", b"l", &mut |key, _| {
            backwards.push(key.to_vec());
            true
        })
        .unwrap();
    assert!(rows.keys().rev().eq(&backwards), "the two directions differ");
    for number in 0..KEYS {
        assert_eq!(state.get(&key(number)).unwrap().as_ref(), rows.get(&key(number)));
    }
    rows
}

fn persisted(state: &dyn StateStore) -> Rows {
    let value = |number| state.get_persisted(&key(number)).unwrap().map(|value| (key(number), value));
    (0..KEYS).filter_map(value).collect()
}
