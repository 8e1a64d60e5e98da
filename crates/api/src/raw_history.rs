//! `temporal.api.history.v1.History` with its events left encoded.
//!
//! A history is written once and read often: from the store to the wire its events are only copied, never decoded. On the
//! wire this type is indistinguishable from the ordinary one.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, bytes as encoded, skip_field};
use prost::{DecodeError, Message};

/// `repeated HistoryEvent events = 1`, each event as its encoded bytes, in event-id order.
///
/// Events decoded from a `Bytes` buffer share it, so keeping a small event alive keeps the whole buffer alive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawHistory {
    /// One encoded `HistoryEvent` each.
    pub events: Vec<Bytes>,
}

impl Message for RawHistory {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoded::encode_repeated(1, &self.events, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => encoded::merge_repeated(wire_type, &mut self.events, buf, context),
            _ => skip_field(wire_type, tag, buf, context),
        }
    }

    fn encoded_len(&self) -> usize {
        encoded::encoded_len_repeated(1, &self.events)
    }

    fn clear(&mut self) {
        self.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal::history::v1::HistoryEvent;
    use crate::temporal::workflowservice::v1::GetWorkflowExecutionHistoryResponse;

    #[test]
    fn events_survive_the_wire_byte_for_byte_and_share_its_buffer() {
        let event = |id| Bytes::from(HistoryEvent { event_id: id, ..Default::default() }.encode_to_vec());
        let raw = RawHistory { events: (1..=3).map(event).collect() };
        let response = GetWorkflowExecutionHistoryResponse { history: Some(raw.clone()), ..Default::default() };
        let wire = Bytes::from(response.encode_to_vec());
        let back = GetWorkflowExecutionHistoryResponse::decode(wire.clone()).expect("decodes").history;
        let back = back.expect("has a history");
        assert_eq!(back, raw);
        let (start, at) = (wire.as_ptr() as usize, back.events[0].as_ptr() as usize);
        assert!(at >= start && at < start + wire.len(), "the event was copied");
    }
}
