//! Lists in an order that a filter asks for, against a plain sort.

use std::cmp::{Ordering, Reverse};

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes};
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_visibility::{Best, Query};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::custom;

const SECOND: i64 = 1_000_000_000;

fn row(number: usize, start: i64, took: Option<i64>, attributes: &Value) -> VisibilityRecord {
    let payload = |value: &Value| Payload { data: value.to_string().into(), ..Payload::default() };
    let fields = attributes.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), payload(value)));
    let status = if took.is_none() { Status::Running } else { Status::Failed };
    VisibilityRecord {
        workflow_id: format!("w{number}"),
        run_id: format!("{number:04}"),
        status: status as i32,
        start_ns: start * SECOND,
        execution_ns: start * SECOND,
        close_ns: took.map_or(0, |took| (start + took) * SECOND),
        search_attributes: Some(SearchAttributes { indexed_fields: fields.collect() }),
        ..VisibilityRecord::default()
    }
}

fn rows() -> impl Strategy<Value = Vec<VisibilityRecord>> {
    let text = prop::sample::select(vec!["", "a", "a\0", "a\0\u{1}", "ab", "b", "ä", "\u{ffff}"]);
    let int = prop_oneof![-3i64..3, Just(i64::MAX), Just(i64::MIN), Just(i64::MAX - 1)];
    let attributes = prop_oneof![
        2 => text.prop_map(|text| json!({ "K": text })),
        2 => int.prop_map(|int| json!({ "I": int })),
        2 => (-3i32..3).prop_map(|half| json!({ "D": f64::from(half) / 2.0 })),
        1 => any::<bool>().prop_map(|b| json!({ "B": b })),
        1 => (1u8..4).prop_map(|day| json!({ "W": format!("2024-01-0{day}T00:00:00Z") })),
        1 => Just(json!({})),
    ];
    let one = (1i64..20, prop::option::of(0i64..20), attributes);
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let numbered = all.iter().enumerate();
        numbered.map(|(number, (start, took, attributes))| row(number, *start, *took, attributes)).collect()
    })
}

/// What a row holds, as a plain sort compares it.
#[derive(PartialEq, PartialOrd, Debug)]
enum Plain {
    Int(i64),
    Float(f64),
    Text(String),
}

fn plain(row: &VisibilityRecord, name: &str) -> Option<Plain> {
    match name {
        "StartTime" => return Some(Plain::Int(row.start_ns)),
        "CloseTime" => return Some(Plain::Int(if row.close_ns == 0 { i64::MAX } else { row.close_ns })),
        "WorkflowId" => return Some(Plain::Text(row.workflow_id.clone())),
        "ExecutionDuration" => return (row.close_ns != 0).then_some(Plain::Int(row.close_ns - row.execution_ns)),
        _ => {}
    }
    let payload = row.search_attributes.as_ref()?.indexed_fields.get(name)?;
    Some(match serde_json::from_slice(&payload.data).expect("JSON") {
        Value::String(text) => Plain::Text(text),
        Value::Bool(value) => Plain::Int(i64::from(value)),
        Value::Number(number) if number.is_i64() => Plain::Int(number.as_i64().expect("an integer")),
        number => Plain::Float(number.as_f64().expect("a number")),
    })
}

fn compare(a: &VisibilityRecord, b: &VisibilityRecord, by: &[(&str, bool)]) -> Ordering {
    for (name, descends) in by {
        let order = match (plain(a, name), plain(b, name)) {
            (Some(a), Some(b)) if *descends => b.partial_cmp(&a).expect("comparable"),
            (Some(a), Some(b)) => a.partial_cmp(&b).expect("comparable"),
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        if order.is_ne() {
            return order;
        }
    }
    let place = |row: &VisibilityRecord| {
        let time = if row.close_ns == 0 { row.start_ns } else { row.close_ns };
        (row.close_ns != 0, Reverse(time), row.run_id.clone())
    };
    place(a).cmp(&place(b))
}

const NAMES: [&str; 9] = ["K", "I", "D", "B", "W", "StartTime", "CloseTime", "WorkflowId", "ExecutionDuration"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Page by page, rows come as a plain sort has them, and a run that closes meanwhile keeps its place, whatever it is ordered by.
    #[test]
    fn pages_are_cut_from_a_plain_sort(
        mut rows in rows(),
        by in prop::collection::vec((prop::sample::select(NAMES.to_vec()), any::<bool>()), 1..4),
        size in 1usize..12,
        closes in any::<prop::sample::Index>(),
    ) {
        let clause = by.iter().map(|(name, descends)| format!("{name} {}", if *descends { "DESC" } else { "ASC" }));
        let query = Query::parse_list(&format!("order by {}", clause.collect::<Vec<_>>().join(", ")), &custom());
        let query = query.expect("a query");
        let order = query.order().expect("an order");
        let mut expected = rows.clone();
        expected.sort_by(|a, b| compare(a, b, &by));
        let mut token = Vec::new();
        let mut seen = Vec::new();
        let as_of = 50 * SECOND;
        loop {
            let mut best = Best::new(order, as_of, &token, size);
            rows.iter().for_each(|row| best.add(row.clone()));
            let is_full = best.is_full();
            let page = best.page();
            prop_assert!(page.len() <= size);
            if let Some(last) = page.last() {
                token = order.key(last, as_of);
            }
            seen.extend(page.into_iter().map(|row| row.run_id));
            if !is_full {
                break;
            }
            if let Some(row) = (!rows.is_empty()).then(|| closes.index(rows.len()))
                && rows[row].close_ns == 0
            {
                (rows[row].close_ns, rows[row].status) = (60 * SECOND, Status::Completed as i32);
            }
        }
        prop_assert_eq!(seen, expected.into_iter().map(|row| row.run_id).collect::<Vec<_>>());
    }
}

#[test]
fn lists_are_ordered_by_what_has_one_value() {
    let refused = |filter: &str| Query::parse_list(filter, &custom()).expect_err(filter);
    assert_eq!(
        refused("ORDER BY T"),
        "invalid query: operation is not supported: 'ORDER BY' clause is not supported for search attribute T of type Text"
    );
    assert_eq!(
        refused("ORDER BY L DESC"),
        "invalid query: operation is not supported: 'ORDER BY' clause is not supported for search attribute L of type KeywordList"
    );
    assert_eq!(
        refused("ORDER BY K, I, D, B, W"),
        "invalid query: operation is not supported: 'ORDER BY' clause supports at most 4 fields"
    );
    assert_eq!(
        refused("ORDER BY NoSuchField"),
        "invalid query: invalid expression: column name 'NoSuchField' is not a valid search attribute"
    );
    assert_eq!(
        refused("ORDER BY 1"),
        "invalid query: invalid expression: must be a column name but was *sqlparser.SQLVal"
    );
    for query in [Query::parse("ORDER BY K", &custom()), Query::parse_filter("ORDER BY K", &custom())] {
        let text = query.expect_err("no order here");
        assert_eq!(text, "invalid query: operation is not supported: 'ORDER BY' clause");
    }
    let ordered = Query::parse_list("K = 'a' ORDER BY K, StartTime DESC", &custom()).expect("a query");
    assert_eq!(ordered.order().expect("an order").to_string(), "K ascending, StartTime descending");
}

#[test]
fn statuses_are_ordered_by_name_and_missing_values_come_last() {
    let listed = |clause: &str, rows: &[VisibilityRecord]| {
        let query = Query::parse_list(clause, &custom()).expect(clause);
        let mut best = Best::new(query.order().expect("an order"), i64::MAX, &[], 10);
        rows.iter().for_each(|row| best.add(row.clone()));
        best.page().into_iter().map(|row| row.workflow_id).collect::<Vec<_>>()
    };
    let (open, failed) = (row(1, 5, None, &json!({ "I": 1 })), row(2, 5, Some(1), &json!({})));
    let rows = [open, failed];
    assert_eq!(listed("ORDER BY ExecutionStatus", &rows), ["w2", "w1"], "Failed before Running");
    assert_eq!(listed("ORDER BY I", &rows), ["w1", "w2"]);
    assert_eq!(listed("ORDER BY I DESC", &rows), ["w1", "w2"]);
    assert_eq!(listed("ORDER BY CloseTime", &rows), ["w2", "w1"], "an open run closes at the end of time");
    assert_eq!(listed("ORDER BY CloseTime DESC", &rows), ["w1", "w2"]);
}

#[test]
fn counts_are_grouped_by_keywords() {
    for name in ["K", "WorkflowType", "TaskQueue", "WorkflowId", "ExecutionStatus"] {
        assert!(Query::parse(&format!("GROUP BY {name}"), &custom()).is_ok(), "{name}");
    }
    for name in ["L", "T", "I", "D", "B", "W", "StartTime"] {
        let text = Query::parse(&format!("GROUP BY {name}"), &custom()).expect_err(name);
        assert!(text.ends_with(&format!("'GROUP BY' clause is not supported for search attribute {name}")), "{text}");
    }
    let grouped = Query::parse("GROUP BY K", &custom()).expect("a query");
    assert_eq!(grouped.group_value(&row(1, 1, None, &json!({ "K": "x" }))).data.as_ref(), b"\"x\"");
}
