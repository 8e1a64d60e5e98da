//! The OpenAPI 3 document of this API, made from the same table and descriptors that requests are served by.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use mainstay_frontend::SERVER_VERSION;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::handler::Api;
use crate::history;
use crate::routes::{Body, Route};

/// Names of a query go this deep: deeper ones are no use to anybody, and types contain themselves.
const DEPTH_MAX: usize = 3;
const JSON: &str = "application/json";
const STATUS: &str = "google.rpc.Status";

/// The document.
pub(crate) fn document(api: &Api) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for route in api.routes.all() {
        let operation = operation(route, &mut names, &mut schemas);
        paths.entry(route.path).or_default().insert(route.verb.as_str().to_ascii_lowercase(), operation);
    }
    if let Some(event) = api.pool.get_message_by_name(history::EVENT) {
        let text = json!({"type": "string"});
        let parameters: Vec<Value> = ["namespace", "workflow", "run"].map(|name| path_parameter(name, &text)).into();
        let events = json!({"type": "array", "items": schemas.reference(&event)});
        paths.entry(history::PATH).or_default().insert(
            "get".into(),
            json!({
                "tags": ["Downloads"],
                "operationId": "DownloadHistory",
                "parameters": parameters,
                "responses": {"200": answer("All events of a run.", &events)},
            }),
        );
    }
    if let Some(status) = api.pool.get_message_by_name(STATUS) {
        schemas.reference(&status);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Mainstay HTTP API",
            "description": "Temporal's WorkflowService and OperatorService as JSON. \
                Below /api/v1 payloads are written as they are, elsewhere as the JSON that they hold.",
            "version": SERVER_VERSION,
            "license": {"name": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.finish()},
    })
}

fn operation(route: &Route, names: &mut BTreeSet<String>, schemas: &mut Schemas) -> Value {
    let rpc = &route.rpc;
    let own = (1..).map(|number| if number == 1 { rpc.name().to_owned() } else { format!("{}{number}", rpc.name()) });
    let name = own.into_iter().find(|name| !names.contains(name)).unwrap_or_default();
    names.insert(name.clone());
    let mut parameters: Vec<Value> = Vec::new();
    let mut taken = Vec::new();
    for fields in route.fields() {
        let name: Vec<&str> = fields.iter().map(FieldDescriptor::name).collect();
        let schema = fields.last().map(|field| schemas.field(field)).unwrap_or_default();
        parameters.push(path_parameter(&name.join("."), &schema));
        taken.push(fields.to_vec());
    }
    let mut operation = json!({
        "tags": [rpc.parent_service().name()],
        "operationId": name,
        "responses": {
            "200": answer("OK", &schemas.reference(&rpc.output())),
            "default": answer("Why it is refused.", &json!({"$ref": "#/components/schemas/Status"})),
        },
    });
    match &route.body {
        Body::Whole => {
            operation["requestBody"] = json!({"required": route.verb == Method::POST,
                "content": {JSON: {"schema": schemas.reference(&rpc.input())}}});
        }
        Body::Field(field) => {
            operation["requestBody"] = json!({"content": {JSON: {"schema": schemas.field(field)}}});
            taken.push(vec![field.clone()]);
        }
        Body::None => {}
    }
    if route.body != Body::Whole {
        query_parameters(&rpc.input(), &mut Vec::new(), &taken, schemas, &mut parameters);
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn path_parameter(name: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn answer(description: &str, schema: &Value) -> Value {
    json!({"description": description, "content": {JSON: {"schema": schema}}})
}

/// The fields that a query can set: scalars, times and lists of such, in this message and those within.
fn query_parameters(
    message: &MessageDescriptor,
    way: &mut Vec<FieldDescriptor>,
    taken: &[Vec<FieldDescriptor>],
    schemas: &mut Schemas,
    parameters: &mut Vec<Value>,
) {
    for field in message.fields() {
        way.push(field.clone());
        match field.kind() {
            _ if field.is_map() || taken.contains(way) => {}
            Kind::Message(within) if well_known(&within).is_none() => {
                if !field.is_list() && way.len() < DEPTH_MAX {
                    query_parameters(&within, way, taken, schemas, parameters);
                }
            }
            _ => {
                let name: Vec<&str> = way.iter().map(FieldDescriptor::json_name).collect();
                parameters.push(json!({"name": name.join("."), "in": "query", "schema": schemas.field(&field)}));
            }
        }
        way.pop();
    }
}

/// The schemas that the document refers to.
#[derive(Default)]
struct Schemas {
    /// By the full name of the type, the name in the document.
    names: BTreeMap<String, String>,
    /// By the name in the document.
    done: BTreeMap<String, Value>,
}

impl Schemas {
    fn finish(self) -> BTreeMap<String, Value> {
        self.done
    }

    /// A name that nobody has yet: the type's own, or else with its package.
    fn name(&mut self, full_name: &str, package: &str) -> (String, bool) {
        if let Some(name) = self.names.get(full_name) {
            return (name.clone(), false);
        }
        let short = full_name.strip_prefix(package).unwrap_or(full_name).trim_start_matches('.');
        let name = if self.done.contains_key(short) { full_name } else { short };
        self.names.insert(full_name.to_owned(), name.to_owned());
        self.done.insert(name.to_owned(), Value::Null);
        (name.to_owned(), true)
    }

    fn reference(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message) {
            return schema;
        }
        let (name, new) = self.name(message.full_name(), message.package_name());
        if new {
            let properties: Map<String, Value> =
                message.fields().map(|field| (field.json_name().to_owned(), self.field(&field))).collect();
            let mut schema = json!({"type": "object", "properties": properties});
            match message.full_name() {
                "temporal.api.common.v1.Payload" => {
                    schema = json!({"description": "The JSON that it holds, or an object of metadata and data.",
                        "anyOf": [schema, {}]});
                }
                "temporal.api.common.v1.Payloads" => {
                    let list = schema["properties"]["payloads"].clone();
                    schema = json!({"anyOf": [schema, list]});
                }
                _ => {}
            }
            self.done.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> Value {
        let (name, new) = self.name(of.full_name(), of.package_name());
        if new {
            let values: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
            self.done.insert(name.clone(), json!({"type": "string", "enum": values}));
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if let (Kind::Message(entry), true) = (field.kind(), field.is_map()) {
            let values = self.kind(&entry.map_entry_value_field().kind());
            return json!({"type": "object", "additionalProperties": values});
        }
        let one = self.kind(&field.kind());
        if field.is_list() { json!({"type": "array", "items": one}) } else { one }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "uint32"}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Enum(of) => self.enumeration(of),
            Kind::Message(message) => self.reference(message),
        }
    }
}

/// The schema of a type that JSON has its own form for.
fn well_known(message: &MessageDescriptor) -> Option<Value> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"}),
        "FieldMask" => json!({"type": "string"}),
        "DoubleValue" => json!({"type": "number", "format": "double"}),
        "Any" => json!({"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": true}),
        _ => json!({"type": "object"}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
        let api = Api::new().unwrap();
        let document = document(&api);
        let mut todo = vec![&document];
        let mut names = BTreeSet::new();
        while let Some(value) = todo.pop() {
            match value {
                Value::Object(object) => {
                    if let Some(to) = object.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(&to[1..]).is_some_and(Value::is_object), "{to}");
                    }
                    if let Some(name) = object.get("operationId").and_then(Value::as_str) {
                        assert!(names.insert(name), "{name}");
                    }
                    todo.extend(object.values());
                }
                Value::Array(values) => todo.extend(values),
                _ => {}
            }
        }
        assert!(names.len() > 200, "{}", names.len());
    }

    #[test]
    fn an_operation_shows_path_query_and_body() {
        let document = document(&Api::new().unwrap());
        let history =
            &document["paths"]["/api/v1/namespaces/{namespace}/workflows/{execution.workflow_id}/history"]["get"];
        let names: Vec<&str> =
            history["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert!(names.starts_with(&["namespace", "execution.workflow_id"]), "{names:?}");
        assert!(names.contains(&"execution.runId") && names.contains(&"maximumPageSize"), "{names:?}");
        assert!(!names.contains(&"execution.workflowId"));
        let start = &document["paths"]["/namespaces/{namespace}/workflows/{workflow_id}"]["post"];
        let schema = &start["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, "#/components/schemas/StartWorkflowExecutionRequest");
        assert!(start["parameters"].as_array().unwrap().len() == 2);
    }
}
