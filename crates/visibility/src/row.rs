//! Values of one row, as a filter sees them.

use std::borrow::Cow;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::SearchAttributes;
use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;
use serde_json::Value;

use crate::attributes::{Attribute, Column, Place};
use crate::literal::{micros, time};

/// What a row holds at one attribute.
#[derive(Clone, PartialEq, Debug)]
pub enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Int(i64),
    Double(f64),
    /// Microseconds since the epoch.
    Time(i64),
    List(Vec<String>),
}

/// Reads an attribute of a row.
pub fn read<'a>(row: &'a VisibilityRecord, attribute: &Attribute) -> Cell<'a> {
    match &attribute.place {
        Place::Column(column) => read_column(row, *column),
        Place::Attribute(name) => read_attribute(row, name, attribute.kind),
    }
}

/// Whether a run is closed.
pub fn is_closed(row: &VisibilityRecord) -> bool {
    row.close_ns != 0
}

fn read_column<'a>(row: &'a VisibilityRecord, column: Column) -> Cell<'a> {
    let text = |text: &'a str| Cell::Text(Cow::Borrowed(text));
    let optional = |value: &'a str| if value.is_empty() { Cell::Null } else { text(value) };
    let if_closed = |value: Cell<'a>| if is_closed(row) { value } else { Cell::Null };
    let own_if_empty = |value: &'a str, own: &'a str| text(if value.is_empty() { own } else { value });
    match column {
        Column::WorkflowId => text(&row.workflow_id),
        Column::RunId => text(&row.run_id),
        Column::WorkflowType => text(&row.workflow_type),
        Column::Status => Cell::Int(i64::from(row.status)),
        Column::StartTime => Cell::Time(micros(row.start_ns)),
        Column::ExecutionTime => Cell::Time(micros(row.execution_ns)),
        Column::CloseTime => if_closed(Cell::Time(micros(row.close_ns))),
        Column::TaskQueue => text(&row.task_queue),
        Column::HistoryLength => if_closed(Cell::Int(row.history_length)),
        Column::ExecutionDuration => if_closed(Cell::Int(row.close_ns.saturating_sub(row.execution_ns))),
        Column::StateTransitionCount => if_closed(Cell::Int(row.state_transition_count)),
        Column::HistorySizeBytes => if_closed(Cell::Int(row.history_size_bytes)),
        Column::ParentWorkflowId => optional(&row.parent_workflow_id),
        Column::ParentRunId => optional(&row.parent_run_id),
        Column::RootWorkflowId => own_if_empty(&row.root_workflow_id, &row.workflow_id),
        Column::RootRunId => own_if_empty(&row.root_run_id, &row.run_id),
    }
}

/// A search attribute; a value that does not fit its type counts as none.
fn read_attribute(row: &VisibilityRecord, name: &str, kind: Kind) -> Cell<'static> {
    let payload = row.search_attributes.as_ref().and_then(|all| all.indexed_fields.get(name));
    let Some(payload) = payload else { return Cell::Null };
    let Ok(value) = serde_json::from_slice::<Value>(&payload.data) else { return Cell::Null };
    // A list of one stands for its element.
    let value = match value {
        Value::Array(mut items) if kind != Kind::KeywordList && items.len() == 1 => items.pop().unwrap_or_default(),
        other => other,
    };
    cell(value, kind).unwrap_or(Cell::Null)
}

/// Search attributes as a list shows them: a list of one stands for its element, unless the attribute is a list.
pub fn shown(mut attributes: SearchAttributes) -> SearchAttributes {
    for payload in attributes.indexed_fields.values_mut() {
        if payload.data.first() != Some(&b'[') || payload.metadata.get("type").is_some_and(|kind| kind == "KeywordList")
        {
            continue;
        }
        if let Ok(Value::Array(items)) = serde_json::from_slice::<Value>(&payload.data)
            && let [item] = items.as_slice()
        {
            payload.data = item.to_string().into();
        }
    }
    attributes
}

fn cell(value: Value, kind: Kind) -> Option<Cell<'static>> {
    Some(match (kind, value) {
        (Kind::Keyword | Kind::Text, Value::String(text)) => Cell::Text(Cow::Owned(text)),
        (Kind::KeywordList, Value::String(text)) => Cell::List(vec![text]),
        (Kind::KeywordList, Value::Array(items)) if !items.is_empty() => {
            Cell::List(items.iter().filter_map(Value::as_str).map(str::to_string).collect())
        }
        (Kind::Int, Value::Number(number)) => Cell::Int(number.as_i64()?),
        (Kind::Double, Value::Number(number)) => Cell::Double(number.as_f64()?),
        (Kind::Bool, Value::Bool(value)) => Cell::Int(i64::from(value)),
        (Kind::Datetime, Value::String(text)) => Cell::Time(time(&text)?),
        _ => return None,
    })
}
