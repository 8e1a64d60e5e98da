//! An expression to a condition: names are looked up, values get their types, and what no store can answer is refused in
//! Temporal's words.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;

use crate::ast::{Ast, Form};
use crate::attributes::{Attribute, kind_name, resolve};
use crate::condition::{Comparison, Condition, words};
use crate::literal::{self, Literal};
use crate::order::{self, Order};

const INVALID: &str = "invalid expression";
const UNSUPPORTED: &str = "operation is not supported";

/// Why a filter is refused: most refusals are introduced as an invalid query, a few are not.
#[derive(Debug)]
pub enum Refusal {
    Query(String),
    Plain(String),
}

type Converted<T> = Result<T, Refusal>;

fn invalid<T>(what: impl std::fmt::Display) -> Converted<T> {
    Err(Refusal::Query(format!("{INVALID}: {what}")))
}

fn unsupported<T>(what: impl std::fmt::Display) -> Converted<T> {
    Err(Refusal::Query(format!("{UNSUPPORTED}: {what}")))
}

/// A value, or the list of them that IN takes.
enum Operand {
    One(Literal),
    Many(Vec<Literal>),
}

impl Operand {
    fn show(&self) -> String {
        match self {
            Self::One(value) => value.show(),
            Self::Many(values) => format!("({})", values.iter().map(Literal::show).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// Converts expressions of one filter.
pub struct Converter<'a> {
    custom: &'a BTreeMap<String, Kind>,
    /// Whether the filter names the division, so that rows of the system are not hidden.
    pub names_division: bool,
}

impl<'a> Converter<'a> {
    pub fn new(custom: &'a BTreeMap<String, Kind>) -> Self {
        Self { custom, names_division: false }
    }

    pub fn condition(&mut self, ast: &Ast) -> Converted<Condition> {
        match ast {
            Ast::Paren(inner) => self.condition(inner),
            Ast::Not(inner) => Ok(Condition::Not(Box::new(self.condition(inner)?))),
            Ast::And(parts) => Ok(Condition::And(self.conditions(parts)?)),
            Ast::Or(parts) => Ok(Condition::Or(self.conditions(parts)?)),
            Ast::Compare { left, operator, right, .. } => self.comparison(ast, left, operator, right),
            Ast::Range { left, negated, from, to } => self.range(left, *negated, from, to),
            Ast::Is { subject, suffix } => self.is(subject, suffix),
            Ast::Function(_) => unsupported("function expression"),
            Ast::Column(_) => invalid("incomplete expression"),
            other => unsupported(format_args!("expression of type {}", other.kind())),
        }
    }

    fn conditions(&mut self, parts: &[Ast]) -> Converted<Vec<Condition>> {
        parts.iter().map(|part| self.condition(part)).collect()
    }

    /// The attribute that a column or a clause names.
    pub fn attribute(&mut self, ast: &Ast) -> Converted<Attribute> {
        match ast {
            Ast::Column(name) => self.named(name),
            other => invalid(format_args!("must be a column name but was {}", other.kind())),
        }
    }

    /// The order that a clause asks for, if there is one.
    pub fn order(&mut self, by: &[(Ast, bool)]) -> Converted<Option<Order>> {
        if by.len() > order::ATTRIBUTES_MAX {
            return Err(refuse_order(&format!("supports at most {} fields", order::ATTRIBUTES_MAX)));
        }
        let mut found = Vec::new();
        for (what, descends) in by {
            let attribute = self.attribute(what)?;
            if !Order::allows(&attribute) {
                let (alias, kind) = (&attribute.alias, kind_name(attribute.kind));
                return Err(refuse_order(&format!("is not supported for search attribute {alias} of type {kind}")));
            }
            found.push((attribute, *descends));
        }
        Ok((!found.is_empty()).then(|| Order::new(found)))
    }

    fn named(&mut self, name: &str) -> Converted<Attribute> {
        let name = name.replace('`', "");
        let Some(attribute) = resolve(&name, self.custom) else {
            return invalid(format_args!("column name '{name}' is not a valid search attribute"));
        };
        self.names_division |= attribute.is_division();
        Ok(attribute)
    }

    fn comparison(&mut self, whole: &Ast, left: &Ast, operator: &str, right: &Ast) -> Converted<Condition> {
        if matches!(operator, "like" | "not like" | "regexp" | "not regexp" | "<=>") {
            return invalid(format_args!("invalid operator '{operator}' in `{}`", whole.show()));
        }
        let attribute = self.attribute(left)?;
        let operand = operand(right, &attribute)?;
        match attribute.kind {
            Kind::KeywordList => keyword_list(attribute, operator, operand),
            Kind::Text => text(attribute, operator, operand),
            _ => plain(attribute, operator, operand, right),
        }
    }

    fn range(&mut self, left: &Ast, negated: bool, from: &Ast, to: &Ast) -> Converted<Condition> {
        let attribute = self.attribute(left)?;
        if !matches!(attribute.kind, Kind::Datetime | Kind::Double | Kind::Int | Kind::Keyword) {
            let (alias, kind) = (&attribute.alias, kind_name(attribute.kind));
            return invalid(format_args!("cannot do range condition on search attribute '{alias}' of type {kind}"));
        }
        let from = one(operand(from, &attribute)?, from)?;
        let to = one(operand(to, &attribute)?, to)?;
        Ok(Condition::Between { attribute, negated, from, to })
    }

    fn is(&mut self, subject: &Result<String, &'static str>, suffix: &str) -> Converted<Condition> {
        let attribute = match subject {
            Ok(name) => self.named(name)?,
            Err(kind) => return invalid(format_args!("must be a column name but was {kind}")),
        };
        match suffix {
            "is null" => Ok(Condition::IsNull { attribute, negated: false }),
            "is not null" => Ok(Condition::IsNull { attribute, negated: true }),
            _ => invalid("'IS' operator can only be used with 'NULL' or 'NOT NULL'"),
        }
    }
}

/// A list holds a value or it does not; it has no order and no prefix.
fn keyword_list(attribute: Attribute, operator: &str, operand: Operand) -> Converted<Condition> {
    if !matches!(operator, "=" | "!=" | "in" | "not in") {
        return refuse_operator(&attribute, operator, &operand);
    }
    let shown = operand.show();
    let any = match operand {
        Operand::One(Literal::Text(text)) if !operator.ends_with("in") => vec![text],
        Operand::Many(values) if operator.ends_with("in") => {
            let mut texts = Vec::new();
            for value in values {
                let Literal::Text(text) = value else {
                    let shown = value.show();
                    return invalid(format_args!("unexpected value type in tuple (expected string, got {shown})"));
                };
                texts.push(text);
            }
            texts
        }
        _ => return invalid(format_args!("unexpected value type (expected string, got {shown})")),
    };
    Ok(Condition::Holds { attribute, negated: matches!(operator, "!=" | "not in"), any })
}

/// A text is compared by its words.
fn text(attribute: Attribute, operator: &str, operand: Operand) -> Converted<Condition> {
    if !matches!(operator, "=" | "!=") {
        return refuse_operator(&attribute, operator, &operand);
    }
    let Operand::One(Literal::Text(text)) = operand else {
        return invalid(format_args!("unexpected value type (expected string, got {})", operand.show()));
    };
    let phrases: Vec<_> = text.split(' ').filter(|part| !part.is_empty()).map(words).collect();
    if phrases.is_empty() {
        let shown = Literal::Text(text).show();
        return invalid(format_args!("unexpected value for Text type search attribute (no tokens found in {shown})"));
    }
    Ok(Condition::Mentions { attribute, negated: operator == "!=", phrases })
}

fn refuse_operator<T>(attribute: &Attribute, operator: &str, operand: &Operand) -> Converted<T> {
    let (kind, alias, value) = (kind_name(attribute.kind), &attribute.alias, operand.show());
    invalid(format_args!(
        "operator '{operator}' not supported for {kind} type search attribute in `{alias} {operator} {value}`"
    ))
}

fn plain(attribute: Attribute, operator: &str, operand: Operand, right: &Ast) -> Converted<Condition> {
    let comparison = match operator {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "in" | "not in" => {
            let any = match operand {
                Operand::Many(values) => values,
                Operand::One(value) => vec![value],
            };
            return Ok(Condition::In { attribute, negated: operator == "not in", any });
        }
        _ => return starts_with(attribute, operator, operand),
    };
    Ok(Condition::Compare { attribute, comparison, value: one(operand, right)? })
}

fn starts_with(attribute: Attribute, operator: &str, operand: Operand) -> Converted<Condition> {
    let negated = operator == "not starts_with";
    match operand {
        Operand::One(prefix @ (Literal::Text(_) | Literal::Time(_))) => {
            Ok(Condition::StartsWith { attribute, negated, prefix })
        }
        other => {
            let shown = other.show();
            invalid(format_args!("right-hand side of '{operator}' must be a literal string (got: {shown})"))
        }
    }
}

fn one(operand: Operand, ast: &Ast) -> Converted<Literal> {
    match operand {
        Operand::One(value) => Ok(value),
        Operand::Many(_) => invalid(format_args!("unexpected value type {}", ast.kind())),
    }
}

fn operand(ast: &Ast, attribute: &Attribute) -> Converted<Operand> {
    match ast {
        Ast::Tuple(items) => {
            Ok(Operand::Many(items.iter().map(|item| literal(item, attribute)).collect::<Result<_, _>>()?))
        }
        other => literal(other, attribute).map(Operand::One),
    }
}

fn literal(ast: &Ast, attribute: &Attribute) -> Converted<Literal> {
    match ast {
        Ast::Value(form, text) => typed(written(*form, text)?, attribute),
        Ast::Bool(value) => Ok(Literal::Bool(*value)),
        Ast::Other { kind: "*sqlparser.GroupConcatExpr", .. } => unsupported("'group_concat'"),
        Ast::Function(_) => unsupported("nested func"),
        Ast::Column(name) => unsupported(format_args!(
            "column name on the right side of comparison expression (did you forget to quote '{name}'?)"
        )),
        other => invalid(format_args!("unexpected value type {}", other.kind())),
    }
}

fn written(form: Form, text: &str) -> Converted<Literal> {
    if form == Form::Text {
        return Ok(Literal::Text(text.to_string()));
    }
    literal::number(text).ok_or_else(|| Refusal::Plain(format!("{INVALID}: unable to parse {text}")))
}

/// Gives a value the type that its attribute asks for.
fn typed(value: Literal, attribute: &Attribute) -> Converted<Literal> {
    let alias = &attribute.alias;
    let no_float = || invalid(format_args!("unexpected value type float64 for search attribute {alias}"));
    if attribute.kind == Kind::Datetime {
        return match value {
            Literal::Text(text) => match literal::time(&text) {
                Some(micros) => Ok(Literal::Time(micros)),
                None => invalid(format_args!("unable to parse datetime '{text}'")),
            },
            Literal::Int(nanos) => Ok(Literal::Time(literal::micros(nanos))),
            _ => no_float(),
        };
    }
    if attribute.is_status() {
        return match value {
            Literal::Text(text) => match literal::status(&text) {
                Some(status) => Ok(Literal::Int(i64::from(status as i32))),
                None => invalid(format_args!("invalid ExecutionStatus value '{text}'")),
            },
            Literal::Double(_) => no_float(),
            other => Ok(other),
        };
    }
    match value {
        Literal::Text(text) if attribute.is_duration() => literal::duration(&text)
            .map(Literal::Int)
            .map_err(|why| Refusal::Query(format!("invalid value for search attribute {alias}: {text} ({why})"))),
        Literal::Text(text) => Ok(Literal::Text(format!("{}{text}", attribute.value_prefix))),
        other if attribute.value_prefix.is_empty() => Ok(other),
        other => Ok(Literal::Text(format!("{}{}", attribute.value_prefix, other.show()))),
    }
}

/// Refuses a clause.
pub fn refuse_clause(clause: &str) -> Refusal {
    Refusal::Query(format!("{UNSUPPORTED}: '{clause}' clause"))
}

/// Refuses ordering, for a reason.
fn refuse_order(why: &str) -> Refusal {
    Refusal::Query(format!("{UNSUPPORTED}: 'ORDER BY' clause {why}"))
}

/// Refuses grouping, for a reason.
pub fn refuse_group(why: &str) -> Refusal {
    Refusal::Query(format!("{UNSUPPORTED}: 'GROUP BY' clause {why}"))
}
