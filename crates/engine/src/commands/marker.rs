//! RecordMarker: SDKs keep side effects, versions and local activities in markers; the server only stores them.

use mainstay_api::temporal::command::v1::{Command, RecordMarkerCommandAttributes};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_api::temporal::history::v1::MarkerRecordedEventAttributes;
use mainstay_base::limits;
use prost::Message;

use super::{Checked, Completion, Rejection};
use crate::event::Attributes;

pub(super) fn record(c: &mut Completion<'_, '_>, command: &Command, a: &RecordMarkerCommandAttributes) -> Checked<()> {
    let bad = |text: String| Rejection::Bad(Cause::BadRecordMarkerAttributes, text);
    if a.marker_name.is_empty() {
        return Err(bad("MarkerName is not set on RecordMarkerCommand.".into()));
    }
    let length = a.marker_name.chars().count();
    if length > limits::ID_LENGTH_MAX {
        return Err(bad(format!(
            "MarkerName on RecordMarkerCommand exceeds length limit. MarkerName={} Length={length} Limit={}",
            a.marker_name,
            limits::ID_LENGTH_MAX
        )));
    }
    let size = a.details.values().map(Message::encoded_len).sum();
    c.check_size(Cause::BadRecordMarkerAttributes, size, "RecordMarkerCommandAttributes.Details")?;
    let attributes = MarkerRecordedEventAttributes {
        marker_name: a.marker_name.clone(),
        details: a.details.clone(),
        workflow_task_completed_event_id: c.completed_event_id,
        header: a.header.clone(),
        failure: a.failure.clone(),
    };
    c.write(command, Attributes::MarkerRecordedEventAttributes(attributes));
    Ok(())
}
