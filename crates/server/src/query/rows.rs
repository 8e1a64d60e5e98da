//! Workflows and counts as a table, as CSV, as JSON lines.

use std::io::{self, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::CountWorkflowExecutionsResponse;
use mainstay_base::Timestamp;
use mainstay_calendar::rfc3339;

use super::Export;

/// Columns of the table.
const SHOWN: [&str; 6] = ["status", "workflow id", "type", "started", "closed", "task queue"];
/// Columns of CSV; custom attributes follow as one JSON object.
const EXPORTED: [&str; 14] = [
    "workflowId",
    "runId",
    "type",
    "status",
    "taskQueue",
    "startTime",
    "executionTime",
    "closeTime",
    "historyLength",
    "historySizeBytes",
    "stateTransitionCount",
    "parentWorkflowId",
    "rootWorkflowId",
    "searchAttributes",
];

/// Writes pages as they come.
pub struct Writer<W> {
    out: W,
    export: Option<Export>,
    /// Of the table so far.
    widths: Option<Vec<u16>>,
    begun: bool,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, export: Option<Export>) -> Self {
        Self { out, export, widths: None, begun: false }
    }

    /// Writes a page.
    pub fn page(&mut self, rows: &[WorkflowExecutionInfo]) -> io::Result<()> {
        let text = match self.export {
            None => self.table(rows),
            Some(Export::Csv) => {
                let head = if self.begun { String::new() } else { EXPORTED.join(",") + "\r\n" };
                rows.iter().fold(head, |text, row| text + &csv(&exported(row)))
            }
            Some(Export::Jsonl) => rows.iter().map(|row| json(&exported(row))).collect(),
        };
        self.begun = true;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Nothing more comes.
    pub fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A page as a table; later pages are at least as wide as the first, and have no head.
    fn table(&mut self, rows: &[WorkflowExecutionInfo]) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.widths.is_none() {
            table.set_header(SHOWN);
        } else if rows.is_empty() {
            return String::new();
        }
        for row in rows {
            table.add_row(shown(row));
        }
        let own = table.column_max_content_widths();
        let least = self.widths.clone().unwrap_or_else(|| own.clone());
        let bounds = least.iter().map(|width| ColumnConstraint::LowerBoundary(Width::Fixed(width + 2)));
        table.set_constraints(bounds.collect::<Vec<_>>());
        self.widths = Some(own.iter().zip(&least).map(|(own, least)| *own.max(least)).collect());
        table.trim_fmt() + "\n"
    }
}

enum Cell {
    Text(String),
    Number(i64),
    /// JSON already.
    Json(String),
    Nothing,
}

fn shown(row: &WorkflowExecutionInfo) -> Vec<String> {
    let execution = row.execution.clone().unwrap_or_default();
    [
        status(row),
        execution.workflow_id,
        row.r#type.clone().unwrap_or_default().name,
        time(row.start_time.as_ref()).unwrap_or_default(),
        time(row.close_time.as_ref()).unwrap_or_default(),
        row.task_queue.clone(),
    ]
    .into_iter()
    .map(|text| visible(&text))
    .collect()
}

/// What would move a terminal's cursor is shown as a code.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn status(row: &WorkflowExecutionInfo) -> String {
    let name = row.status().as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_");
    mainstay_node::measure::camel(name)
}

fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.map(|time| {
        let whole = rfc3339(Timestamp::from_parts(time.seconds, 0));
        let fraction = if time.nanos == 0 { String::new() } else { format!(".{:09}", time.nanos) };
        whole.replace('Z', &format!("{fraction}Z"))
    })
}

fn exported(row: &WorkflowExecutionInfo) -> [(&'static str, Cell); 14] {
    let execution = row.execution.clone().unwrap_or_default();
    let text = |text: String| if text.is_empty() { Cell::Nothing } else { Cell::Text(text) };
    let at = |value: Option<&prost_types::Timestamp>| time(value).map_or(Cell::Nothing, Cell::Text);
    let values = [
        text(execution.workflow_id),
        text(execution.run_id),
        text(row.r#type.clone().unwrap_or_default().name),
        text(status(row)),
        text(row.task_queue.clone()),
        at(row.start_time.as_ref()),
        at(row.execution_time.as_ref()),
        at(row.close_time.as_ref()),
        Cell::Number(row.history_length),
        Cell::Number(row.history_size_bytes),
        Cell::Number(row.state_transition_count),
        text(row.parent_execution.clone().unwrap_or_default().workflow_id),
        text(row.root_execution.clone().unwrap_or_default().workflow_id),
        row.search_attributes.as_ref().map_or(Cell::Nothing, |all| Cell::Json(attributes(all))),
    ];
    let mut values = values.into_iter();
    EXPORTED.map(|name| (name, values.next().unwrap_or(Cell::Nothing)))
}

/// Search attributes are never encoded: their payloads are JSON.
fn attributes(all: &SearchAttributes) -> String {
    let fields = all.indexed_fields.iter().map(|(name, value)| format!("{}:{}", quoted(name), json_of(value)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn json_of(payload: &Payload) -> String {
    String::from_utf8(payload.data.to_vec()).unwrap_or_else(|_| "null".into())
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn json(cells: &[(&'static str, Cell)]) -> String {
    let field = |(name, cell): &(&str, Cell)| match cell {
        Cell::Text(text) => Some(format!("\"{name}\":{}", quoted(text))),
        Cell::Number(number) => Some(format!("\"{name}\":{number}")),
        Cell::Json(text) => Some(format!("\"{name}\":{text}")),
        Cell::Nothing => None,
    };
    format!("{{{}}}\n", cells.iter().filter_map(field).collect::<Vec<_>>().join(","))
}

fn csv(cells: &[(&'static str, Cell)]) -> String {
    let field = |(_, cell): &(&str, Cell)| match cell {
        Cell::Text(text) | Cell::Json(text) => csv_text(text),
        Cell::Number(number) => number.to_string(),
        Cell::Nothing => String::new(),
    };
    cells.iter().map(field).collect::<Vec<_>>().join(",") + "\r\n"
}

/// As RFC 4180; what a spreadsheet would take for a formula is made text.
fn csv_text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Counts, by group if there are groups.
pub fn counts(counted: &CountWorkflowExecutionsResponse, export: Option<Export>) -> String {
    if counted.groups.is_empty() {
        return match export {
            None => format!("{}\n", counted.count),
            Some(Export::Csv) => format!("count\r\n{}\r\n", counted.count),
            Some(Export::Jsonl) => format!("{{\"count\":{}}}\n", counted.count),
        };
    }
    let mut groups: Vec<(String, i64)> = Vec::new();
    for group in &counted.groups {
        let values = group.group_values.iter().map(json_of).collect::<Vec<_>>();
        groups.push((values.join(","), group.count));
    }
    groups.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
    let plain = |json: &str| serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    match export {
        Some(Export::Jsonl) => {
            groups.iter().map(|(group, count)| format!("{{\"group\":{group},\"count\":{count}}}\n")).collect()
        }
        Some(Export::Csv) => groups.iter().fold("group,count\r\n".to_owned(), |text, (group, count)| {
            text + &format!("{},{count}\r\n", csv_text(&plain(group)))
        }),
        None => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["count", "group"]);
            for (group, count) in &groups {
                table.add_row([count.to_string(), visible(&plain(group))]);
            }
            table.trim_fmt() + "\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_and_no_formula() {
        let cells = [("a", Cell::Text("x,\"y\"".into())), ("b", Cell::Text("=1+1".into())), ("c", Cell::Nothing)];
        assert_eq!(csv(&cells), "\"x,\"\"y\"\"\",'=1+1,\r\n");
        assert_eq!(json(&cells), "{\"a\":\"x,\\\"y\\\"\",\"b\":\"=1+1\"}\n");
    }

    #[test]
    fn a_terminal_is_not_moved() {
        assert_eq!(visible("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
