//! Which way a filter's rows are found.

use mainstay_visibility::plan::{Access, Point, Range, Span};
use mainstay_visibility::{Plan, Query};

use crate::custom;

fn query(filter: &str) -> Query {
    Query::parse(filter, &custom()).expect(filter)
}

/// Where every candidate brings 500 rows, but what has one point 100.
fn plan(filter: &str) -> Plan {
    query(filter).plan(&mut |access, _| match access {
        Access::Points(points) if points.len() == 1 => 100,
        _ => 500,
    })
}

fn line(filter: &str) -> String {
    plan(filter).to_string()
}

#[test]
fn a_plan_is_a_line() {
    let lines = [
        ("", "scan of open runs, then closed ones"),
        ("ExecutionStatus = 'Running'", "scan of open runs"),
        ("ExecutionStatus = 'Failed'", "index on ExecutionStatus Failed of closed runs"),
        ("ExecutionStatus = 'Paused'", "index on ExecutionStatus Paused of open runs"),
        ("ExecutionStatus IN ('Running', 'Paused')", "scan of open runs"),
        (
            "ExecutionStatus IN ('Failed', 'Paused')",
            "index on ExecutionStatus Failed or Paused of open runs, then closed ones",
        ),
        ("ExecutionStatus != 'Failed'", "scan of open runs, then closed ones"),
        ("WorkflowType = 'x'", "index on WorkflowType of open runs, then closed ones"),
        (
            "WorkflowType = 'x' AND ExecutionStatus IN ('Failed', 'Canceled')",
            "index on WorkflowType and ExecutionStatus Failed or Canceled of closed runs",
        ),
        ("WorkflowId = 'a' AND I > 5", "index on WorkflowId (100 rows) of open runs, then closed ones"),
        ("I > 5", "index range on I, sorted (500 rows) of open runs, then closed ones"),
        ("K STARTS_WITH 'ab'", "index range on K, sorted (500 rows) of open runs, then closed ones"),
        ("K = 'a' OR WorkflowId = 'b'", "index on K or WorkflowId of open runs, then closed ones"),
        ("K = 'a' OR TaskQueue = 'b'", "scan of open runs, then closed ones"),
        ("TaskQueue = 'b' AND K = 'a'", "index on K of open runs, then closed ones"),
        ("K = 'a' AND TemporalNamespaceDivision = 'd'", "scan of open runs, then closed ones"),
        ("NOT K = 'a'", "scan of open runs, then closed ones"),
        (
            "StartTime >= '1970-01-01T00:00:01Z' AND CloseTime < '1970-01-01T00:00:02Z'",
            "scan of closed runs, start 1000000000 to any ns, close 1000000000 to 2000000999 ns",
        ),
    ];
    for (filter, expected) in lines {
        assert_eq!(line(filter), format!("{expected}; each row is tested"), "{filter}");
    }
}

#[test]
fn each_type_is_found_by_its_values() {
    for filter in ["K = 'a'", "L = 'a'", "I = 1", "I = 1.5", "D IN (1, 2.5)", "B = true", "T = 'some words'"] {
        assert!(matches!(plan(filter).access, Access::Points(_)), "{filter}");
    }
    for filter in ["I BETWEEN 1 AND 2", "D < 1", "W >= '2020-01-01T00:00:00Z'", "WorkflowId STARTS_WITH 'a'"] {
        assert!(matches!(plan(filter).access, Access::Range(_)), "{filter}");
    }
    assert_eq!(plan("W = '2020-01-01T00:00:00Z'").open, Span::ALL);
    assert_eq!(plan("WorkflowId STARTS_WITH 'a'").access, Access::Range(Range::WorkflowIds("a".into())));
    assert_eq!(plan("RunId = 'a'").access, Access::Points(vec![Point::Run("a".into())]));
}

#[test]
fn a_range_that_brings_much_is_not_used() {
    let many = |filter: &str| query(filter).plan(&mut |_, max| max);
    assert_eq!(many("I > 5").access, Access::Scan);
    assert!(matches!(many("I > 5 AND K = 'a'").access, Access::Points(_)));
    let few = query("I > 5 AND K = 'a'").plan(&mut |access, _| usize::from(matches!(access, Access::Points(_))) + 3);
    assert!(matches!(few.access, Access::Range(_)));
}

#[test]
fn an_order_is_walked_unless_few_rows_are_sorted() {
    let plan = |filter: &str, brings: usize| {
        let query = Query::parse_list(filter, &custom()).expect(filter);
        query.plan(&mut |_, max| brings.min(max)).to_string()
    };
    let tested = |what: &str| format!("{what}; each row is tested");
    let walked = |by: &str, of: &str| tested(&format!("index in order of {by}, of {of}"));
    for by in ["I", "K", "D", "B", "W", "StartTime", "CloseTime", "WorkflowType", "ExecutionStatus", "WorkflowId"] {
        let expected = walked(&format!("{by}, ascending"), "open and closed runs");
        assert_eq!(plan(&format!("ORDER BY {by}, HistoryLength"), 0), expected);
    }
    let descending = walked("I, descending", "closed runs");
    assert_eq!(plan("ExecutionStatus = 'Failed' ORDER BY I DESC", 1_000_000), descending);
    let sorted = tested("index on ExecutionStatus Failed (7 rows) of closed runs");
    assert_eq!(plan("ExecutionStatus = 'Failed' ORDER BY I DESC", 7), sorted);
    for by in ["HistoryLength", "ExecutionDuration", "TaskQueue", "RunId", "RootWorkflowId"] {
        assert_eq!(plan(&format!("ORDER BY {by}"), 0), tested("scan of open runs, then closed ones"), "no such index");
    }
    let system = "TemporalNamespaceDivision = 'd' ORDER BY I";
    assert_eq!(plan(system, 1_000_000), tested("scan of open runs, then closed ones"), "the index has no such rows");
}

#[test]
fn a_walk_is_bounded_by_the_filter() {
    let bounds = |filter: &str| {
        let walk = Query::parse_list(filter, &custom()).expect(filter).walk().expect("a walk");
        (walk.bounds.0 == walk.bounds.1, walk.has_rest())
    };
    assert_eq!(bounds("ORDER BY I"), (true, true), "all, and what has none");
    assert_eq!(bounds("I > 5 ORDER BY I"), (false, false));
    assert_eq!(bounds("I >= 5 AND I <= 5 ORDER BY I"), (true, false));
    assert_eq!(bounds("I IS NOT NULL ORDER BY I"), (true, false));
    assert_eq!(bounds("I IS NULL ORDER BY I"), (false, true), "only what has none");
    assert_eq!(bounds("I > 5 OR K = 'a' ORDER BY I"), (true, true));
    assert_eq!(bounds("StartTime > '2024-01-01T00:00:00Z' ORDER BY StartTime"), (false, false));
}

#[test]
fn a_list_is_not_read_for_statuses_that_its_rows_cannot_have() {
    let walk = Query::parse_list("ORDER BY ExecutionStatus DESC", &custom()).expect("a query").walk().expect("a walk");
    assert_eq!(walk.statuses(false), [b"Running".to_vec(), b"Paused".to_vec()]);
    let closed = walk.statuses(true);
    assert!(closed.contains(&b"Failed".to_vec()) && !closed.contains(&b"Paused".to_vec()), "{closed:?}");
}

#[test]
fn counters_answer_types_and_statuses() {
    for filter in [
        "",
        "ExecutionStatus = 'Failed'",
        "WorkflowType IN ('a', 'b')",
        "WorkflowType = 'a' AND ExecutionStatus = 'Running'",
        "GROUP BY ExecutionStatus",
    ] {
        assert!(query(filter).tally().is_some(), "{filter}");
    }
    for filter in ["ExecutionStatus != 'Failed'", "K = 'a'", "WorkflowType = 'a' AND K = 'a'", "CloseTime IS NULL"] {
        assert!(query(filter).tally().is_none(), "{filter}");
    }
    let tally = query("WorkflowType = 'a' AND ExecutionStatus IN (1, 3)").tally().expect("counts");
    assert_eq!(tally.postings().len(), 2);
    assert!(tally.counts(1) && !tally.counts(2));
}
