//! What a filter fixes for every row that it lets through, so that the caller need not bring other rows. Only conditions
//! that all rows must satisfy count: the filter itself, or a part of its outermost AND.

use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;

use crate::attributes::{Attribute, Column, Place};
use crate::condition::{Comparison, Condition, END_OF_TIME};
use crate::literal::Literal;

/// Which half of all rows a filter lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Openness {
    /// Only runs that still run.
    Open,
    /// Only runs that have closed.
    Closed,
}

/// The first answer that `ask` gives for a condition that all rows satisfy.
fn first<'a, T>(condition: &'a Condition, ask: &impl Fn(&'a Condition) -> Option<T>) -> Option<T> {
    match condition {
        Condition::And(parts) => parts.iter().find_map(|part| first(part, ask)),
        other => ask(other),
    }
}

/// The values that an attribute must equal one of.
fn values(condition: &Condition) -> Option<(&Attribute, &[Literal])> {
    match condition {
        Condition::Compare { attribute, comparison: Comparison::Equal, value } => {
            Some((attribute, std::slice::from_ref(value)))
        }
        Condition::In { attribute, negated: false, any } => Some((attribute, any)),
        _ => None,
    }
}

/// The one workflow id.
pub fn workflow_id(condition: &Condition) -> Option<&str> {
    first(condition, &|part| match values(part)? {
        (attribute, [Literal::Text(id)]) if attribute.place == Place::Column(Column::WorkflowId) => Some(id.as_str()),
        _ => None,
    })
}

/// Whether only open or only closed runs pass.
pub fn openness(condition: &Condition) -> Option<Openness> {
    first(condition, &|part| match part {
        Condition::IsNull { attribute, negated } if attribute.is_close_time() => {
            Some(if *negated { Openness::Closed } else { Openness::Open })
        }
        Condition::Compare { attribute, comparison, value: Literal::Time(time) } if attribute.is_close_time() => {
            // An open run counts as closed at the end of time; whoever excludes that excludes open runs.
            (!comparison.holds(END_OF_TIME.cmp(time))).then_some(Openness::Closed)
        }
        other => match values(other)? {
            (attribute, any) if attribute.is_status() => statuses(any),
            _ => None,
        },
    })
}

fn statuses(any: &[Literal]) -> Option<Openness> {
    let open = [Status::Running, Status::Paused].map(|status| Literal::Int(i64::from(status as i32)));
    let is_known = any.iter().all(|value| matches!(value, Literal::Int(_)));
    if !is_known || any.is_empty() {
        return None;
    }
    if any.iter().all(|value| open.contains(value)) {
        return Some(Openness::Open);
    }
    (!any.iter().any(|value| open.contains(value))).then_some(Openness::Closed)
}
