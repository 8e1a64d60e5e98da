//! How the rows of a filter are found: which part of the index is read, and which stretch of time.
//!
//! Every condition that all rows must satisfy is a candidate if the index knows it. Candidates are compared by how many rows they
//! would bring, which the caller counts up to a bound; without any, lists are scanned in their order. Whatever is read is tested
//! against the whole filter.
//!
//! Rows of one value come in list order, so a page stops as soon as it is full. Rows of a range of values come in no order, so all
//! of them are read for each page: such a range is used only while it is small.
//!
//! Where another order is asked for, few rows are sorted, and else the index with that order is walked ([`crate::walk`]).

use std::fmt;

use mainstay_api::temporal::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use crate::attributes::{Attribute, Column, Place};
use crate::condition::{Comparison, Condition};
use crate::index;
use crate::literal::{Literal, status_name};
use crate::order::Order;
use crate::pins::{self, Openness};
use crate::walk::Walk;

/// Rows that a range may bring, at most.
pub const RANGE_MAX: usize = 10_000;
/// Rows of single values are counted up to here to compare candidates.
pub const COUNTED_MAX: usize = 1_000;
/// Rows that are rather sorted than an index walked in the order that is asked for.
pub const SORTED_MAX: usize = 20_000;
/// Values of one candidate; more are not worth the seeks.
const POINTS_MAX: usize = 100;

/// Candidates that are compared.
const CANDIDATES_MAX: usize = 16;

/// Rows that come in list order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Point {
    /// Those of one posting.
    Posting(Vec<u8>),
    /// The runs of a workflow id.
    Workflow(String),
    /// One run.
    Run(String),
}

/// Rows that come in no order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Range {
    /// Postings from the first, inclusive, to those that begin with the second, inclusive.
    Postings(Vec<u8>, Vec<u8>),
    /// Workflow ids that begin with this.
    WorkflowIds(String),
}

/// A way to the rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// The lists themselves.
    Scan,
    /// Rows of any of these.
    Points(Vec<Point>),
    /// Rows of a range.
    Range(Range),
}

impl Access {
    /// How far its rows are worth counting, where they are not sorted.
    fn counted_max(&self) -> usize {
        match self {
            Self::Range(_) => RANGE_MAX,
            Self::Points(_) | Self::Scan => COUNTED_MAX,
        }
    }
}

/// Times in nanoseconds, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The earliest.
    pub from_ns: i64,
    /// The latest.
    pub to_ns: i64,
}

impl Span {
    /// All of time.
    pub const ALL: Self = Self { from_ns: i64::MIN, to_ns: i64::MAX };

    fn cut(&mut self, from_ns: i64, to_ns: i64) {
        self.from_ns = self.from_ns.max(from_ns);
        self.to_ns = self.to_ns.min(to_ns);
    }
}

/// How a filter's rows are found.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The way to them.
    pub access: Access,
    /// Start times of open runs.
    pub open: Span,
    /// Close times of closed runs.
    pub closed: Span,
    /// Only open or only closed runs.
    pub openness: Option<Openness>,
    /// The index to walk instead, if an order is asked for and sorting would take more.
    pub walk: Option<Walk>,
    what: String,
    /// Rows that the chosen candidate brings, and whether there may be more; none if there was nothing to choose from.
    brings: Option<(usize, bool)>,
}

/// A condition that the index knows.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Candidate {
    pub(crate) access: Access,
    what: String,
    /// Whether its rows have the statuses that the filter asks for.
    has_status: bool,
}

impl Plan {
    /// The way to all rows of some lists.
    #[must_use]
    pub fn scan(openness: Option<Openness>) -> Self {
        let what = String::new();
        Self { access: Access::Scan, open: Span::ALL, closed: Span::ALL, openness, walk: None, what, brings: None }
    }

    /// The way to all rows in an order.
    pub(crate) fn ordered(
        condition: Option<&Condition>,
        order: &Order,
        count: &mut dyn FnMut(&Access, usize) -> usize,
    ) -> Self {
        // Few rows are sorted, so candidates are counted further.
        let mut plan =
            condition.map_or_else(|| Self::scan(None), |condition| Self::chosen(condition, Some(SORTED_MAX), count));
        let is_small = plan.brings.is_some_and(|(_, more)| !more);
        if let Some(walk) = Walk::of(order, condition).filter(|_| !is_small) {
            (plan.access, plan.walk, plan.brings) = (Access::Scan, Some(walk), None);
        }
        plan
    }

    pub(crate) fn of(condition: &Condition, count: &mut dyn FnMut(&Access, usize) -> usize) -> Self {
        Self::chosen(condition, None, count)
    }

    /// Chooses among candidates, counted up to a bound that all have, or each its own.
    fn chosen(condition: &Condition, bound: Option<usize>, count: &mut dyn FnMut(&Access, usize) -> usize) -> Self {
        let mut plan = Self::scan(pins::openness(condition));
        plan.bound(condition);
        let statuses = pins::statuses(condition);
        let mut found = candidates(condition, statuses.as_deref());
        // A type's postings have the status too, and fewer rows.
        let is_narrower = found.iter().any(|candidate| candidate.has_status);
        // Running ones have no postings of their status.
        let has_running = statuses.iter().flatten().any(|status| *status == Status::Running as i32);
        let has_postings = plan.openness == Some(Openness::Closed) || !has_running;
        if let (Some(statuses), true, false) = (&statuses, has_postings, is_narrower) {
            let points = statuses.iter().map(|status| Point::Posting(index::of_status(*status))).collect();
            found.push(Candidate { access: Access::Points(points), what: names(statuses), has_status: true });
        }
        if let ([Candidate { access: Access::Points(_), .. }], None) = (found.as_slice(), bound) {
            found.into_iter().for_each(|only| plan.take(only, None));
            return plan;
        }
        let mut best = None;
        for candidate in found {
            let max = bound.unwrap_or_else(|| candidate.access.counted_max());
            let brings = count(&candidate.access, max).min(max);
            let is_usable = brings < max || matches!(candidate.access, Access::Points(_));
            if is_usable && best.as_ref().is_none_or(|(least, _)| brings < *least) {
                best = Some((brings, candidate));
            }
        }
        if let Some((brings, candidate)) = best {
            let more = brings >= bound.unwrap_or_else(|| candidate.access.counted_max());
            plan.take(candidate, Some((brings, more)));
        }
        plan
    }

    fn take(&mut self, candidate: Candidate, brings: Option<(usize, bool)>) {
        (self.access, self.what, self.brings) = (candidate.access, candidate.what, brings);
    }

    /// Bounds the times by what every row must satisfy. A run closes no earlier than it starts.
    fn bound(&mut self, condition: &Condition) {
        if let Condition::And(parts) = condition {
            return parts.iter().for_each(|part| self.bound(part));
        }
        let Some((attribute, from, to)) = times(condition) else { return };
        let from_ns = from.map_or(i64::MIN, |micros| micros.saturating_mul(1_000));
        let to_ns = to.map_or(i64::MAX, |micros| micros.saturating_mul(1_000).saturating_add(999));
        match attribute.place {
            Place::Column(Column::StartTime) => {
                self.open.cut(from_ns, to_ns);
                self.closed.cut(from_ns, i64::MAX);
            }
            Place::Column(Column::CloseTime) => self.closed.cut(from_ns, to_ns),
            _ => {}
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.access, &self.walk) {
            (_, Some(walk)) => write!(f, "{walk}")?,
            (Access::Scan, _) => write!(f, "scan")?,
            (Access::Points(_), _) => write!(f, "index on {}", self.what)?,
            (Access::Range(_), _) => write!(f, "index range on {}, sorted", self.what)?,
        }
        if let Some((brings, more)) = self.brings {
            write!(f, " ({brings}{} rows)", if more { " or more" } else { "" })?;
        }
        match self.openness {
            Some(Openness::Open) => write!(f, " of open runs")?,
            Some(Openness::Closed) => write!(f, " of closed runs")?,
            None if self.walk.is_some() => write!(f, " of open and closed runs")?,
            None => write!(f, " of open runs, then closed ones")?,
        }
        for (what, span) in [("start", self.open), ("close", self.closed)] {
            if span != Span::ALL {
                let from = if span.from_ns == i64::MIN { "any".into() } else { span.from_ns.to_string() };
                let to = if span.to_ns == i64::MAX { "any".into() } else { span.to_ns.to_string() };
                write!(f, ", {what} {from} to {to} ns")?;
            }
        }
        write!(f, "; each row is tested")
    }
}

/// The earliest and latest microsecond that a condition on a time lets through.
pub(crate) fn times(condition: &Condition) -> Option<(&Attribute, Option<i64>, Option<i64>)> {
    match condition {
        Condition::Compare { attribute, comparison, value: Literal::Time(time) } => {
            let (from, to) = ends(*comparison, *time)?;
            Some((attribute, from, to))
        }
        Condition::Between { attribute, negated: false, from: Literal::Time(from), to: Literal::Time(to) } => {
            Some((attribute, Some(*from), Some(*to)))
        }
        _ => None,
    }
}

/// Both ends, inclusive, of what a comparison lets through; strict ones are not told apart.
fn ends<T: Copy>(comparison: Comparison, value: T) -> Option<(Option<T>, Option<T>)> {
    Some(match comparison {
        Comparison::Equal => (Some(value), Some(value)),
        Comparison::Less | Comparison::LessOrEqual => (None, Some(value)),
        Comparison::Greater | Comparison::GreaterOrEqual => (Some(value), None),
        Comparison::NotEqual => return None,
    })
}

/// All candidates of a condition.
fn candidates(condition: &Condition, statuses: Option<&[i32]>) -> Vec<Candidate> {
    match condition {
        Condition::And(parts) => {
            parts.iter().flat_map(|part| candidates(part, statuses)).take(CANDIDATES_MAX).collect()
        }
        Condition::Or(parts) => either(parts, statuses).into_iter().collect(),
        other => points(other, statuses).or_else(|| range(other)).into_iter().collect(),
    }
}

/// Rows of one part or of another: all parts must be known to the index.
fn either(parts: &[Condition], statuses: Option<&[i32]>) -> Option<Candidate> {
    let mut all = Vec::new();
    let mut what = Vec::new();
    for part in parts {
        let mut of_part = candidates(part, statuses).into_iter();
        let (points, name) = of_part.find_map(|candidate| match candidate.access {
            Access::Points(points) => Some((points, candidate.what)),
            _ => None,
        })?;
        all.extend(points);
        what.push(name);
        if all.len() > POINTS_MAX {
            return None;
        }
    }
    Some(Candidate { access: Access::Points(all), what: what.join(" or "), has_status: false })
}

/// A condition that fixes an attribute to some values.
fn points(condition: &Condition, statuses: Option<&[i32]>) -> Option<Candidate> {
    let (attribute, found) = match condition {
        Condition::Holds { attribute, negated: false, any } => {
            let Place::Attribute(name) = &attribute.place else { return None };
            (attribute, any.iter().map(|value| Point::Posting(index::of_keyword(name, value))).collect())
        }
        Condition::Mentions { attribute, negated: false, phrases } => {
            let Place::Attribute(name) = &attribute.place else { return None };
            let firsts = phrases.iter().filter_map(|phrase| phrase.iter().max_by_key(|word| word.len()));
            let words = firsts.map(|word| index::of_word(name, word));
            (attribute, words.chain([index::of_many_words(name)]).map(Point::Posting).collect())
        }
        other => {
            let (attribute, values) = pins::values(other)?;
            let mut found = Vec::new();
            for value in values {
                found.extend(equal(attribute, value, statuses)?);
            }
            (attribute, found)
        }
    };
    let is_type = attribute.place == Place::Column(Column::WorkflowType);
    let what = match statuses.filter(|_| is_type) {
        Some(statuses) => format!("{} and {}", attribute.alias, names(statuses)),
        None => attribute.alias.clone(),
    };
    let is_worth_it = !found.is_empty() && found.len() <= POINTS_MAX;
    let has_status = is_type && statuses.is_some();
    is_worth_it.then_some(Candidate { access: Access::Points(found), what, has_status })
}

/// The points of one value; none if the index does not know it.
pub(crate) fn equal(attribute: &Attribute, value: &Literal, statuses: Option<&[i32]>) -> Option<Vec<Point>> {
    let one = |posting| Some(vec![Point::Posting(posting)]);
    match (&attribute.place, attribute.kind, value) {
        (Place::Column(Column::WorkflowId), _, Literal::Text(id)) => Some(vec![Point::Workflow(id.clone())]),
        (Place::Column(Column::RunId), _, Literal::Text(id)) => Some(vec![Point::Run(id.clone())]),
        (Place::Column(Column::WorkflowType), _, Literal::Text(name)) => {
            let every = every_status();
            let of_type = |status: &i32| Point::Posting(index::of_type(name, *status));
            Some(statuses.unwrap_or(&every).iter().map(of_type).collect())
        }
        (Place::Column(Column::ParentWorkflowId), _, Literal::Text(id)) => one(index::of_parent(id)),
        // A workflow without a parent is its own root.
        (Place::Column(Column::RootWorkflowId), _, Literal::Text(id)) => {
            Some(vec![Point::Posting(index::of_root(id)), Point::Workflow(id.clone())])
        }
        (Place::Attribute(name), Kind::Keyword, Literal::Text(text)) => one(index::of_keyword(name, text)),
        (Place::Attribute(name), Kind::Int | Kind::Double, Literal::Int(_) | Literal::Double(_)) => {
            one(index::of_number(name, number(value)?))
        }
        (Place::Attribute(name), Kind::Bool, Literal::Bool(value)) => one(index::of_number(name, f64::from(*value))),
        (Place::Attribute(name), Kind::Datetime, Literal::Time(time)) => one(index::of_time(name, *time)),
        _ => None,
    }
}

/// A condition that bounds an attribute.
pub(crate) fn range(condition: &Condition) -> Option<Candidate> {
    let (attribute, range) = match condition {
        Condition::StartsWith { attribute, negated: false, prefix: Literal::Text(prefix) } if !prefix.is_empty() => {
            let range = match &attribute.place {
                Place::Column(Column::WorkflowId) => Range::WorkflowIds(prefix.clone()),
                Place::Column(Column::WorkflowType) => begins(index::of_type_prefix(prefix)),
                Place::Attribute(name) if attribute.kind == Kind::Keyword => {
                    begins(index::of_keyword_prefix(name, prefix))
                }
                _ => return None,
            };
            (attribute, range)
        }
        Condition::Compare { attribute, comparison, value } => {
            let (from, to) = ends(*comparison, value)?;
            (attribute, between(attribute, from, to)?)
        }
        Condition::Between { attribute, negated: false, from, to } => {
            (attribute, between(attribute, Some(from), Some(to))?)
        }
        _ => return None,
    };
    Some(Candidate { access: Access::Range(range), what: attribute.alias.clone(), has_status: false })
}

fn begins(prefix: Vec<u8>) -> Range {
    Range::Postings(prefix.clone(), prefix)
}

fn between(attribute: &Attribute, from: Option<&Literal>, to: Option<&Literal>) -> Option<Range> {
    let Place::Attribute(name) = &attribute.place else { return None };
    let posting = |value: &Literal| match (attribute.kind, value) {
        (Kind::Int | Kind::Double, Literal::Int(_) | Literal::Double(_)) => {
            Some(index::of_number(name, number(value)?))
        }
        (Kind::Datetime, Literal::Time(time)) => Some(index::of_time(name, *time)),
        _ => None,
    };
    let all = if attribute.kind == Kind::Datetime { index::of_times(name) } else { index::of_numbers(name) };
    let end = |value: Option<&Literal>| value.map_or(Some(all.clone()), posting);
    Some(Range::Postings(end(from)?, end(to)?))
}

fn number(value: &Literal) -> Option<f64> {
    match value {
        Literal::Int(value) => Some(*value as f64),
        Literal::Double(value) => Some(*value),
        _ => None,
    }
}

/// Every status that a run can have.
pub(crate) fn every_status() -> Vec<i32> {
    (1..).map_while(|number| Status::try_from(number).ok()).map(|status| status as i32).collect()
}

fn names(statuses: &[i32]) -> String {
    let name = |status: &i32| status_name(Status::try_from(*status).unwrap_or_default());
    format!("ExecutionStatus {}", statuses.iter().map(name).collect::<Vec<_>>().join(" or "))
}
