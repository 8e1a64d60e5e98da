//! Names of attributes: what each is called, which type it has, and where its value stands in a row.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;

/// Before the workflow id of a schedule's own workflow.
pub const SCHEDULE_PREFIX: &str = "temporal-sys-scheduler:";
/// Rows with a value here belong to the system and are hidden, unless the filter names it.
pub const DIVISION: &str = "TemporalNamespaceDivision";
const TEMPORAL: &str = "Temporal";

/// Attributes that are columns of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    WorkflowId,
    RunId,
    WorkflowType,
    Status,
    StartTime,
    ExecutionTime,
    CloseTime,
    TaskQueue,
    HistoryLength,
    ExecutionDuration,
    StateTransitionCount,
    HistorySizeBytes,
    ParentWorkflowId,
    ParentRunId,
    RootWorkflowId,
    RootRunId,
}

const COLUMNS: [(&str, Column, Kind); 16] = [
    ("WorkflowId", Column::WorkflowId, Kind::Keyword),
    ("RunId", Column::RunId, Kind::Keyword),
    ("WorkflowType", Column::WorkflowType, Kind::Keyword),
    ("ExecutionStatus", Column::Status, Kind::Keyword),
    ("StartTime", Column::StartTime, Kind::Datetime),
    ("ExecutionTime", Column::ExecutionTime, Kind::Datetime),
    ("CloseTime", Column::CloseTime, Kind::Datetime),
    ("TaskQueue", Column::TaskQueue, Kind::Keyword),
    ("HistoryLength", Column::HistoryLength, Kind::Int),
    ("ExecutionDuration", Column::ExecutionDuration, Kind::Int),
    ("StateTransitionCount", Column::StateTransitionCount, Kind::Int),
    ("HistorySizeBytes", Column::HistorySizeBytes, Kind::Int),
    ("ParentWorkflowId", Column::ParentWorkflowId, Kind::Keyword),
    ("ParentRunId", Column::ParentRunId, Kind::Keyword),
    ("RootWorkflowId", Column::RootWorkflowId, Kind::Keyword),
    ("RootRunId", Column::RootRunId, Kind::Keyword),
];

/// Attributes that exist in every namespace but are kept among a row's search attributes.
const PREDEFINED: [(&str, Kind); 31] = [
    ("TemporalChangeVersion", Kind::KeywordList),
    ("BinaryChecksums", Kind::KeywordList),
    ("BuildIds", Kind::KeywordList),
    ("BatcherNamespace", Kind::Keyword),
    ("BatcherUser", Kind::Keyword),
    ("TemporalScheduledStartTime", Kind::Datetime),
    ("TemporalScheduledById", Kind::Keyword),
    ("TemporalSchedulePaused", Kind::Bool),
    (DIVISION, Kind::Keyword),
    ("TemporalPauseInfo", Kind::KeywordList),
    ("TemporalReportedProblems", Kind::KeywordList),
    ("TemporalWorkerDeployment", Kind::Keyword),
    ("TemporalWorkerDeploymentVersion", Kind::Keyword),
    ("TemporalWorkflowVersioningBehavior", Kind::Keyword),
    ("TemporalUsedWorkerDeploymentVersions", Kind::KeywordList),
    ("TemporalExternalPayloadCount", Kind::Int),
    ("TemporalExternalPayloadSizeBytes", Kind::Int),
    ("TemporalBool01", Kind::Bool),
    ("TemporalBool02", Kind::Bool),
    ("TemporalDatetime01", Kind::Datetime),
    ("TemporalDatetime02", Kind::Datetime),
    ("TemporalDouble01", Kind::Double),
    ("TemporalDouble02", Kind::Double),
    ("TemporalInt01", Kind::Int),
    ("TemporalInt02", Kind::Int),
    ("TemporalKeyword01", Kind::Keyword),
    ("TemporalKeyword02", Kind::Keyword),
    ("TemporalKeyword03", Kind::Keyword),
    ("TemporalKeyword04", Kind::Keyword),
    ("TemporalKeywordList01", Kind::KeywordList),
    ("TemporalKeywordList02", Kind::KeywordList),
];

/// Where a value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Column(Column),
    /// Among the search attributes, by this name.
    Attribute(String),
}

/// An attribute that a filter names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribute {
    /// As the filter wrote it.
    pub alias: String,
    pub place: Place,
    pub kind: Kind,
    /// Put before each value that it is compared with.
    pub value_prefix: &'static str,
}

impl Attribute {
    /// Whether it is the status, whose values have names.
    pub fn is_status(&self) -> bool {
        self.place == Place::Column(Column::Status)
    }

    /// Whether it is the duration, which can be written in several ways.
    pub fn is_duration(&self) -> bool {
        self.place == Place::Column(Column::ExecutionDuration)
    }

    /// Whether it is the close time, which counts as the end of time while a run is open.
    pub fn is_close_time(&self) -> bool {
        self.place == Place::Column(Column::CloseTime)
    }

    /// Whether it says which part of the system a row belongs to.
    pub fn is_division(&self) -> bool {
        matches!(&self.place, Place::Attribute(name) if name == DIVISION)
    }
}

/// A type as people write it.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "Unspecified",
        Kind::Text => "Text",
        Kind::Keyword => "Keyword",
        Kind::Int => "Int",
        Kind::Double => "Double",
        Kind::Bool => "Bool",
        Kind::Datetime => "Datetime",
        Kind::KeywordList => "KeywordList",
    }
}

/// Looks a name up: the namespace's own attributes first, then those of every namespace, also without their `Temporal`.
pub fn resolve(alias: &str, custom: &BTreeMap<String, Kind>) -> Option<Attribute> {
    let found = |place, kind, value_prefix| Some(Attribute { alias: alias.to_string(), place, kind, value_prefix });
    if alias == "ScheduleId" && !custom.contains_key(alias) {
        return found(Place::Column(Column::WorkflowId), Kind::Keyword, SCHEDULE_PREFIX);
    }
    let unprefixed = alias.strip_prefix(TEMPORAL).filter(|name| *name == "BuildIds");
    let name = unprefixed.unwrap_or(alias);
    let column = COLUMNS.iter().find(|(known, ..)| *known == name);
    if let Some((_, column, kind)) = column {
        return found(Place::Column(*column), *kind, "");
    }
    let prefixed = format!("{TEMPORAL}{name}");
    for name in [name, &prefixed] {
        let predefined = PREDEFINED.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        if let Some(kind) = custom.get(name).copied().or(predefined) {
            return found(Place::Attribute(name.to_string()), kind, "");
        }
    }
    None
}
