//! Between the API's times and durations and the integers that records hold.

use std::borrow::Cow;

use bytes::Bytes;
use mainstay_api::temporal::common::v1::{Payload, Payloads};
use mainstay_base::Timestamp;
use prost::Message;
use prost_types::{Duration, Timestamp as ProtoTimestamp};

use crate::store::Fault;

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds of an API duration; absent is 0, out of range saturates.
pub(crate) fn nanos(duration: Option<&Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(NANOS).saturating_add(i64::from(d.nanos)))
}

/// An API duration that is always present: SDKs require zero durations on some events.
pub(crate) fn duration(nanos: i64) -> Option<Duration> {
    Some(Duration { seconds: nanos / NANOS, nanos: (nanos % NANOS) as i32 })
}

/// An API time; 0 is absent.
pub(crate) fn time(ns: i64) -> Option<ProtoTimestamp> {
    if ns == 0 {
        return None;
    }
    let (seconds, nanos) = Timestamp::from_nanos(ns).to_parts();
    Some(ProtoTimestamp { seconds, nanos })
}

/// Nanoseconds of an API time; absent is 0.
pub(crate) fn time_ns(time: Option<&ProtoTimestamp>) -> i64 {
    time.map_or(0, |t| Timestamp::from_parts(t.seconds, t.nanos).as_nanos())
}

/// The smaller of two limits of which 0 means none.
pub(crate) fn least(a: i64, b: i64) -> i64 {
    match (a, b) {
        (0, b) => b,
        (a, 0) => a,
        (a, b) => a.min(b),
    }
}

/// A point `span` after `start`; none for a span of 0.
pub(crate) fn deadline(start: i64, span: i64) -> i64 {
    if span == 0 { 0 } else { start.saturating_add(span) }
}

/// One payload that holds this JSON text.
pub(crate) fn json_payloads(json: &str) -> Payloads {
    let metadata = [("encoding".to_string(), Bytes::from_static(b"json/plain"))].into();
    let data = Bytes::copy_from_slice(json.as_bytes());
    Payloads { payloads: vec![Payload { metadata, data, ..Payload::default() }] }
}

/// A message that is kept encoded: nobody here looks into it.
pub(crate) fn encoded<M: Message>(message: Option<&M>) -> Option<Bytes> {
    message.map(|message| message.encode_to_vec().into())
}

/// A message that was kept encoded.
pub(crate) fn decoded<M: Message + Default>(kept: Option<&Bytes>) -> Result<Option<M>, Fault> {
    let decode =
        |bytes: &Bytes| M::decode(bytes.clone()).map_err(|e| Fault(format!("a kept message does not decode: {e}")));
    kept.map(decode).transpose()
}

/// A message's field, or its default: without copying what is there.
pub(crate) fn given<M: Clone + Default>(field: &Option<M>) -> Cow<'_, M> {
    field.as_ref().map_or_else(|| Cow::Owned(M::default()), Cow::Borrowed)
}
