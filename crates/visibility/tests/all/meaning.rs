//! What filters find: the recorded answers over the recorded rows, then pins, groups, order, and text that is no filter.

use std::collections::BTreeMap;
use std::path::Path;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes};
use mainstay_api::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus as Status};
use mainstay_visibility::{Openness, Query, row_order};
use proptest::prelude::*;
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * SECOND;

fn custom() -> BTreeMap<String, i32> {
    let kinds = ["Keyword", "Text", "Int", "Datetime", "Double", "Bool", "KeywordList"];
    let number = |kind: &str| IndexedValueType::from_str_name(&format!("INDEXED_VALUE_TYPE_{}", screaming(kind)));
    kinds.iter().map(|kind| (format!("Custom{kind}Field"), number(kind).expect("a type") as i32)).collect()
}

fn screaming(kind: &str) -> String {
    if kind == "KeywordList" { "KEYWORD_LIST".into() } else { kind.to_uppercase() }
}

fn row(id: &str, attributes: Value) -> VisibilityRecord {
    let payload = |value: &Value| Payload { data: value.to_string().into(), ..Payload::default() };
    let fields = attributes.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), payload(value)));
    VisibilityRecord {
        workflow_id: id.into(),
        run_id: format!("run-of-{id}"),
        workflow_type: "T-1".into(),
        task_queue: "tq".into(),
        status: Status::Running as i32,
        start_ns: START,
        execution_ns: START,
        search_attributes: Some(SearchAttributes { indexed_fields: fields.collect() }),
        ..VisibilityRecord::default()
    }
}

fn closed(id: &str, status: Status, length: i64, seconds: i64) -> VisibilityRecord {
    VisibilityRecord {
        status: status as i32,
        close_ns: START + seconds * SECOND / 10,
        history_length: length,
        history_size_bytes: 100,
        state_transition_count: 3,
        ..row(id, json!({}))
    }
}

/// The rows of each recorded scenario, oldest first.
fn fleet(scenario: &str) -> Vec<VisibilityRecord> {
    let rows = |field: &str, values: &[(&str, Value)]| {
        let filled = values.iter().map(|(id, value)| row(id, json!({ field: value })));
        filled.chain([row("none", json!({}))]).collect()
    };
    match scenario {
        "keyword_operators" => {
            let values = [("a", json!("apple")), ("b", json!("banana")), ("c", json!("Cherry"))];
            rows("CustomKeywordField", &values)
        }
        "keyword_list_operators" => {
            let values = [("a", json!(["x", "y"])), ("b", json!(["y", "z"])), ("c", json!(["x"]))];
            rows("CustomKeywordListField", &values)
        }
        "text_operators" => {
            let values =
                [("a", json!("The quick Brown-fox")), ("b", json!("lazy dog, brown cow")), ("c", json!("x_y 42"))];
            rows("CustomTextField", &values)
        }
        "int_operators" => {
            let values = [("a", json!(1)), ("b", json!(5)), ("c", json!(-7)), ("d", json!(9_007_199_254_740_993_i64))];
            rows("CustomIntField", &values)
        }
        "double_operators" => rows("CustomDoubleField", &[("a", json!(1.5)), ("b", json!(2)), ("c", json!(-0.25))]),
        "bool_operators" => rows("CustomBoolField", &[("a", json!(true)), ("b", json!(false))]),
        "datetime_operators" => {
            let values = [
                ("a", json!("2011-03-04T05:06:07Z")),
                ("b", json!("2012-03-04T05:06:07Z")),
                ("c", json!("2013-03-04T05:06:07.123456789Z")),
            ];
            rows("CustomDatetimeField", &values)
        }
        "keyword_special_characters" => {
            let values =
                [("a", "it's"), ("b", "100%"), ("c", "a_b"), ("d", "größe ✓"), ("e", "say \"hi\""), ("g", "axb")];
            values.iter().map(|(id, value)| row(id, json!({ "CustomKeywordField": value }))).collect()
        }
        "null_logic" => vec![
            row("a", json!({ "CustomKeywordField": "x", "CustomIntField": 1 })),
            row("b", json!({ "CustomKeywordField": "x" })),
            row("none", json!({})),
        ],
        "logic_and_parentheses" => {
            let ids = ["a", "b", "c", "d"];
            ids.iter().zip(1..).map(|(id, n)| row(id, json!({ "CustomIntField": n }))).collect()
        }
        "quoting_names" => vec![row("a", json!({ "CustomKeywordField": "x" })), row("b", json!({}))],
        "type_mismatch_quirks" => vec![
            row(
                "a",
                json!({ "CustomKeywordField": "1", "CustomIntField": 1, "CustomBoolField": true, "CustomDoubleField": 1 }),
            ),
            row(
                "b",
                json!({ "CustomKeywordField": "true", "CustomIntField": 5, "CustomBoolField": false, "CustomDoubleField": 2.5 }),
            ),
        ],
        _ => system_fleet(scenario),
    }
}

/// Rows of scenarios about attributes that every namespace has.
fn system_fleet(scenario: &str) -> Vec<VisibilityRecord> {
    match scenario {
        "workflow_id_operators" => ["wa", "wb", "xc"].iter().map(|id| row(id, json!({}))).collect(),
        "status_spellings" | "namespace_division" | "predefined_attributes" => vec![row("a", json!({}))],
        "predefined_attributes_set" => vec![
            row(
                "a",
                json!({ "TemporalScheduledById": "sched-1", "TemporalScheduledStartTime": "2011-03-04T05:06:07Z",
                        "BatcherUser": "me", "BinaryChecksums": ["c1", "c2"] }),
            ),
            row("b", json!({})),
        ],
        "user_division" => {
            vec![row("a", json!({ "TemporalNamespaceDivision": "div" })), row("b", json!({}))]
        }
        "change_version" => {
            vec![row("a", json!({ "TemporalChangeVersion": ["fix-1", "other-2"] })), row("b", json!({}))]
        }
        "build_ids" => vec![
            VisibilityRecord { close_ns: START + SECOND, ..row("plain", json!({ "BuildIds": ["unversioned"] })) },
            VisibilityRecord {
                close_ns: START + 2 * SECOND,
                ..row("stamped", json!({ "BuildIds": ["unversioned", "unversioned:b-1"] }))
            },
            row("open", json!({})),
        ],
        "schedule_id_name" => vec![row("a", json!({ "TemporalScheduledById": "sched-1" }))],
        "every_status" => vec![
            closed("completed", Status::Completed, 5, 1),
            closed("failed", Status::Failed, 5, 2),
            closed("canceled", Status::Canceled, 5, 3),
            closed("terminated", Status::Terminated, 3, 4).tap(|row| row.execution_ns = START + SECOND / 10),
            closed("continued", Status::ContinuedAsNew, 5, 4).tap(|row| {
                row.close_ns += 1;
                row.execution_ns = START + SECOND / 10;
            }),
            row("continued", json!({})),
            closed("timedout", Status::TimedOut, 3, 8),
            row("running", json!({})),
        ],
        "duration_formats" => vec![closed("closed", Status::Terminated, 3, 1), row("open", json!({}))],
        "start_and_close_time" => vec![closed("done", Status::Completed, 3, 1), row("open", json!({}))],
        "history_length_of_closed" => vec![closed("a", Status::Completed, 7, 1)],
        _ => Vec::new(),
    }
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for VisibilityRecord {}

/// Answers by accidents of the recorded store, which this crate does not repeat.
const ACCIDENTS: [&str; 3] =
    ["CustomKeywordField = 'say \"hi\"'", "TemporalScheduledStartTime = '2011-03-04T05:06:07Z'", "Keyword01 = 'x'"];

#[test]
fn recorded_answers_over_recorded_rows() {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"))
        .join("../../tests/conformance/golden/visibility");
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(folder).expect("recorded suite") {
        let path = file.expect("entry").path();
        let scenario = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("readable")).expect("JSON");
        let mut rows = fleet(&scenario);
        for (age, row) in rows.iter_mut().enumerate() {
            row.start_ns += age as i64;
        }
        rows.sort_by(row_order);
        for entry in recorded["transcript"].as_array().expect("transcript") {
            let (Some(filter), Some(found)) = (entry["query"].as_str(), entry["found"].as_array()) else { continue };
            if rows.is_empty() || ACCIDENTS.contains(&filter) {
                continue;
            }
            let query = Query::parse(&format!("({filter})"), &custom()).unwrap_or_else(|e| panic!("{filter}: {e}"));
            let got: Vec<_> = rows.iter().filter(|row| query.matches(row)).map(|row| json!(row.workflow_id)).collect();
            checked += 1;
            if got != *found {
                wrong.push(format!("{scenario}: {filter}\n   wanted {found:?}\n   got    {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 200, "only {checked}");
}

fn query(filter: &str) -> Query {
    Query::parse(filter, &custom()).unwrap_or_else(|e| panic!("{filter}: {e}"))
}

#[test]
fn times_equal_themselves_and_quotes_are_found() {
    let set =
        row("a", json!({ "CustomDatetimeField": "2011-03-04T07:06:07.5+02:00", "CustomKeywordField": "say \"hi\"" }));
    for filter in [
        "CustomDatetimeField = '2011-03-04T05:06:07.5Z'",
        "CustomDatetimeField IN ('2011-03-04T05:06:07.500000999Z')",
        "CustomDatetimeField BETWEEN '2011-03-04T05:06:07.5Z' AND '2011-03-04T05:06:07.5Z'",
        "CustomDatetimeField = 1299215167500000000",
        "CustomKeywordField = 'say \"hi\"'",
        "CustomKeywordField STARTS_WITH 'say \"'",
    ] {
        assert!(query(filter).matches(&set), "{filter}");
    }
}

#[test]
fn parents_and_roots() {
    let mut child = row("child", json!({}));
    child.parent_workflow_id = "parent".into();
    child.root_workflow_id = "parent".into();
    let alone = row("parent", json!({}));
    assert!(query("ParentWorkflowId = 'parent'").matches(&child));
    assert!(query("ParentWorkflowId IS NULL").matches(&alone));
    assert!(query("RootWorkflowId = 'parent'").matches(&child) && query("RootWorkflowId = 'parent'").matches(&alone));
    assert!(query("RootRunId IS NOT NULL").matches(&alone));
}

#[test]
fn pins_hold_only_in_the_outermost_and() {
    let (open, shut) = (Some(Openness::Open), Some(Openness::Closed));
    let status = [
        ("ExecutionStatus = 'Running'", open),
        ("ExecutionStatus IN ('Running', 'Paused') AND RunId = 'x'", open),
        ("ExecutionStatus = 'Completed'", shut),
        ("ExecutionStatus IN (2, 3)", shut),
        ("ExecutionStatus IN (1, 3)", None),
        ("ExecutionStatus != 'Running'", None),
        ("CloseTime IS NULL", open),
        ("CloseTime IS NOT NULL", shut),
        ("CloseTime < '2030-01-01T00:00:00Z'", shut),
        ("CloseTime > '2030-01-01T00:00:00Z'", None),
        ("NOT CloseTime IS NULL", None),
    ];
    for (filter, wanted) in status {
        assert_eq!(query(filter).status(), wanted, "{filter}");
    }
}

#[test]
fn groups_are_keywords() {
    let grouped = query("WorkflowType = 'T-1' GROUP BY `ExecutionStatus`");
    assert_eq!(grouped.group_by(), Some("ExecutionStatus"));
    let value = grouped.group_value(&closed("a", Status::TimedOut, 1, 1));
    assert_eq!(value.data.as_ref(), b"\"TimedOut\"");
    assert_eq!(value.metadata["type"].as_ref() as &[u8], b"Keyword");
    assert_eq!(value.metadata["encoding"].as_ref() as &[u8], b"json/plain");
    let division = query("TemporalNamespaceDivision IS NOT NULL GROUP BY TemporalNamespaceDivision");
    assert_eq!(division.group_value(&row("a", json!({ "TemporalNamespaceDivision": "d" }))).data.as_ref(), b"\"d\"");
    assert_eq!(division.group_value(&row("a", json!({}))).data.as_ref(), b"\"\"");
    assert!(Query::parse_list("GROUP BY ExecutionStatus", &custom()).is_err());
}

#[test]
fn long_chains_and_deep_nests_are_safe() {
    let terms = vec!["CustomIntField = 1"; 100_000];
    assert!(query(&terms.join(" OR ")).matches(&row("a", json!({ "CustomIntField": 1 }))));
    assert!(query(&terms.join(" and ")).matches(&row("a", json!({ "CustomIntField": 1 }))));
    for text in ["(", "NOT ", "- ", "CASE ", "f(", "a in (", "~"] {
        assert!(Query::parse(&text.repeat(100_000), &custom()).is_err(), "{text}");
    }
    for text in [" IS NULL", " + 1", " COLLATE x"] {
        assert!(Query::parse(&format!("a{}", text.repeat(300_000)), &custom()).is_err(), "{text}");
    }
    let nested = |depth: usize| format!("{}RunId = 'x'{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Query::parse(&nested(200), &custom()).is_ok());
    let refused = Query::parse(&nested(201), &custom()).expect_err("too deep");
    assert!(refused.starts_with("invalid query: malformed SQL query: max nesting level reached"), "{refused}");
}

/// Text made of the language's own words reaches deeper than bytes at random.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "WorkflowId",
        "CustomIntField",
        "CloseTime",
        "ExecutionStatus",
        "CustomKeywordListField",
        "CustomTextField",
        "=",
        "!=",
        "<",
        ">=",
        "(",
        ")",
        ",",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "IS",
        "NULL",
        "LIKE",
        "STARTS_WITH",
        "'a'",
        "'Running'",
        "'2011-03-04T05:06:07Z'",
        "1",
        "-2.5",
        "true",
        "GROUP BY",
        "ORDER BY",
        "LIMIT",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "EXISTS",
        "(select",
        "f(",
        "*",
        ".",
        "`x`",
        "\"",
        "'",
        "--",
        "/*",
        "*/",
        "&&",
        "|",
        "x'",
        "0x",
        ":a",
        "::b",
        "?",
        ";",
        "\\",
        "é",
        "\0",
    ];
    proptest::sample::select(words.to_vec()).prop_map(str::to_string)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Query::parse(&text, &custom());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Query::parse(&String::from_utf8_lossy(&bytes), &custom());
    }

    #[test]
    fn any_words_are_read_or_refused_and_tested(words in prop::collection::vec(word(), 0..14)) {
        if let Ok(query) = Query::parse(&words.join(" "), &custom()) {
            let some = row("a", json!({ "CustomIntField": 1, "CustomKeywordListField": ["a"], "CustomTextField": "a b" }));
            let _ = (query.matches(&some), query.group_value(&some), query.plan(&mut |_, _| 7), query.status());
        }
    }

    /// What a pin excludes, the filter excludes.
    #[test]
    fn pins_never_hide_a_match(words in prop::collection::vec(word(), 1..10)) {
        let Ok(query) = Query::parse(&words.join(" "), &custom()) else { return Ok(()) };
        for row in [row("a", json!({})), row("z", json!({})), closed("a", Status::Completed, 1, 1)] {
            if query.matches(&row) {
                let wanted = if row.close_ns == 0 { Openness::Open } else { Openness::Closed };
                prop_assert!(query.status().is_none_or(|status| status == wanted));
            }
        }
    }
}
