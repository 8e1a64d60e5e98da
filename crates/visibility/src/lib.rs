//! Visibility: the language in which people filter and count workflow executions, and its meaning for one row.
//!
//! It knows Temporal's filter language with its error texts, names and types of attributes, and the order of rows. It does
//! not know where rows are or how many there are: the caller keeps the index of [`index`], asks for a [`plan`] of a filter, and
//! brings the rows that it leads to.
//!
//! Where Temporal's smallest store answers by an accident of how it keeps values (a custom time never equals itself, a
//! double quote is never found), this crate answers as the other stores do.

mod ast;
mod attributes;
mod condition;
mod convert;
mod grammar;
pub mod index;
mod keywords;
mod lexer;
mod literal;
mod order;
mod pins;
pub mod plan;
mod row;
mod schedules;
pub mod walk;
mod workers;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::Payload;
use mainstay_api::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};

use attributes::Attribute;
use condition::Condition;
use convert::{Converter, Refusal, refuse_clause, refuse_group};
use row::Cell;

pub use order::{Best, Order, as_of};
pub use pins::Openness;
pub use plan::{Access, Plan};
pub use row::shown;
pub use walk::Walk;
pub use workers::WorkerQuery;

/// A filter, ready to test rows.
#[derive(Clone, Debug)]
pub struct Query {
    condition: Option<Condition>,
    group_by: Option<Attribute>,
    order: Option<Order>,
    hides_system: bool,
}

impl Query {
    /// Reads a filter that may group, as counting does. `custom` are the namespace's own attributes and their types.
    ///
    /// # Errors
    /// Temporal's text for INVALID_ARGUMENT.
    pub fn parse<T: Copy + Into<i32>>(filter: &str, custom: &BTreeMap<String, T>) -> Result<Self, String> {
        Self::read(filter, &kinds(custom), false).map_err(in_words)
    }

    /// Reads a filter that may order, as listing and scanning do.
    ///
    /// # Errors
    /// Temporal's text for INVALID_ARGUMENT.
    pub fn parse_list<T: Copy + Into<i32>>(filter: &str, custom: &BTreeMap<String, T>) -> Result<Self, String> {
        Self::read(filter, &kinds(custom), true).and_then(Self::ungrouped).map_err(in_words)
    }

    /// Reads a filter that only chooses rows.
    ///
    /// # Errors
    /// Temporal's text for INVALID_ARGUMENT.
    pub fn parse_filter<T: Copy + Into<i32>>(filter: &str, custom: &BTreeMap<String, T>) -> Result<Self, String> {
        Self::read(filter, &kinds(custom), false).and_then(Self::ungrouped).map_err(in_words)
    }

    /// Reads a filter for schedules, which may name custom attributes, `ScheduleId` and what the server sets on schedules.
    ///
    /// # Errors
    /// Temporal's text for INVALID_ARGUMENT.
    pub fn parse_schedules<T: Copy + Into<i32>>(filter: &str, custom: &BTreeMap<String, T>) -> Result<Self, String> {
        let malformed = |error| in_words(Refusal::Query(format!("malformed SQL query: {error}")));
        if let Some(filter) = grammar::parse(filter).map_err(malformed)?.filter {
            schedules::check(&filter, &kinds(custom))?;
        }
        Ok(Self { hides_system: false, ..Self::parse_filter(filter, custom)? })
    }

    /// Whether a batch job's filter can be read at all, whatever its names mean.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn check_syntax_of_batch(filter: &str) -> Result<(), String> {
        grammar::parse_of_batch(filter).map(drop)
    }

    /// Whether rows of the system can match, as they do if the filter names their division.
    pub fn shows_system(&self) -> bool {
        !self.hides_system
    }

    fn read(filter: &str, custom: &BTreeMap<String, IndexedValueType>, may_order: bool) -> Result<Self, Refusal> {
        let malformed = |error| Refusal::Query(format!("malformed SQL query: {error}"));
        let statement = grammar::parse(filter).map_err(malformed)?;
        if !statement.order_by.is_empty() && !may_order {
            return Err(refuse_clause("ORDER BY"));
        }
        if statement.has_limit {
            return Err(refuse_clause("LIMIT"));
        }
        let mut converter = Converter::new(custom);
        let condition = statement.filter.map(|filter| converter.condition(&filter)).transpose()?;
        let hides_system = !converter.names_division;
        if statement.group_by.len() > 1 {
            return Err(refuse_group("supports only a single field"));
        }
        let group_by = statement.group_by.first().map(|group| converter.attribute(group)).transpose()?;
        if let Some(group) = group_by.as_ref().filter(|group| group.kind != IndexedValueType::Keyword) {
            return Err(refuse_group(&format!("is not supported for search attribute {}", group.alias)));
        }
        let order = converter.order(&statement.order_by)?;
        Ok(Self { condition, group_by, order, hides_system })
    }

    fn ungrouped(self) -> Result<Self, Refusal> {
        if self.group_by.is_some() { Err(refuse_clause("GROUP BY")) } else { Ok(self) }
    }

    /// Whether the filter lets a row through. Rows of the system are hidden unless the filter names their division.
    pub fn matches(&self, row: &VisibilityRecord) -> bool {
        if self.hides_system && has_division(row) {
            return false;
        }
        self.condition.as_ref().is_none_or(|condition| condition.test(row) == Some(true))
    }

    /// The order of the list, if it is not that of lists.
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// The walk of an index that has this order, if there is one, whatever it takes.
    pub fn walk(&self) -> Option<Walk> {
        self.order.as_ref().and_then(|order| Walk::of(order, self.condition.as_ref()))
    }

    /// The attribute to group a count by.
    pub fn group_by(&self) -> Option<&str> {
        self.group_by.as_ref().map(|group| group.alias.as_str())
    }

    /// The group of rows with a status, as [`Query::group_value`].
    pub fn status_group(status: i32) -> Payload {
        keyword(&literal::status_name(WorkflowExecutionStatus::try_from(status).unwrap_or_default()))
    }

    /// Where a row's group stands among others; those of one rank stand by their values.
    pub fn group_rank(&self, row: &VisibilityRecord) -> i32 {
        if self.group_by.as_ref().is_some_and(|group| group.is_status()) { row.status } else { 0 }
    }

    /// The same of a group's value.
    pub fn rank_of_group(&self, value: &Payload) -> i32 {
        if !self.group_by.as_ref().is_some_and(|group| group.is_status()) {
            return 0;
        }
        let all = (0..i32::MAX).take_while(|status| WorkflowExecutionStatus::try_from(*status).is_ok());
        all.into_iter().find(|status| Self::status_group(*status).data == value.data).unwrap_or(i32::MAX)
    }

    /// The group of a row, as a search attribute's payload; an empty keyword where the row has no value.
    pub fn group_value(&self, row: &VisibilityRecord) -> Payload {
        let text = match self.group_by.as_ref() {
            Some(group) if group.is_status() => {
                let status = WorkflowExecutionStatus::try_from(row.status).unwrap_or_default();
                literal::status_name(status)
            }
            Some(group) => match row::read(row, group) {
                Cell::Text(text) => text.into_owned(),
                _ => String::new(),
            },
            None => String::new(),
        };
        keyword(&text)
    }

    /// How its rows are found. `count` tells how many rows an access brings, and need not count beyond the number it is given.
    pub fn plan(&self, count: &mut dyn FnMut(&Access, usize) -> usize) -> Plan {
        match (&self.condition, &self.order) {
            // The index does not hold rows of the system.
            _ if !self.hides_system => Plan::scan(self.status()),
            (condition, Some(order)) => Plan::ordered(condition.as_ref(), order, count),
            (Some(condition), None) => Plan::of(condition, count),
            (None, None) => Plan::scan(None),
        }
    }

    /// What counters of rows by type and status can answer alone: the types asked for (none: all), and the statuses.
    pub fn tally(&self) -> Option<Tally> {
        if !self.hides_system || self.group_by.as_ref().is_some_and(|group| !group.is_status()) {
            return None;
        }
        let Some(condition) = &self.condition else { return Some(Tally::default()) };
        let (types, statuses) = pins::only_type_and_status(condition)?;
        let types: BTreeSet<String> = types.into_iter().map(str::to_string).collect();
        types.iter().all(|name| index::is_whole(name)).then_some(Tally { types, statuses })
    }

    /// Whether rows must be open or closed, if the filter says so.
    pub fn status(&self) -> Option<Openness> {
        self.condition.as_ref().and_then(pins::openness)
    }
}

/// A count by type and status.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// The types to count; all if there is none.
    pub types: BTreeSet<String>,
    /// The statuses to count; all if absent.
    pub statuses: Option<Vec<i32>>,
}

impl Tally {
    /// Whether rows of a status count.
    pub fn counts(&self, status: i32) -> bool {
        self.statuses.as_ref().is_none_or(|statuses| statuses.contains(&status))
    }

    /// The postings whose rows are those of the types asked for, with the status of each.
    pub fn postings(&self) -> Vec<(i32, Vec<u8>)> {
        let statuses = self.statuses.clone().unwrap_or_else(plan::every_status);
        let of_type = |name: &String| {
            let posting = |status: &i32| (*status, index::of_type(name, *status));
            statuses.iter().map(posting).collect::<Vec<_>>()
        };
        self.types.iter().flat_map(of_type).collect()
    }
}

/// The order of rows in answers: open runs first, then the latest close, the latest start, and the run id.
pub fn row_order(a: &VisibilityRecord, b: &VisibilityRecord) -> Ordering {
    let close = |row: &VisibilityRecord| if row::is_closed(row) { row.close_ns } else { i64::MAX };
    let by_time = close(b).cmp(&close(a)).then(b.start_ns.cmp(&a.start_ns));
    by_time.then_with(|| a.run_id.cmp(&b.run_id))
}

fn has_division(row: &VisibilityRecord) -> bool {
    let fields = row.search_attributes.as_ref().map(|all| &all.indexed_fields);
    fields.and_then(|fields| fields.get(attributes::DIVISION)).is_some_and(|value| value.data.as_ref() != b"null")
}

fn keyword(text: &str) -> Payload {
    let metadata = [("encoding", "json/plain"), ("type", "Keyword")];
    let data = serde_json::Value::String(text.to_string()).to_string();
    Payload {
        metadata: metadata.into_iter().map(|(key, value)| (key.to_string(), value.into())).collect(),
        data: data.into(),
        ..Payload::default()
    }
}

fn kinds<T: Copy + Into<i32>>(custom: &BTreeMap<String, T>) -> BTreeMap<String, IndexedValueType> {
    let kind = |value: T| IndexedValueType::try_from(value.into()).unwrap_or_default();
    custom.iter().map(|(name, value)| (name.clone(), kind(*value))).collect()
}

fn in_words(refusal: Refusal) -> String {
    match refusal {
        Refusal::Query(text) => format!("invalid query: {text}"),
        Refusal::Plain(text) => text,
    }
}
