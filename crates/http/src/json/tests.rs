use mainstay_base::Prng;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use serde_json::json;

use super::*;
use crate::Dialect;

const CANONICAL: Dialect = Dialect { pretty: false, shorthand: false, reads_shorthand: false };
const SHORT: Dialect = Dialect { pretty: false, shorthand: true, reads_shorthand: true };

fn pool() -> DescriptorPool {
    DescriptorPool::decode(mainstay_api::DESCRIPTOR_SET).unwrap()
}

fn message(name: &str) -> MessageDescriptor {
    pool().get_message_by_name(&format!("temporal.api.{name}")).unwrap()
}

/// Fills messages with anything that they can hold.
struct Filler(Prng);

impl Filler {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Any" => {
                let url = "type.googleapis.com/temporal.api.common.v1.WorkflowType";
                message.set_field_by_name("type_url", Value::String(url.into()));
                message.set_field_by_name("value", Value::Bytes(vec![0x0a, 1, b'n'].into()));
            }
            "google.protobuf.FieldMask" => {
                let paths = vec![Value::String("versioning_override".into())];
                message.set_field_by_name("paths", Value::List(paths));
            }
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
                let nanos = [0, 5_000_000, 7_000, 9][self.below(4) as usize];
                message.set_field_by_name("seconds", Value::I64(self.below(250_000_000_000) as i64));
                message.set_field_by_name("nanos", Value::I32(nanos));
            }
            _ => {
                for field in descriptor.fields() {
                    let wanted = self.below(3) == 0 && (depth > 0 || !matches!(field.kind(), Kind::Message(_)));
                    if wanted {
                        let value = self.field(&field, depth.saturating_sub(1));
                        message.set_field(&field, value);
                    }
                }
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        let count = self.below(3);
        if let (Kind::Message(entry), true) = (field.kind(), field.is_map()) {
            let value = entry.map_entry_value_field().kind();
            let key = |number: u64| match entry.map_entry_key_field().kind() {
                Kind::Int32 => MapKey::I32(number as i32 - 1),
                _ => MapKey::String(format!("k\u{1f}\"{number}")),
            };
            let entries = (0..count).map(|number| (key(number), self.value(&value, depth)));
            return Value::Map(entries.collect());
        }
        if field.is_list() {
            return Value::List((0..count).map(|_| self.value(&field.kind(), depth)).collect());
        }
        self.value(&field.kind(), depth)
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        let any = self.0.next_u64();
        match kind {
            Kind::Bool => Value::Bool(any.is_multiple_of(2)),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(any as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(any as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(any as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(any),
            Kind::Float => Value::F32([0.25, f32::INFINITY, 1e-9, 0.1, 12.0][(any % 5) as usize]),
            Kind::Double => Value::F64([0.25, f64::NEG_INFINITY, 1e300, 0.1, 12.0][(any % 5) as usize]),
            Kind::String => Value::String(["", "é\n\"\\", "a", "\u{0}\u{2028}"][(any % 4) as usize].into()),
            Kind::Bytes => Value::Bytes(any.to_be_bytes()[..(any % 8) as usize].to_vec().into()),
            Kind::Enum(of) => Value::EnumNumber(number(of, any)),
            Kind::Message(message) => Value::Message(self.message(message, depth)),
        }
    }
}

/// Of a value, or sometimes of none.
fn number(of: &EnumDescriptor, any: u64) -> i32 {
    let values: Vec<i32> = of.values().map(|value| value.number()).collect();
    values.get(any as usize % (values.len() + 1)).copied().unwrap_or(99)
}

#[test]
fn what_is_written_is_read_again() {
    let pool = pool();
    let mut filler = Filler(Prng::new(1));
    for service in pool.services().filter(|service| service.package_name().starts_with("temporal.")) {
        for rpc in service.methods() {
            for descriptor in [rpc.input(), rpc.output()] {
                for _ in 0..8 {
                    let message = filler.message(&descriptor, 4);
                    // Fields that are set to nothing are not set.
                    let message =
                        DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice()).unwrap();
                    let text = write(&message, CANONICAL);
                    let again = read(descriptor.clone(), &text, false)
                        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
                    assert_eq!(again, message, "{}", String::from_utf8_lossy(&text));
                    let pretty = write(&message, Dialect { pretty: true, ..CANONICAL });
                    assert_eq!(read(descriptor.clone(), &pretty, false).unwrap(), message);
                    // Payloads of random metadata have no shorthand, and are told from it.
                    let short = write(&message, SHORT);
                    assert!(read(descriptor.clone(), &short, true).is_ok());
                }
            }
        }
    }
}

fn round(name: &str, text: &str, eager: bool, dialect: Dialect) -> String {
    String::from_utf8(write(&read(message(name), text.as_bytes(), eager).unwrap(), dialect)).unwrap()
}

#[test]
fn payloads_hold_json() {
    let texts = [
        (r#"[1, "two", {"three": [null]}, 4.5]"#, r#"[1,"two",{"three":[null]},4.5]"#),
        ("[null]", "[null]"),
        ("[]", "[]"),
        (r#"[{"_protoMessageType": "a.B", "x": 1}]"#, r#"[{"_protoMessageType":"a.B","x":1}]"#),
        (r#"[{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "MQ=="}]"#, "[1]"),
        (r#"{"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "MQ=="}]}"#, "[1]"),
        // Not quite payloads: an encoding that is not base64, more than metadata and data, no data.
        (r#"[{"metadata": {"encoding": "!"}, "data": "MQ=="}]"#, r#"[{"data":"MQ==","metadata":{"encoding":"!"}}]"#),
        (
            r#"[{"metadata": {"encoding": "MQ=="}, "data": "MQ==", "more": 1}]"#,
            r#"[{"data":"MQ==","metadata":{"encoding":"MQ=="},"more":1}]"#,
        ),
        (r#"[{"metadata": {"encoding": "MQ=="}}]"#, r#"[{"metadata":{"encoding":"MQ=="}}]"#),
        (r#"[{"metadata": {"encoding": "YmluYXJ5L251bGw="}}]"#, "[null]"),
    ];
    for (given, shown) in texts {
        assert_eq!(round("common.v1.Payloads", given, true, SHORT), shown, "{given}");
    }
    let plain = round("common.v1.Payloads", "[1, null]", true, CANONICAL);
    let expected = json!({"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "MQ=="},
        {"metadata": {"encoding": "YmluYXJ5L251bGw="}}]});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), expected);
}

#[test]
fn what_has_no_shorthand_is_written_as_it_is() {
    let odd = [
        json!({"metadata": {"encoding": "anNvbi9wbGFpbg==", "type": "SW50"}, "data": "MQ=="}),
        json!({"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "e25vdCBqc29u"}),
        json!({"metadata": {"encoding": "YmluYXJ5L3BsYWlu"}, "data": "AP8="}),
        json!({"metadata": {"encoding": "YmluYXJ5L251bGw="}, "data": "MQ=="}),
        json!({"metadata": {"x": "MQ=="}}),
        json!({}),
    ];
    for payload in odd {
        let text = json!({"payloads": [payload]}).to_string();
        let shown: serde_json::Value = serde_json::from_str(&round("common.v1.Payloads", &text, false, SHORT)).unwrap();
        assert_eq!(shown, json!({"payloads": [payload]}));
    }
}

#[test]
fn shorthand_reaches_fields_maps_and_lists() {
    let given = json!({"memo": {"fields": {"a": null, "b": [1]}}, "input": ["x"], "header": {"fields": {"h": "v"}},
        "userMetadata": {"summary": "short"}});
    let name = "workflowservice.v1.StartWorkflowExecutionRequest";
    let shown = round(name, &given.to_string(), true, SHORT);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), given);
    // Where objects are payloads, other values are still what a payload holds.
    let lenient = round(name, r#"{"input": ["x", {"a": 2}], "user_metadata": {"summary": 1}}"#, false, SHORT);
    assert_eq!(lenient, r#"{"input":["x",{"a":2}],"userMetadata":{"summary":1}}"#);
    assert!(read(message(name), br#"{"input": [{"data": 1}]}"#, false).is_err());
}

#[test]
fn errors_name_what_is_wrong() {
    let name = "workflowservice.v1.StartWorkflowExecutionRequest";
    for (text, word) in [
        (r#"{"workflow": 1}"#, "workflow"),
        (r#"{"workflowIdReusePolicy": "SOME"}"#, "SOME"),
        (r#"{"workflowType": 1}"#, "integer"),
        ("[]", "sequence"),
        ("", "EOF"),
        (r#"{"requestId": "a"} x"#, "trailing"),
    ] {
        let error = read(message(name), text.as_bytes(), true).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn details_of_errors_are_messages() {
    let status = pool().get_message_by_name("google.rpc.Status").unwrap();
    let detail = |name: &str, value: &[u8]| prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: value.into(),
    };
    let message = mainstay_api::pb::google::rpc::Status {
        code: 5,
        message: "gone".into(),
        details: vec![
            detail("temporal.api.errordetails.v1.NamespaceNotFoundFailure", &[0x0a, 1, b'n']),
            detail("temporal.api.errordetails.v1.NotFoundFailure", &[]),
            detail("no.such.Type", b"x"),
            detail("temporal.api.errordetails.v1.NotFoundFailure", &[0xff]),
        ],
    };
    let message = DynamicMessage::decode(status, message.encode_to_vec().as_slice()).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&write(&message, SHORT)).unwrap();
    let url = |name: &str| format!("type.googleapis.com/{name}");
    assert_eq!(
        shown["details"],
        json!([
            {"@type": url("temporal.api.errordetails.v1.NamespaceNotFoundFailure"), "namespace": "n"},
            {"@type": url("temporal.api.errordetails.v1.NotFoundFailure")},
            {"@type": url("no.such.Type"), "value": "eA=="},
            {"@type": url("temporal.api.errordetails.v1.NotFoundFailure"), "value": "/w=="},
        ])
    );
}
