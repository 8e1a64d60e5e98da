//! Reading histories, page by page and by long poll. Events stay encoded from the node to the wire.

use mainstay_api::temporal::enums::v1::HistoryEventFilterType;
use mainstay_api::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, GetWorkflowExecutionHistoryResponse, GetWorkflowExecutionHistoryReverseRequest,
    GetWorkflowExecutionHistoryReverseResponse,
};
use mainstay_base::limits::HISTORY_PAGE_MAX;
use mainstay_node::service::{HistoryQuery, Service};
use mainstay_runtime::Runtime;

use super::{Call, Frontend, follow};
use crate::page_token;
use crate::status::Answer;
use crate::validate;

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn get_workflow_execution_history(
        &self,
        call: Call<GetWorkflowExecutionHistoryRequest>,
    ) -> Answer<GetWorkflowExecutionHistoryResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let mut execution = validate::execution(request.execution.as_ref())?;
        let seal = self.seal();
        let position = page_token::read(seal, &request.next_page_token, &execution.run_id, false)?;
        if let Some(position) = &position {
            execution.run_id = position.run_id.clone();
        }
        let close_event_only = request.history_event_filter_type() == HistoryEventFilterType::CloseEvent;
        let waits = request.wait_new_event || close_event_only;
        let query = HistoryQuery {
            execution,
            position: position.clone(),
            page_size: page_size(request.maximum_page_size),
            wait_new_event: request.wait_new_event,
            close_event_only,
            reverse: false,
            skip_unwritten: call.skip_unwritten,
            timeout: call.budget.within(self.config.history_timeout),
        };
        let read = self.service.history(namespace, query);
        let page = if waits { self.closing.unless(read).await } else { Some(read.await) };
        let Some(page) = page else {
            // The server stops: the caller goes on from where it was, at another node or later.
            let history = Some(Default::default());
            let next_page_token = request.next_page_token;
            return Ok(GetWorkflowExecutionHistoryResponse { history, next_page_token, ..Default::default() });
        };
        let mut page = page?;
        if close_event_only && !call.follows_next_run {
            follow::as_continued(&mut page.history);
        }
        let next = if close_event_only && !request.wait_new_event { None } else { page.next };
        Ok(GetWorkflowExecutionHistoryResponse {
            history: Some(page.history),
            next_page_token: page_token::write(seal, next, false),
            ..Default::default()
        })
    }

    pub(super) async fn get_workflow_execution_history_reverse(
        &self,
        call: Call<GetWorkflowExecutionHistoryReverseRequest>,
    ) -> Answer<GetWorkflowExecutionHistoryReverseResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let mut execution = validate::execution(request.execution.as_ref())?;
        let seal = self.seal();
        let position = page_token::read(seal, &request.next_page_token, &execution.run_id, true)?;
        if let Some(position) = &position {
            execution.run_id = position.run_id.clone();
        }
        let query = HistoryQuery {
            execution,
            position,
            page_size: page_size(request.maximum_page_size),
            reverse: true,
            skip_unwritten: true,
            ..HistoryQuery::default()
        };
        let page = self.service.history(namespace, query).await?;
        Ok(GetWorkflowExecutionHistoryReverseResponse {
            history: Some(page.history),
            next_page_token: page_token::write(seal, page.next, true),
        })
    }
}

fn page_size(asked: i32) -> usize {
    usize::try_from(asked).ok().filter(|size| (1..=HISTORY_PAGE_MAX).contains(size)).unwrap_or(HISTORY_PAGE_MAX)
}
