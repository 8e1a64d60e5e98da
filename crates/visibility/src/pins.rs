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
pub fn values(condition: &Condition) -> Option<(&Attribute, &[Literal])> {
    match condition {
        Condition::Compare { attribute, comparison: Comparison::Equal, value } => {
            Some((attribute, std::slice::from_ref(value)))
        }
        Condition::In { attribute, negated: false, any } => Some((attribute, any)),
        _ => None,
    }
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
            (attribute, any) if attribute.is_status() => openness_of(&known_statuses(any)?),
            _ => None,
        },
    })
}

/// The statuses that rows may have.
pub fn statuses(condition: &Condition) -> Option<Vec<i32>> {
    first(condition, &|part| match values(part)? {
        (attribute, any) if attribute.is_status() => known_statuses(any),
        _ => None,
    })
}

/// The types and, if given, the statuses that rows must have, if the filter asks for nothing else.
pub fn only_type_and_status<'a>(condition: &'a Condition) -> Option<(Vec<&'a str>, Option<Vec<i32>>)> {
    let parts = match condition {
        Condition::And(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let (mut types, mut statuses) = (None, None);
    for part in parts {
        let (attribute, any) = values(part)?;
        if attribute.is_status() && statuses.is_none() {
            statuses = Some(known_statuses(any)?);
        } else if attribute.place == Place::Column(Column::WorkflowType) && types.is_none() {
            let text = |value: &'a Literal| if let Literal::Text(text) = value { Some(text.as_str()) } else { None };
            types = Some(any.iter().map(text).collect::<Option<Vec<_>>>()?);
        } else {
            return None;
        }
    }
    Some((types.unwrap_or_default(), statuses))
}

/// The statuses of some values, each once; none if a value is no status.
fn known_statuses(any: &[Literal]) -> Option<Vec<i32>> {
    let mut known = Vec::new();
    for value in any {
        let Literal::Int(number) = value else { return None };
        let status = i32::try_from(*number).ok()?;
        if !known.contains(&status) {
            known.push(status);
        }
    }
    (!known.is_empty()).then_some(known)
}

fn openness_of(statuses: &[i32]) -> Option<Openness> {
    let open = [Status::Running as i32, Status::Paused as i32];
    if statuses.iter().all(|status| open.contains(status)) {
        return Some(Openness::Open);
    }
    (!statuses.iter().any(|status| open.contains(status))).then_some(Openness::Closed)
}
