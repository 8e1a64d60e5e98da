//! The list-filter language.

use std::collections::BTreeMap;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::IndexedValueType;
use mainstay_visibility::Query;

use super::{Target, shape};

/// Filters of lists, counts, schedules and batch jobs.
pub struct Filters;

const WORDS: &[&str] = &[
    "WorkflowId",
    "WorkflowType",
    "ExecutionStatus",
    "StartTime",
    "CloseTime",
    "CustomInt",
    "CustomTime",
    "CustomKeywords",
    "`CustomText`",
    "=",
    "!=",
    ">=",
    "<",
    "AND",
    "OR",
    "NOT",
    "(",
    ")",
    "IN",
    "BETWEEN",
    "STARTS_WITH",
    "IS NULL",
    "IS NOT NULL",
    "GROUP BY",
    "ORDER BY",
    "'Running'",
    "'2026-11-26T00:00:00Z'",
    "'",
    "\"",
    "-9223372036854775808",
    "1e308",
    "true",
];

impl Target for Filters {
    fn name(&self) -> &'static str {
        "query"
    }

    fn words(&self) -> &'static [&'static str] {
        WORDS
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let seeds = [
            "WorkflowType = 'a' AND (ExecutionStatus = 'Running' OR ExecutionStatus != 'Failed')",
            "StartTime BETWEEN '2026-11-26T00:00:00Z' AND '2026-11-27T00:00:00Z'",
            "WorkflowId IN ('a', 'b') ORDER BY StartTime DESC",
            "WorkflowId STARTS_WITH 'a' AND CustomInt >= 5 AND CustomKeywords IS NOT NULL",
            "GROUP BY ExecutionStatus",
        ];
        seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let Ok(filter) = std::str::from_utf8(input) else { return Ok("no text".into()) };
        let custom: BTreeMap<String, IndexedValueType> = [
            ("CustomInt".to_string(), IndexedValueType::Int),
            ("CustomTime".to_string(), IndexedValueType::Datetime),
            ("CustomKeywords".to_string(), IndexedValueType::KeywordList),
            ("CustomText".to_string(), IndexedValueType::Text),
        ]
        .into();
        let _ = Query::check_syntax_of_batch(filter);
        let _ = Query::parse_schedules(filter, &custom);
        let _ = Query::parse_list(filter, &custom);
        let answer = match Query::parse(filter, &custom) {
            Err(text) => text,
            Ok(query) => {
                let row = VisibilityRecord { workflow_id: "a".into(), run_id: "r".into(), ..Default::default() };
                let first = query.matches(&row);
                if query.matches(&row) != first {
                    return Err("a filter answers one row twice otherwise".into());
                }
                let _ = (query.group_value(&row), query.status(), query.shows_system());
                format!("{first} {:?}", query.group_by())
            }
        };
        Ok(shape(&answer))
    }
}
