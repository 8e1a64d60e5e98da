//! What a filter for schedules may name: nothing that only workflow executions have.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;

use crate::ast::Ast;
use crate::attributes::{Place, resolve};

/// Checks the names of a filter, in the order in which they are written.
///
/// # Errors
/// Temporal's text.
pub fn check(ast: &Ast, custom: &BTreeMap<String, Kind>) -> Result<(), String> {
    let each = |parts: &[Ast]| parts.iter().try_for_each(|part| check(part, custom));
    match ast {
        Ast::Paren(inner) | Ast::Not(inner) => check(inner, custom),
        Ast::And(parts) | Ast::Or(parts) => each(parts),
        Ast::Compare { left, .. } | Ast::Range { left, .. } => match left.as_ref() {
            Ast::Column(name) => name_is_known(name, ast, custom),
            _ => Ok(()),
        },
        Ast::Is { subject: Ok(name), .. } => name_is_known(name, ast, custom),
        _ => Ok(()),
    }
}

fn name_is_known(name: &str, whole: &Ast, custom: &BTreeMap<String, Kind>) -> Result<(), String> {
    let name = name.replace('`', "");
    match resolve(&name, custom) {
        None => Err(format!(
            "invalid query: unable to convert filter expression: unable to convert left side of \"{}\": \
             invalid search attribute: {name}",
            whole.show()
        )),
        Some(attribute) if matches!(attribute.place, Place::Column(_)) && attribute.value_prefix.is_empty() => {
            Err(format!("invalid query filter for schedules: cannot filter on \"{name}\""))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::Query;

    fn refusal(filter: &str) -> String {
        Query::parse_schedules::<i32>(filter, &BTreeMap::new()).err().unwrap_or_default()
    }

    #[test]
    fn attributes_of_workflows_are_refused() {
        assert_eq!(refusal("ScheduleId = 'x' AND TemporalSchedulePaused = true"), "");
        assert_eq!(
            refusal("StartTime = 'x' AND ScheduleId = 'x'"),
            "invalid query filter for schedules: cannot filter on \"StartTime\""
        );
        assert_eq!(
            refusal("NoSuchField = 1"),
            "invalid query: unable to convert filter expression: unable to convert left side of \
             \"NoSuchField = 1\": invalid search attribute: NoSuchField"
        );
        assert_eq!(refusal("ScheduleId ="), "invalid query: malformed SQL query: syntax error at position 40");
    }
}
