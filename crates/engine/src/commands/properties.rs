//! UpsertWorkflowSearchAttributes and ModifyWorkflowProperties: what lists show of a run, changed by itself.

use mainstay_api::temporal::command::v1::{
    Command, ModifyWorkflowPropertiesCommandAttributes, UpsertWorkflowSearchAttributesCommandAttributes,
};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_api::temporal::history::v1::{
    UpsertWorkflowSearchAttributesEventAttributes, WorkflowPropertiesModifiedEventAttributes,
};
use mainstay_base::limits;
use prost::Message;

use super::{Checked, Completion, Rejection};
use crate::event::Attributes;
use crate::search_attributes;

pub(super) fn upsert_search_attributes(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &UpsertWorkflowSearchAttributesCommandAttributes,
) -> Checked<()> {
    let bad = |text: String| Rejection::Bad(Cause::BadSearchAttributes, text);
    let fields = a.search_attributes.clone().unwrap_or_default();
    if fields.indexed_fields.is_empty() {
        let text = "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.";
        return Err(bad(text.into()));
    }
    let namespace = c.tx.namespace()?;
    let typed = search_attributes::typed(&fields, &namespace).map_err(bad)?;
    search_attributes::merge(c.tx, c.run, &typed);
    let attributes = UpsertWorkflowSearchAttributesEventAttributes {
        workflow_task_completed_event_id: c.completed_event_id,
        search_attributes: Some(typed),
    };
    c.write(command, Attributes::UpsertWorkflowSearchAttributesEventAttributes(attributes));
    Ok(())
}

pub(super) fn modify(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &ModifyWorkflowPropertiesCommandAttributes,
) -> Checked<()> {
    let upserted = a.upserted_memo.clone().unwrap_or_default();
    if upserted.fields.is_empty() {
        let text = "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.";
        return Err(Rejection::Bad(Cause::BadModifyWorkflowPropertiesAttributes, text.into()));
    }
    let mut memo = c.run.details(c.tx).memo.clone();
    search_attributes::merge_memo(&mut memo, &upserted);
    if memo.as_ref().map_or(0, Message::encoded_len) > limits::MEMO_SIZE_MAX {
        let text = "ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit.";
        return Err(Rejection::Fatal(Cause::BadModifyWorkflowPropertiesAttributes, text.into()));
    }
    c.run.details_mut(c.tx).memo = memo;
    c.run.mark_listed();
    let attributes = WorkflowPropertiesModifiedEventAttributes {
        workflow_task_completed_event_id: c.completed_event_id,
        upserted_memo: a.upserted_memo.clone(),
    };
    c.write(command, Attributes::WorkflowPropertiesModifiedEventAttributes(attributes));
    Ok(())
}
