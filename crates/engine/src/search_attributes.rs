//! Search attributes: which exist, which may be set, whether values have their type, and how commands change them.
//!
//! Values stay as they were encoded; only the type is added to their metadata, since SDKs decode by it.

use bytes::Bytes;
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::{Memo, Payload, SearchAttributes};
use mainstay_api::temporal::enums::v1::{IndexedValueType as Type, VersioningBehavior};

use crate::run::Run;
use crate::search_attribute_value as value;
use crate::transaction::Transaction;
use crate::versioning;

const TYPE: &str = "type";
const ENCODING: &str = "encoding";
const JSON: &[u8] = b"json/plain";
const BUILD_IDS: &str = "BuildIds";
const BEHAVIOR: &str = "TemporalWorkflowVersioningBehavior";
/// The build of a worker that has no version, and what the others' begin with.
const UNVERSIONED: &str = "unversioned";
const PROBLEMS: &str = "TemporalReportedProblems";
const PAUSE_INFO: &str = "TemporalPauseInfo";
const DIVISION: &str = "TemporalNamespaceDivision";
/// What rows of the system show as their task queue.
pub(crate) const SYSTEM_TASK_QUEUE: &str = "temporal-sys-per-ns-tq";

/// Attributes that only the server sets.
pub const SYSTEM: [(&str, Type); 22] = [
    ("CloseTime", Type::Datetime),
    ("ExecutionDuration", Type::Int),
    ("ExecutionStatus", Type::Keyword),
    ("ExecutionTime", Type::Datetime),
    ("HistoryLength", Type::Int),
    ("HistorySizeBytes", Type::Int),
    ("ParentRunId", Type::Keyword),
    ("ParentWorkflowId", Type::Keyword),
    ("RootRunId", Type::Keyword),
    ("RootWorkflowId", Type::Keyword),
    ("RunId", Type::Keyword),
    ("StartTime", Type::Datetime),
    ("StateTransitionCount", Type::Int),
    ("TaskQueue", Type::Keyword),
    ("TemporalExternalPayloadCount", Type::Int),
    ("TemporalExternalPayloadSizeBytes", Type::Int),
    ("TemporalUsedWorkerDeploymentVersions", Type::KeywordList),
    ("TemporalWorkerDeployment", Type::Keyword),
    ("TemporalWorkerDeploymentVersion", Type::Keyword),
    (BEHAVIOR, Type::Keyword),
    ("WorkflowId", Type::Keyword),
    ("WorkflowType", Type::Keyword),
];

/// Attributes that exist in every namespace and that clients may set.
pub const PREDEFINED: [(&str, Type); 11] = [
    ("BatcherNamespace", Type::Keyword),
    ("BatcherUser", Type::Keyword),
    ("BinaryChecksums", Type::KeywordList),
    (BUILD_IDS, Type::KeywordList),
    ("TemporalChangeVersion", Type::KeywordList),
    ("TemporalNamespaceDivision", Type::Keyword),
    (PAUSE_INFO, Type::KeywordList),
    (PROBLEMS, Type::KeywordList),
    ("TemporalSchedulePaused", Type::Bool),
    ("TemporalScheduledById", Type::Keyword),
    ("TemporalScheduledStartTime", Type::Datetime),
];

/// A type as metadata and error texts spell it.
#[must_use]
pub fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Text => "Text",
        Type::Int => "Int",
        Type::Double => "Double",
        Type::Bool => "Bool",
        Type::Datetime => "Datetime",
        Type::KeywordList => "KeywordList",
        Type::Keyword => "Keyword",
        Type::Unspecified => "Unspecified",
    }
}

/// The type of an attribute that a client or a workflow may set.
fn type_of(name: &str, namespace: &NamespaceRecord) -> Result<Type, String> {
    if SYSTEM.iter().any(|(system, _)| *system == name) {
        return Err(format!("{name} attribute can't be set in SearchAttributes"));
    }
    let predefined = PREDEFINED.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let custom = || namespace.search_attributes.get(name).and_then(|kind| Type::try_from(*kind).ok());
    predefined
        .or_else(custom)
        .ok_or_else(|| format!("Namespace {} has no mapping defined for search attribute {name}", namespace.name))
}

/// Checks a name and its value and adds the type to the value. Answers whether there is a value: null and an empty list are none.
///
/// # Errors
/// Temporal's text of the refusal.
pub fn add_type(name: &str, value: &mut Payload, namespace: &NamespaceRecord) -> Result<bool, String> {
    let kind = type_of(name, namespace)?;
    let type_name = type_name(kind);
    let is_set = value::check(kind, value)
        .map_err(|shown| format!("invalid value for search attribute {name} of type {type_name}: {shown}"))?;
    value.metadata.insert(TYPE.into(), Bytes::from_static(type_name.as_bytes()));
    Ok(is_set)
}

/// Checks names and values and adds each value's type.
///
/// # Errors
/// The text of the refusal.
pub(crate) fn typed(fields: &SearchAttributes, namespace: &NamespaceRecord) -> Result<SearchAttributes, String> {
    let mut typed = fields.clone();
    for (name, value) in &mut typed.indexed_fields {
        add_type(name, value, namespace)?;
    }
    Ok(typed)
}

/// Whether a payload says that the value is to be removed.
fn is_null(value: &Payload) -> bool {
    let encoding = value.metadata.get(ENCODING).map(|e| e.as_ref());
    match encoding {
        Some(b"binary/null") => true,
        Some(b"json/plain") => matches!(value.data.trim_ascii(), b"null"),
        _ => false,
    }
}

fn is_removal(value: &Payload) -> bool {
    is_null(value) || value.data.trim_ascii() == b"[]"
}

/// Sets what is given and removes what is null or an empty list.
pub(crate) fn merge(tx: &Transaction<'_>, run: &mut Run, fields: &SearchAttributes) {
    let all = run.details_mut(tx).search_attributes.get_or_insert_with(SearchAttributes::default);
    for (name, value) in &fields.indexed_fields {
        if is_removal(value) {
            all.indexed_fields.remove(name);
        } else {
            all.indexed_fields.insert(name.clone(), value.clone());
        }
    }
    run.record.problems_reported = has_problems(run.details(tx).search_attributes.as_ref());
    if fields.indexed_fields.contains_key(BUILD_IDS) {
        run.record.last_build = None;
    }
    run.mark_listed();
}

/// Sets what is given in a memo and removes what is null.
pub(crate) fn merge_memo(into: &mut Option<Memo>, upserted: &Memo) {
    let memo = into.get_or_insert_with(Memo::default);
    for (name, value) in &upserted.fields {
        if is_null(value) {
            memo.fields.remove(name);
        } else {
            memo.fields.insert(name.clone(), value.clone());
        }
    }
}

/// Adds a worker's build to the list of builds that worked on the run.
pub(crate) fn add_build_id(tx: &Transaction<'_>, run: &mut Run, build: &str) {
    let details = run.details(tx);
    let unspecified = versioning::behavior(details.versioning_override.as_ref()) == VersioningBehavior::Unspecified;
    let all = run.details_mut(tx).search_attributes.get_or_insert_with(SearchAttributes::default);
    let present = all.indexed_fields.get(BUILD_IDS).map(|p| parse_list(&p.data)).unwrap_or_default();
    let mut list = present.clone();
    let own = (!build.is_empty()).then(|| format!("{UNVERSIONED}:{build}"));
    for id in unspecified.then(|| UNVERSIONED.to_string()).into_iter().chain(own) {
        if !list.contains(&id) {
            list.push(id);
        }
    }
    if list != present {
        all.indexed_fields.insert(BUILD_IDS.into(), keyword_list(&list));
        run.mark_listed();
    }
}

/// Says how the run's override has it versioned; while one has, it does not count as unversioned.
pub(crate) fn show_versioning(tx: &Transaction<'_>, run: &mut Run) {
    let behavior = versioning::behavior(run.details(tx).versioning_override.as_ref());
    let all = &mut run.details_mut(tx).search_attributes.get_or_insert_with(SearchAttributes::default).indexed_fields;
    let mut builds = all.remove(BUILD_IDS).map(|p| parse_list(&p.data)).unwrap_or_default();
    builds.retain(|build| build != UNVERSIONED);
    let shown = match behavior {
        VersioningBehavior::AutoUpgrade => Some("AutoUpgrade"),
        VersioningBehavior::Pinned => Some("Pinned"),
        VersioningBehavior::Unspecified => None,
    };
    match shown {
        Some(name) => all.insert(BEHAVIOR.into(), typed_json("Keyword", &quote(name))),
        None => {
            builds.insert(0, UNVERSIONED.into());
            all.remove(BEHAVIOR)
        }
    };
    if !builds.is_empty() {
        all.insert(BUILD_IDS.into(), keyword_list(&builds));
    }
    run.mark_listed();
}

/// Whether search attributes say that something is wrong with the run's workflow task.
pub(crate) fn has_problems(all: Option<&SearchAttributes>) -> bool {
    all.is_some_and(|all| all.indexed_fields.contains_key(PROBLEMS))
}

/// Shows or hides what is wrong with the run's workflow task: category and cause.
pub(crate) fn set_problems(tx: &Transaction<'_>, run: &mut Run, problem: Option<(&str, String)>) {
    if problem.is_none() && !run.record.problems_reported {
        return;
    }
    run.record.problems_reported = problem.is_some();
    let all = &mut run.details_mut(tx).search_attributes.get_or_insert_with(SearchAttributes::default).indexed_fields;
    let changed = match problem {
        Some((category, cause)) => {
            let list = keyword_list(&[format!("category={category}"), format!("cause={cause}")]);
            all.insert(PROBLEMS.into(), list.clone()) != Some(list)
        }
        None => all.remove(PROBLEMS).is_some(),
    };
    if changed {
        run.mark_listed();
    }
}

/// Lists what is paused of the run.
pub(crate) fn set_paused(tx: &Transaction<'_>, run: &mut Run, entries: &[String]) {
    let list = (!entries.is_empty()).then(|| keyword_list(entries));
    let present = run.details(tx).search_attributes.as_ref().and_then(|all| all.indexed_fields.get(PAUSE_INFO));
    if present == list.as_ref() {
        return;
    }
    let all = &mut run.details_mut(tx).search_attributes.get_or_insert_default().indexed_fields;
    match list {
        Some(list) => all.insert(PAUSE_INFO.into(), list),
        None => all.remove(PAUSE_INFO),
    };
    run.mark_listed();
}

/// A list of strings as the server itself encodes it.
fn keyword_list(list: &[String]) -> Payload {
    let quoted: Vec<String> = list.iter().map(|id| quote(id)).collect();
    typed_json("KeywordList", &format!("[{}]", quoted.join(",")))
}

/// A value as the server itself encodes it.
pub(crate) fn typed_json(kind: &'static str, json: &str) -> Payload {
    let metadata =
        [(ENCODING.to_string(), Bytes::from_static(JSON)), (TYPE.to_string(), Bytes::from_static(kind.as_bytes()))];
    Payload { metadata: metadata.into(), data: Bytes::copy_from_slice(json.as_bytes()), ..Payload::default() }
}

/// Says that a row belongs to a part of the system, so that lists hide it unless they are asked for that part.
pub(crate) fn put_division(attributes: &mut SearchAttributes, division: &str) {
    attributes.indexed_fields.insert(DIVISION.into(), typed_json("Keyword", &quote(division)));
}

/// A string as JSON.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The strings of a list that [`add_build_id`] wrote.
fn parse_list(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    let (mut items, mut current, mut inside, mut escaped) = (Vec::new(), String::new(), false, false);
    for ch in text.chars() {
        match (inside, escaped, ch) {
            (true, true, c) => {
                current.push(c);
                escaped = false;
            }
            (true, false, '\\') => escaped = true,
            (true, false, '"') => {
                items.push(std::mem::take(&mut current));
                inside = false;
            }
            (true, false, c) => current.push(c),
            (false, _, '"') => inside = true,
            _ => {}
        }
    }
    items
}
