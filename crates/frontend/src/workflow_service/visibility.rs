//! Lists and counts. The query language is the node's; the old list calls are written as queries.

use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as RunStatus;
use mainstay_api::temporal::filter::v1::StartTimeFilter;
use mainstay_api::temporal::workflowservice::v1::{
    list_closed_workflow_executions_request::Filters as ClosedFilters,
    list_open_workflow_executions_request::Filters as OpenFilters, *,
};
use mainstay_base::Timestamp;
use mainstay_node::service::{ListPage, Service};
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::status::{Answer, camel, invalid};

const PAGE_SIZE_MAX: usize = 1_000;

impl<R: Runtime, S: Service> Frontend<R, S> {
    async fn list(&self, namespace: &str, filter: String, page_size: i32, token: &[u8]) -> Answer<ListPage> {
        let namespace = self.namespace(namespace)?;
        Ok(self.service.list(namespace, filter, self::page_size(page_size), token.to_vec()).await?)
    }

    pub(super) async fn list_workflow_executions(
        &self,
        call: Call<ListWorkflowExecutionsRequest>,
    ) -> Answer<ListWorkflowExecutionsResponse> {
        let r = call.request;
        let ListPage { executions, next_page_token } =
            self.list(&r.namespace, r.query, r.page_size, &r.next_page_token).await?;
        Ok(ListWorkflowExecutionsResponse { executions, next_page_token: next_page_token.into() })
    }

    pub(super) async fn scan_workflow_executions(
        &self,
        call: Call<ScanWorkflowExecutionsRequest>,
    ) -> Answer<ScanWorkflowExecutionsResponse> {
        let r = call.request;
        let ListPage { executions, next_page_token } =
            self.list(&r.namespace, r.query, r.page_size, &r.next_page_token).await?;
        Ok(ScanWorkflowExecutionsResponse { executions, next_page_token: next_page_token.into() })
    }

    pub(super) async fn list_open_workflow_executions(
        &self,
        call: Call<ListOpenWorkflowExecutionsRequest>,
    ) -> Answer<ListOpenWorkflowExecutionsResponse> {
        let r = call.request;
        self.namespace(&r.namespace)?;
        let mut terms = vec!["ExecutionStatus = 'Running'".to_string()];
        terms.extend(time_terms("StartTime", r.start_time_filter.as_ref())?);
        match &r.filters {
            Some(OpenFilters::ExecutionFilter(filter)) => terms.push(equals("WorkflowId", &filter.workflow_id)),
            Some(OpenFilters::TypeFilter(filter)) => terms.push(equals("WorkflowType", &filter.name)),
            None => {}
        }
        let page = self.list(&r.namespace, terms.join(" AND "), r.maximum_page_size, &r.next_page_token).await?;
        let ListPage { executions, next_page_token } = page;
        Ok(ListOpenWorkflowExecutionsResponse { executions, next_page_token: next_page_token.into() })
    }

    pub(super) async fn list_closed_workflow_executions(
        &self,
        call: Call<ListClosedWorkflowExecutionsRequest>,
    ) -> Answer<ListClosedWorkflowExecutionsResponse> {
        let r = call.request;
        self.namespace(&r.namespace)?;
        let mut terms = vec!["ExecutionStatus != 'Running'".to_string()];
        terms.extend(time_terms("CloseTime", r.start_time_filter.as_ref())?);
        match &r.filters {
            Some(ClosedFilters::ExecutionFilter(filter)) => terms.push(equals("WorkflowId", &filter.workflow_id)),
            Some(ClosedFilters::TypeFilter(filter)) => terms.push(equals("WorkflowType", &filter.name)),
            Some(ClosedFilters::StatusFilter(filter)) => {
                if matches!(filter.status(), RunStatus::Unspecified | RunStatus::Running) {
                    return Err(invalid("StatusFilter must be specified and must be not Running."));
                }
                let name = filter.status().as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_");
                terms.push(equals("ExecutionStatus", &camel(name)));
            }
            None => {}
        }
        let page = self.list(&r.namespace, terms.join(" AND "), r.maximum_page_size, &r.next_page_token).await?;
        let ListPage { executions, next_page_token } = page;
        Ok(ListClosedWorkflowExecutionsResponse { executions, next_page_token: next_page_token.into() })
    }

    pub(super) async fn list_archived_workflow_executions(
        &self,
        call: Call<ListArchivedWorkflowExecutionsRequest>,
    ) -> Answer<ListArchivedWorkflowExecutionsResponse> {
        self.namespace(&call.request.namespace)?;
        Err(invalid("Cluster is not configured for visibility archival."))
    }

    pub(super) async fn count_workflow_executions(
        &self,
        call: Call<CountWorkflowExecutionsRequest>,
    ) -> Answer<CountWorkflowExecutionsResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        Ok(self.service.count(namespace, call.request.query).await?)
    }
}

/// The size of a page: what was asked for, where that makes sense.
pub(super) fn page_size(asked: i32) -> usize {
    usize::try_from(asked).ok().filter(|size| (1..=PAGE_SIZE_MAX).contains(size)).unwrap_or(PAGE_SIZE_MAX)
}

/// The bounds of a time filter, as far as they are given.
fn time_terms(field: &str, filter: Option<&StartTimeFilter>) -> Answer<Vec<String>> {
    let Some(filter) = filter else { return Ok(Vec::new()) };
    let at = |time: Option<&prost_types::Timestamp>| time.map(|t| Timestamp::from_parts(t.seconds, t.nanos));
    let (earliest, latest) = (at(filter.earliest_time.as_ref()), at(filter.latest_time.as_ref()));
    if let (Some(earliest), Some(latest)) = (earliest, latest)
        && earliest > latest
    {
        return Err(invalid("EarliestTime in StartTimeFilter should not be larger than LatestTime."));
    }
    let term = |operator: &str, time: Timestamp| format!("{field} {operator} '{}'", rfc3339(time));
    Ok(earliest.map(|time| term(">=", time)).into_iter().chain(latest.map(|time| term("<=", time))).collect())
}

fn equals(field: &str, value: &str) -> String {
    format!("{field} = '{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A time as the query language reads it.
fn rfc3339(time: Timestamp) -> String {
    let (seconds, nanos) = time.to_parts();
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The date of a day since 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |seconds, nanos| rfc3339(Timestamp::from_parts(seconds, nanos));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_827_696, 5), "2000-02-29T12:34:56.000000005Z");
        assert_eq!(at(-1, 0), "1969-12-31T23:59:59.000000000Z");
        assert_eq!(at(4_000_000_000, 0), "2096-10-02T07:06:40.000000000Z");
    }

    #[test]
    fn values_are_quoted() {
        assert_eq!(equals("WorkflowId", r"it's \x"), r"WorkflowId = 'it\'s \\x'");
    }
}
