//! Messages out of descriptors: fields that are set at random, names out of few, so that messages concern each other.

use mainstay_base::Prng;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};

/// Messages in messages, at most.
const DEPTH: u32 = 6;

/// Makes messages.
pub struct Generator {
    pool: DescriptorPool,
}

impl Generator {
    /// Of everything that the server serves.
    ///
    /// # Panics
    /// If the server's own descriptors do not decode.
    pub fn new() -> Self {
        let pool = DescriptorPool::decode(mainstay_api::DESCRIPTOR_SET).expect("own descriptors decode");
        Self { pool }
    }

    /// Every RPC: its path, and what it is asked with.
    pub fn methods(&self) -> Vec<(String, MessageDescriptor)> {
        let services = self.pool.services();
        let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
        let unary = methods.filter(|method| !method.is_server_streaming());
        unary
            .map(|method| (format!("/{}/{}", method.parent_service().full_name(), method.name()), method.input()))
            .collect()
    }

    /// A kind of message by its name.
    pub fn kind(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }

    /// A message of a kind.
    pub fn message(&self, prng: &mut Prng, kind: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(kind.clone());
        for oneof in kind.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let fields: Vec<_> = oneof.fields().collect();
            if depth < DEPTH && !fields.is_empty() && prng.below(8) != 0 {
                let field = &fields[prng.below(fields.len() as u64) as usize];
                message.set_field(field, self.value(prng, field, depth));
            }
        }
        for field in kind.fields().filter(|field| field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic())) {
            let rarely = matches!(field.kind(), Kind::Message(_)) && depth > 2;
            if prng.below(if rarely { 5 } else { 2 }) == 0 && depth < DEPTH {
                message.set_field(&field, self.value(prng, &field, depth));
            }
        }
        message
    }

    fn value(&self, prng: &mut Prng, field: &FieldDescriptor, depth: u32) -> Value {
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return Value::Map(Default::default()) };
            let value = entry.map_entry_value_field();
            let key = MapKey::String(word(prng).into());
            return Value::Map([(key, self.single(prng, &value, depth))].into());
        }
        if field.cardinality() == Cardinality::Repeated {
            let count = prng.below(4);
            return Value::List((0..count).map(|_| self.single(prng, field, depth)).collect());
        }
        self.single(prng, field, depth)
    }

    fn single(&self, prng: &mut Prng, field: &FieldDescriptor, depth: u32) -> Value {
        match field.kind() {
            Kind::Message(kind) => Value::Message(match kind.full_name() {
                "google.protobuf.Duration" | "google.protobuf.Timestamp" => time(prng, &kind),
                _ => self.message(prng, &kind, depth + 1),
            }),
            Kind::Enum(kind) => {
                let values: Vec<i32> = kind.values().map(|value| value.number()).collect();
                let known = values[prng.below(values.len() as u64) as usize];
                Value::EnumNumber(if prng.below(10) == 0 { number(prng) as i32 } else { known })
            }
            Kind::Bool => Value::Bool(prng.below(2) == 0),
            Kind::String => Value::String(named(prng, field.name())),
            Kind::Bytes => Value::Bytes(named(prng, field.name()).into_bytes().into()),
            Kind::Double => Value::F64(number(prng) as f64 / 8.0),
            Kind::Float => Value::F32(number(prng) as f32 / 8.0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number(prng) as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number(prng)),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number(prng) as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number(prng) as u64),
        }
    }
}

/// Times of all sizes, and some that are none.
fn time(prng: &mut Prng, kind: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    let seconds = if prng.below(2) == 0 { prng.below(100) as i64 } else { number(prng) };
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(if prng.below(4) == 0 { number(prng) as i32 } else { 0 }));
    debug_assert_eq!(message.descriptor(), *kind);
    message
}

fn number(prng: &mut Prng) -> i64 {
    const EDGES: [i64; 14] = [
        0,
        1,
        -1,
        2,
        5,
        7,
        255,
        1000,
        i32::MAX as i64,
        i32::MIN as i64,
        i64::MAX,
        i64::MIN,
        253_402_300_799,
        -62_135_596_801,
    ];
    if prng.below(2) == 0 { EDGES[prng.below(14) as usize] } else { prng.below(20) as i64 }
}

fn word(prng: &mut Prng) -> &'static str {
    const WORDS: [&str; 10] = ["a", "b", "w1", "w2", "q", "", "default", "encoding", "\u{0}", "é😀"];
    WORDS[prng.below(10) as usize]
}

/// A text that fits its field more often than not.
fn named(prng: &mut Prng, field: &str) -> String {
    if prng.below(10) == 0 {
        return match prng.below(3) {
            0 => "x".repeat(1001),
            _ => word(prng).into(),
        };
    }
    let fitting: &[&str] = match field {
        "namespace" => &["default", "default", "default", "other"],
        "workflow_id" => &["w1", "w2", "w3"],
        "run_id" => &["", "", "018f0000-0000-7000-8000-000000000001", "no"],
        "query" | "visibility_query" => &["", "WorkflowId = 'w1'", "ExecutionStatus = 'Running'", "a = 1 or b"],
        "cron_string" | "cron_schedule" => &["", "* * * * *", "@every 1s", "0 0 30 2 *"],
        "timezone_name" => &["", "UTC", "Europe/Berlin", "Mars"],
        "activity_id" | "timer_id" | "schedule_id" | "job_id" | "update_id" | "id" => &["a1", "a2"],
        "next_page_token" | "task_token" | "conflict_token" => &["", "", "no token"],
        _ => &["a", "b", "q", ""],
    };
    fitting[prng.below(fitting.len() as u64) as usize].into()
}
