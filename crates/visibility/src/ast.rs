//! A filter as written: names not yet looked up, values not yet typed. Forms that no filter may have keep only the name
//! of their kind and their text, because that is all that an error says of them.

/// How a value was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Text,
    Integer,
    /// A float, hexadecimal digits, an argument: read as a number if it is one.
    Bare,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub enum Ast {
    Column(String),
    Value(Form, String),
    Bool(bool),
    Null,
    Tuple(Vec<Ast>),
    Paren(Box<Ast>),
    Not(Box<Ast>),
    And(Vec<Ast>),
    Or(Vec<Ast>),
    Compare {
        left: Box<Ast>,
        operator: &'static str,
        right: Box<Ast>,
        /// The rest of a LIKE, as it is shown.
        escape: String,
    },
    Range {
        left: Box<Ast>,
        negated: bool,
        from: Box<Ast>,
        to: Box<Ast>,
    },
    /// The subject is a column, or the name of the kind that it is instead.
    Is {
        subject: Result<String, &'static str>,
        suffix: &'static str,
    },
    Function(String),
    Other {
        kind: &'static str,
        text: String,
    },
}

impl Ast {
    /// The kind as error texts name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Column(_) => "*sqlparser.ColName",
            Self::Value(..) => "*sqlparser.SQLVal",
            Self::Bool(_) => "sqlparser.BoolVal",
            Self::Null => "*sqlparser.NullVal",
            Self::Tuple(_) => "sqlparser.ValTuple",
            Self::Paren(_) => "*sqlparser.ParenExpr",
            Self::Not(_) => "*sqlparser.NotExpr",
            Self::And(_) => "*sqlparser.AndExpr",
            Self::Or(_) => "*sqlparser.OrExpr",
            Self::Compare { .. } => "*sqlparser.ComparisonExpr",
            Self::Range { .. } => "*sqlparser.RangeCond",
            Self::Is { .. } => "*sqlparser.IsExpr",
            Self::Function(_) => "*sqlparser.FuncExpr",
            Self::Other { kind, .. } => kind,
        }
    }

    /// The expression as error texts show it.
    pub fn show(&self) -> String {
        let list = |items: &[Ast], by: &str| items.iter().map(Self::show).collect::<Vec<_>>().join(by);
        match self {
            Self::Column(name) => name.clone(),
            Self::Value(Form::Text, text) => show_text(text),
            Self::Value(_, text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".into(),
            Self::Tuple(items) => format!("({})", list(items, ", ")),
            Self::Paren(inner) => format!("({})", inner.show()),
            Self::Not(inner) => format!("not {}", inner.show()),
            Self::And(items) => list(items, " and "),
            Self::Or(items) => list(items, " or "),
            Self::Compare { left, operator, right, escape } => {
                format!("{} {operator} {}{escape}", left.show(), right.show())
            }
            Self::Range { left, negated, from, to } => {
                let not = if *negated { "not " } else { "" };
                format!("{} {not}between {} and {}", left.show(), from.show(), to.show())
            }
            Self::Is { subject, suffix } => format!("{} {suffix}", subject.as_deref().unwrap_or_default()),
            Self::Function(text) | Self::Other { text, .. } => text.clone(),
        }
    }
}

/// A string in quotes, escaped.
fn show_text(text: &str) -> String {
    let mut shown = String::from("'");
    for c in text.chars() {
        match c {
            '\0' => shown.push_str("\\0"),
            '\'' => shown.push_str("\\'"),
            '"' => shown.push_str("\\\""),
            '\u{8}' => shown.push_str("\\b"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\u{1a}' => shown.push_str("\\Z"),
            '\\' => shown.push_str("\\\\"),
            other => shown.push(other),
        }
    }
    shown.push('\'');
    shown
}
