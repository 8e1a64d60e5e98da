//! Search attributes as commands set them: names and types from the namespace, values checked, the type kept beside the value.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::{Memo, Payload, SearchAttributes};
use mainstay_api::temporal::enums::v1::IndexedValueType;

use crate::run::Run;
use crate::search_attribute_value as value;

const TYPE: &str = "type";
const ENCODING: &str = "encoding";
const JSON: &[u8] = b"json/plain";
const BUILD_IDS: &str = "BuildIds";
/// The list of a run that only workers without a build id worked on.
const UNVERSIONED: &[u8] = br#"["unversioned"]"#;
const PROBLEMS: &str = "TemporalReportedProblems";

/// Attributes that the server itself maintains.
const SYSTEM: [&str; 22] = [
    "WorkflowId",
    "RunId",
    "WorkflowType",
    "StartTime",
    "ExecutionTime",
    "CloseTime",
    "ExecutionStatus",
    "TaskQueue",
    "HistoryLength",
    "ExecutionDuration",
    "StateTransitionCount",
    "HistorySizeBytes",
    "ParentWorkflowId",
    "ParentRunId",
    "RootWorkflowId",
    "RootRunId",
    "TemporalExternalPayloadCount",
    "TemporalExternalPayloadSizeBytes",
    "TemporalUsedWorkerDeploymentVersions",
    "TemporalWorkerDeployment",
    "TemporalWorkerDeploymentVersion",
    "TemporalWorkflowVersioningBehavior",
];

/// Attributes that exist in every namespace and that workflows may set.
const PREDEFINED: [(&str, IndexedValueType); 11] = [
    ("TemporalChangeVersion", IndexedValueType::KeywordList),
    ("BinaryChecksums", IndexedValueType::KeywordList),
    (BUILD_IDS, IndexedValueType::KeywordList),
    ("BatcherNamespace", IndexedValueType::Keyword),
    ("BatcherUser", IndexedValueType::Keyword),
    ("TemporalScheduledStartTime", IndexedValueType::Datetime),
    ("TemporalScheduledById", IndexedValueType::Keyword),
    ("TemporalSchedulePaused", IndexedValueType::Bool),
    ("TemporalNamespaceDivision", IndexedValueType::Keyword),
    ("TemporalPauseInfo", IndexedValueType::KeywordList),
    (PROBLEMS, IndexedValueType::KeywordList),
];

fn type_name(kind: IndexedValueType) -> &'static str {
    match kind {
        IndexedValueType::Text => "Text",
        IndexedValueType::Int => "Int",
        IndexedValueType::Double => "Double",
        IndexedValueType::Bool => "Bool",
        IndexedValueType::Datetime => "Datetime",
        IndexedValueType::KeywordList => "KeywordList",
        IndexedValueType::Keyword | IndexedValueType::Unspecified => "Keyword",
    }
}

/// Checks names and adds each value's type.
///
/// # Errors
/// The text of the refusal.
pub(crate) fn typed(fields: &SearchAttributes, namespace: &NamespaceRecord) -> Result<SearchAttributes, String> {
    let mut typed = BTreeMap::new();
    for (name, value) in &fields.indexed_fields {
        if SYSTEM.contains(&name.as_str()) {
            return Err(format!("{name} attribute can't be set in SearchAttributes"));
        }
        let predefined = PREDEFINED.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        let custom = || namespace.search_attributes.get(name).and_then(|n| IndexedValueType::try_from(*n).ok());
        let Some(kind) = predefined.or_else(custom) else {
            return Err(format!("Namespace {} has no mapping defined for search attribute {name}", namespace.name));
        };
        value::check(kind, value).map_err(|shown| {
            format!("invalid value for search attribute {name} of type {}: {shown}", type_name(kind))
        })?;
        let mut value = value.clone();
        value.metadata.insert(TYPE.into(), Bytes::from_static(type_name(kind).as_bytes()));
        typed.insert(name.clone(), value);
    }
    Ok(SearchAttributes { indexed_fields: typed })
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
pub(crate) fn merge(into: &mut Option<SearchAttributes>, fields: &SearchAttributes) {
    let all = into.get_or_insert_with(SearchAttributes::default);
    for (name, value) in &fields.indexed_fields {
        if is_removal(value) {
            all.indexed_fields.remove(name);
        } else {
            all.indexed_fields.insert(name.clone(), value.clone());
        }
    }
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

/// Adds the worker's build to the list of builds that worked on the run; answers whether it was new.
pub(crate) fn add_build_id(run: &mut Run, build: &str) -> bool {
    let all = run.record.search_attributes.get_or_insert_with(SearchAttributes::default);
    if build.is_empty() && all.indexed_fields.get(BUILD_IDS).is_some_and(|p| p.data == UNVERSIONED) {
        return false;
    }
    let present = all.indexed_fields.get(BUILD_IDS).map(|p| parse_list(&p.data)).unwrap_or_default();
    let mut list = present.clone();
    let mut wanted = vec!["unversioned".to_string()];
    if !build.is_empty() {
        wanted.push(format!("unversioned:{build}"));
    }
    for id in wanted {
        if !list.contains(&id) {
            list.push(id);
        }
    }
    if list == present {
        return false;
    }
    all.indexed_fields.insert(BUILD_IDS.into(), keyword_list(&list));
    true
}

/// Shows or hides what is wrong with the run's workflow task: category and cause. Answers whether that changed.
pub(crate) fn set_problems(run: &mut Run, problem: Option<(&str, String)>) -> bool {
    let Some(all) = run.record.search_attributes.as_mut() else {
        let Some((category, cause)) = problem else { return false };
        let list = [format!("category={category}"), format!("cause={cause}")];
        let fields = [(PROBLEMS.to_string(), keyword_list(&list))].into();
        run.record.search_attributes = Some(SearchAttributes { indexed_fields: fields });
        return true;
    };
    match problem {
        Some((category, cause)) => {
            let list = keyword_list(&[format!("category={category}"), format!("cause={cause}")]);
            all.indexed_fields.insert(PROBLEMS.into(), list.clone()) != Some(list)
        }
        None => all.indexed_fields.remove(PROBLEMS).is_some(),
    }
}

/// A list of strings as the server itself encodes it.
fn keyword_list(list: &[String]) -> Payload {
    let quoted: Vec<String> = list.iter().map(|id| quote(id)).collect();
    let metadata =
        [(ENCODING.to_string(), Bytes::from_static(JSON)), (TYPE.to_string(), Bytes::from_static(b"KeywordList"))];
    let data = format!("[{}]", quoted.join(",")).into_bytes().into();
    Payload { metadata: metadata.into(), data, ..Payload::default() }
}

fn quote(text: &str) -> String {
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
