//! Conditions on a row, with SQL's three answers: yes, no, and unknown where the row holds no value.

use std::cmp::Ordering;

use mainstay_api::record::VisibilityRecord;

use crate::attributes::Attribute;
use crate::literal::{self, Literal};
use crate::row::{Cell, read};

/// When an open run counts as closed in comparisons: 9999-12-31T23:59:59Z.
pub const END_OF_TIME: i64 = 253_402_300_799_000_000;

/// An order comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether a left side so ordered to the right side satisfies it.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A test of a row.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    Compare {
        attribute: Attribute,
        comparison: Comparison,
        value: Literal,
    },
    In {
        attribute: Attribute,
        negated: bool,
        any: Vec<Literal>,
    },
    Between {
        attribute: Attribute,
        negated: bool,
        from: Literal,
        to: Literal,
    },
    IsNull {
        attribute: Attribute,
        negated: bool,
    },
    StartsWith {
        attribute: Attribute,
        negated: bool,
        prefix: Literal,
    },
    /// A list holds one of these; a row without a list holds none.
    Holds {
        attribute: Attribute,
        negated: bool,
        any: Vec<String>,
    },
    /// A text has one of these phrases; a row without a text has none.
    Mentions {
        attribute: Attribute,
        negated: bool,
        phrases: Vec<Vec<String>>,
    },
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
}

impl Condition {
    /// Tests a row; `None` is SQL's unknown.
    pub fn test(&self, row: &VisibilityRecord) -> Option<bool> {
        match self {
            Self::Compare { attribute, comparison, value } => {
                order(&comparable(row, attribute), value).map(|order| comparison.holds(order))
            }
            Self::In { attribute, negated, any } => {
                let cell = comparable(row, attribute);
                if cell == Cell::Null {
                    return None;
                }
                Some(any.iter().any(|value| order(&cell, value) == Some(Ordering::Equal)) != *negated)
            }
            Self::Between { attribute, negated, from, to } => {
                let cell = comparable(row, attribute);
                Some((order(&cell, from)?.is_ge() && order(&cell, to)?.is_le()) != *negated)
            }
            Self::IsNull { attribute, negated } => Some((read(row, attribute) == Cell::Null) != *negated),
            Self::StartsWith { attribute, negated, prefix } => {
                Some(starts_with(&comparable(row, attribute), prefix)? != *negated)
            }
            Self::Holds { attribute, negated, any } => {
                let held = match read(row, attribute) {
                    Cell::List(items) => items.iter().any(|item| any.contains(item)),
                    _ => false,
                };
                Some(held != *negated)
            }
            Self::Mentions { attribute, negated, phrases } => {
                let found = match read(row, attribute) {
                    Cell::Text(text) => mentions(&words(&text), phrases),
                    _ => false,
                };
                Some(found != *negated)
            }
            Self::Not(inner) => inner.test(row).map(|answer| !answer),
            Self::And(parts) => all(parts.iter().map(|part| part.test(row)), false),
            Self::Or(parts) => all(parts.iter().map(|part| part.test(row)), true),
        }
    }
}

/// One `decisive` answer decides; otherwise one unknown makes all unknown.
fn all(answers: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for answer in answers {
        match answer {
            Some(answer) if answer == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

/// The cell as comparisons see it: an open run closes at the end of time.
fn comparable<'a>(row: &'a VisibilityRecord, attribute: &Attribute) -> Cell<'a> {
    match read(row, attribute) {
        Cell::Null if attribute.is_close_time() => Cell::Time(END_OF_TIME),
        cell => cell,
    }
}

/// How a cell is ordered to a value. Values of another type are turned into the cell's type; where that fails, numbers
/// come before texts.
fn order(cell: &Cell<'_>, value: &Literal) -> Option<Ordering> {
    Some(match (cell, value) {
        (Cell::Null | Cell::List(_), _) => return None,
        (Cell::Text(text), Literal::Text(value)) => text.as_ref().cmp(value),
        (Cell::Text(text), Literal::Bool(value)) => text.as_ref().cmp(if *value { "1" } else { "0" }),
        (Cell::Text(text), other) => text.as_ref().cmp(&other.show()),
        (Cell::Int(cell), Literal::Int(value) | Literal::Time(value)) => cell.cmp(value),
        (Cell::Int(cell), Literal::Bool(value)) => cell.cmp(&i64::from(*value)),
        (Cell::Int(cell), Literal::Double(value)) => order_mixed(*cell, *value),
        (Cell::Double(cell), Literal::Int(value) | Literal::Time(value)) => order_mixed(*value, *cell).reverse(),
        (Cell::Double(cell), Literal::Bool(value)) => cell.partial_cmp(&f64::from(u8::from(*value)))?,
        (Cell::Double(cell), Literal::Double(value)) => cell.partial_cmp(value)?,
        (Cell::Int(_) | Cell::Double(_), Literal::Text(text)) => match literal::number(text.trim()) {
            Some(number) => order(cell, &number)?,
            None => Ordering::Less,
        },
        (Cell::Time(cell), Literal::Time(value)) => cell.cmp(value),
        (Cell::Time(_), _) => Ordering::Greater,
    })
}

/// An integer against a float, exactly.
fn order_mixed(int: i64, float: f64) -> Ordering {
    const PAST_I64: f64 = 9_223_372_036_854_775_808.0;
    if float >= PAST_I64 {
        return Ordering::Less;
    }
    if float < -PAST_I64 {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    int.cmp(&(whole as i64)).then(0f64.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal))
}

fn starts_with(cell: &Cell<'_>, prefix: &Literal) -> Option<bool> {
    let text = match (cell, prefix) {
        (Cell::Null | Cell::List(_), _) => return None,
        (Cell::Time(cell), Literal::Time(value)) => return Some(cell == value),
        (Cell::Text(text), _) => text.to_string(),
        (Cell::Int(value) | Cell::Time(value), _) => value.to_string(),
        (Cell::Double(value), _) => value.to_string(),
    };
    match prefix {
        Literal::Text(prefix) => Some(text.starts_with(prefix.as_str())),
        other => Some(text.starts_with(&other.show())),
    }
}

/// The words of a text: runs of letters and digits, in lower case.
pub fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    parts.map(str::to_lowercase).collect()
}

/// Whether one of the phrases stands in the text, its words side by side. A phrase without words stands nowhere.
fn mentions(text: &[String], phrases: &[Vec<String>]) -> bool {
    phrases.iter().any(|phrase| !phrase.is_empty() && text.windows(phrase.len()).any(|window| window == phrase))
}
