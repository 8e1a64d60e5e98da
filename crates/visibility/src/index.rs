//! What the index holds of a row: postings, each an attribute and one value of it, encoded so that equal values have equal bytes and
//! numbers, times and texts sort as such. Whoever keeps the index puts the order of lists behind a posting, so the rows of one value
//! are met newest first.
//!
//! An index finds rows; it does not decide. Long texts are cut, integers are kept as floats: what is found is tested against the
//! filter, so it is enough that nothing is missed. A text of more than [`WORDS_MAX`] words has a posting that every search for a word
//! looks at too.
//!
//! Rows of the system have no postings: they are met by scans alone.

use std::collections::BTreeSet;

use mainstay_api::record::{ListSpace, VisibilityRecord};
use mainstay_api::temporal::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use crate::attributes::{Attribute, Place};
use crate::condition::words;
use crate::literal::micros;
use crate::row::{Cell, is_closed, read};

/// Different words of a text that have a posting each.
pub const WORDS_MAX: usize = 64;
/// Bytes of a text that a posting keeps.
pub(crate) const TEXT_MAX: usize = 200;

const TYPE: u8 = 1;
const STATUS: u8 = 2;
const PARENT: u8 = 3;
const ROOT: u8 = 4;
const START: u8 = 5;
const ATTRIBUTE: u8 = 16;

const KEYWORD: u8 = 1;
const NUMBER: u8 = 2;
const TIME: u8 = 3;
const WORD: u8 = 4;
const MANY_WORDS: u8 = 5;

/// The postings of a row.
#[must_use]
pub fn postings(row: &VisibilityRecord) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    if row.space() != ListSpace::Unspecified || crate::has_division(row) {
        return found;
    }
    found.insert(of_type(&row.workflow_type, row.status));
    if is_closed(row) {
        found.insert(of_status(row.status));
        // Open runs are listed by start; of closed ones only this tells them in that order.
        found.insert(of_start(micros(row.start_ns)));
    } else if row.status != Status::Running as i32 {
        // Nearly all open runs are running: the others are told apart by this, and nothing is written for most.
        found.insert(of_status(row.status));
    }
    if !row.parent_workflow_id.is_empty() {
        found.insert(of_parent(&row.parent_workflow_id));
    }
    if !row.root_workflow_id.is_empty() && row.root_workflow_id != row.workflow_id {
        found.insert(of_root(&row.root_workflow_id));
    }
    let fields = row.search_attributes.iter().flat_map(|all| &all.indexed_fields);
    for (name, payload) in fields {
        let kind = payload.metadata.get("type").and_then(|kind| std::str::from_utf8(kind).ok());
        match kind.and_then(kind_of) {
            Some(kind) => of_attribute(row, name, kind, &mut found),
            // Nobody says what it is, so it is indexed as whatever it can be read as.
            None => KINDS.iter().for_each(|(_, kind)| of_attribute(row, name, *kind, &mut found)),
        }
    }
    found
}

/// Whether a row counts among those of the namespace's users: the rows that have postings.
#[must_use]
pub fn is_counted(row: &VisibilityRecord) -> bool {
    row.space() == ListSpace::Unspecified && !crate::has_division(row)
}

const KINDS: [(&str, Kind); 7] = [
    ("Keyword", Kind::Keyword),
    ("Text", Kind::Text),
    ("Int", Kind::Int),
    ("Double", Kind::Double),
    ("Bool", Kind::Bool),
    ("Datetime", Kind::Datetime),
    ("KeywordList", Kind::KeywordList),
];

fn kind_of(name: &str) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

fn of_attribute(row: &VisibilityRecord, name: &str, kind: Kind, found: &mut BTreeSet<Vec<u8>>) {
    let place = Place::Attribute(name.to_string());
    match read(row, &Attribute { alias: String::new(), place, kind, value_prefix: "" }) {
        Cell::Null => {}
        Cell::Text(text) if kind == Kind::Text => {
            let all: BTreeSet<String> = words(&text).into_iter().collect();
            if all.len() > WORDS_MAX {
                found.insert(of_many_words(name));
            }
            found.extend(all.iter().take(WORDS_MAX).map(|word| of_word(name, word)));
        }
        Cell::Text(text) => drop(found.insert(of_keyword(name, &text))),
        Cell::List(items) => found.extend(items.iter().map(|item| of_keyword(name, item))),
        Cell::Int(value) => drop(found.insert(of_number(name, value as f64))),
        Cell::Double(value) => drop(found.insert(of_number(name, value))),
        Cell::Time(value) => drop(found.insert(of_time(name, value))),
    }
}

/// Appends a text so that it sorts as such and ends: a zero byte becomes `00 ff`, and the end is `00 01`.
fn text(posting: &mut Vec<u8>, text: &str) {
    open_text(posting, text);
    posting.extend_from_slice(&[0, 1]);
}

/// The same without an end: how all texts begin that begin with this one.
fn open_text(posting: &mut Vec<u8>, text: &str) {
    for byte in cut(text).bytes() {
        posting.push(byte);
        if byte == 0 {
            posting.push(0xff);
        }
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or(text)
}

/// Whether a posting keeps the whole of a text.
pub(crate) fn is_whole(text: &str) -> bool {
    cut(text).len() == text.len()
}

fn named(space: u8, name: &str) -> Vec<u8> {
    let mut posting = vec![space];
    text(&mut posting, name);
    posting
}

/// Runs of a type with a status. A status is one byte.
pub(crate) fn of_type(workflow_type: &str, status: i32) -> Vec<u8> {
    let mut posting = named(TYPE, workflow_type);
    posting.push(status as u8);
    posting
}

/// Runs of a type: what its postings begin with, whatever the status.
pub(crate) fn of_type_of_any_status(workflow_type: &str) -> Vec<u8> {
    named(TYPE, workflow_type)
}

/// How the postings of all types begin that begin with this text.
pub(crate) fn of_type_prefix(prefix: &str) -> Vec<u8> {
    let mut posting = vec![TYPE];
    open_text(&mut posting, prefix);
    posting
}

/// Closed runs with a status.
pub(crate) fn of_status(status: i32) -> Vec<u8> {
    vec![STATUS, status as u8]
}

/// Closed runs by start.
pub(crate) fn of_starts() -> Vec<u8> {
    vec![START]
}

pub(crate) fn of_start(micros: i64) -> Vec<u8> {
    let mut posting = of_starts();
    time(&mut posting, micros);
    posting
}

/// All children.
pub(crate) fn of_parents() -> Vec<u8> {
    vec![PARENT]
}

/// Children of a workflow.
pub(crate) fn of_parent(workflow_id: &str) -> Vec<u8> {
    named(PARENT, workflow_id)
}

/// Descendants of a workflow.
pub(crate) fn of_root(workflow_id: &str) -> Vec<u8> {
    named(ROOT, workflow_id)
}

fn attribute(name: &str, kind: u8) -> Vec<u8> {
    let mut posting = named(ATTRIBUTE, name);
    posting.push(kind);
    posting
}

pub(crate) fn of_keyword(name: &str, value: &str) -> Vec<u8> {
    let mut posting = attribute(name, KEYWORD);
    text(&mut posting, value);
    posting
}

pub(crate) fn of_keyword_prefix(name: &str, prefix: &str) -> Vec<u8> {
    let mut posting = attribute(name, KEYWORD);
    open_text(&mut posting, prefix);
    posting
}

/// All numbers of an attribute begin with this.
pub(crate) fn of_numbers(name: &str) -> Vec<u8> {
    attribute(name, NUMBER)
}

pub(crate) fn of_number(name: &str, value: f64) -> Vec<u8> {
    let mut posting = of_numbers(name);
    posting.extend_from_slice(&sortable(value).to_be_bytes());
    posting
}

/// A number that is ordered as the float is.
pub(crate) fn sortable(value: f64) -> u64 {
    // A negative zero equals zero.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) }
}

/// The number that was made sortable.
pub(crate) fn read_number(bytes: &[u8]) -> Option<f64> {
    let bits = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(f64::from_bits(if bits >> 63 == 0 { !bits } else { bits ^ (1 << 63) }))
}

/// All times of an attribute begin with this.
pub(crate) fn of_times(name: &str) -> Vec<u8> {
    attribute(name, TIME)
}

pub(crate) fn of_time(name: &str, micros: i64) -> Vec<u8> {
    let mut posting = of_times(name);
    time(&mut posting, micros);
    posting
}

fn time(posting: &mut Vec<u8>, micros: i64) {
    posting.extend_from_slice(&((micros as u64) ^ (1 << 63)).to_be_bytes());
}

pub(crate) fn of_word(name: &str, word: &str) -> Vec<u8> {
    let mut posting = attribute(name, WORD);
    text(&mut posting, word);
    posting
}

pub(crate) fn of_many_words(name: &str) -> Vec<u8> {
    attribute(name, MANY_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_texts_sort_as_such() {
        let numbers = [f64::MIN, -2.5, -1.0, 0.0, 1e-300, 3.0, f64::MAX];
        assert!(numbers.windows(2).all(|pair| of_number("n", pair[0]) < of_number("n", pair[1])));
        assert_eq!(of_number("n", -0.0), of_number("n", 0.0));
        let times = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(times.windows(2).all(|pair| of_time("t", pair[0]) < of_time("t", pair[1])));
        let texts = ["", "\0", "\0\u{1}", "a", "a\0", "ab", "b"];
        assert!(texts.windows(2).all(|pair| of_keyword("k", pair[0]) < of_keyword("k", pair[1])));
        assert!(of_keyword("k", "ab").starts_with(&of_keyword_prefix("k", "a")));
        assert!(!of_keyword("k", "ba").starts_with(&of_keyword_prefix("k", "a")));
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let long = "ä".repeat(TEXT_MAX);
        assert!(!is_whole(&long));
        assert_eq!(of_keyword("k", &long), of_keyword("k", &"ä".repeat(TEXT_MAX / 2)));
    }
}
