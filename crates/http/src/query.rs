//! Fields from texts: what a path or a query says of a message.
//!
//! A name may be camelCase or snake_case at each step (`execution.runId`, `execution.run_id`). A repeated field takes a value each
//! time that it is named; times, durations and masks are written as in JSON.

use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::json::from_base64;
use crate::problem::Problem;

/// Types contain themselves, so a name could go on for as long as a line may be.
const STEPS_MAX: usize = 16;

/// The fields from a message down to the one that is named; none if there is none.
pub(crate) fn resolve(message: &MessageDescriptor, name: &str) -> Option<Vec<FieldDescriptor>> {
    let mut message = Some(message.clone());
    let mut fields = Vec::new();
    for step in name.split('.') {
        let within = message.take().filter(|_| fields.len() < STEPS_MAX)?;
        let field = within.get_field_by_name(step).or_else(|| within.get_field_by_json_name(step))?;
        if let (Kind::Message(next), false) = (field.kind(), field.cardinality() == Cardinality::Repeated) {
            message = Some(next);
        }
        fields.push(field);
    }
    Some(fields)
}

/// Sets a field, or adds to one that is repeated.
///
/// # Errors
/// If the text is no value of the field.
pub(crate) fn set(message: &mut DynamicMessage, fields: &[FieldDescriptor], text: &str) -> Result<(), Problem> {
    let Some((last, way)) = fields.split_last() else { return Ok(()) };
    let mut within = message;
    for field in way {
        let Value::Message(next) = within.get_field_mut(field) else { return Ok(()) };
        within = next;
    }
    if last.is_map() {
        return Err(unsuitable(last));
    }
    let value = parse(last, text)?;
    if last.is_list() {
        if let Value::List(elements) = within.get_field_mut(last) {
            elements.push(value);
        }
    } else {
        within.set_field(last, value);
    }
    Ok(())
}

/// Sets what a query names. Names that the message does not have are ignored, as grpc-gateway does; so are fields of `taken`.
///
/// # Errors
/// If a value is none of its field, or a field that holds one value is given two.
pub(crate) fn set_all(message: &mut DynamicMessage, query: &str, taken: &[&[FieldDescriptor]]) -> Result<(), Problem> {
    let descriptor = message.descriptor();
    let mut seen: Vec<Vec<FieldDescriptor>> = Vec::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let Some(fields) = resolve(&descriptor, &name) else { continue };
        if taken.contains(&fields.as_slice()) {
            continue;
        }
        if !fields.last().is_some_and(FieldDescriptor::is_list) {
            if seen.contains(&fields) {
                return Err(Problem::invalid(format!("{name} is given more than once")));
            }
            seen.push(fields.clone());
        }
        set(message, &fields, &text)?;
    }
    Ok(())
}

fn parse(field: &FieldDescriptor, text: &str) -> Result<Value, Problem> {
    let number = |what: &str| Problem::invalid(format!("invalid value {text:?} for {}: not {what}", field.name()));
    match field.kind() {
        Kind::Bool => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(number("true or false")),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            text.parse().map(Value::I32).map_err(|_| number("a 32-bit integer"))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            text.parse().map(Value::I64).map_err(|_| number("a 64-bit integer"))
        }
        Kind::Uint32 | Kind::Fixed32 => text.parse().map(Value::U32).map_err(|_| number("a 32-bit integer")),
        Kind::Uint64 | Kind::Fixed64 => text.parse().map(Value::U64).map_err(|_| number("a 64-bit integer")),
        Kind::Float => text.parse().map(Value::F32).map_err(|_| number("a number")),
        Kind::Double => text.parse().map(Value::F64).map_err(|_| number("a number")),
        Kind::String => Ok(Value::String(text.to_owned())),
        // A plus sign that nobody escaped arrives as a space.
        Kind::Bytes => from_base64(&text.replace(' ', "+")).map(Value::Bytes).ok_or_else(|| number("base64")),
        Kind::Enum(kind) => {
            let by_name = kind.get_value_by_name(text).map(|value| value.number());
            let found = by_name.or_else(|| text.parse().ok().filter(|number| kind.get_value(*number).is_some()));
            found.map(Value::EnumNumber).ok_or_else(|| number(&format!("a {}", kind.name())))
        }
        Kind::Message(message) => {
            let value: serde_json::Value = match message.full_name() {
                "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask" => text.into(),
                "google.protobuf.DoubleValue" => text.parse::<f64>().map_err(|_| number("a number"))?.into(),
                _ => return Err(unsuitable(field)),
            };
            let kind = message.name().to_owned();
            DynamicMessage::deserialize(message, value)
                .map(Value::Message)
                .map_err(|_: serde_json::Error| number(&format!("a {kind}")))
        }
    }
}

fn unsuitable(field: &FieldDescriptor) -> Problem {
    Problem::invalid(format!("{} cannot be given in a path or query", field.name()))
}
