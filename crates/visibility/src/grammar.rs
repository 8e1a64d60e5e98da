//! Tokens to an expression: the part of SQL after WHERE, with the clauses that may follow it.
//!
//! A filter is read as the tail of a whole statement, as Temporal reads it, so that positions in error texts agree. The
//! first token that cannot continue the statement is the error. Nesting is bounded, chains are loops: any text is safe.

use crate::ast::{Ast, Form};
use crate::lexer::{Kind, Lexer, Token};

const STATEMENT: &str = "select * from table1 ";
/// What a batch job's filter is the tail of: one character less, and so are its positions.
const BATCH_STATEMENT: &str = "select * from dummy ";
const WHERE: &str = "where ";
const NESTING_MAX: usize = 200;
const SYNTAX: &str = "syntax error";

/// A whole filter.
#[derive(Debug, Default)]
pub struct Statement {
    pub filter: Option<Ast>,
    pub group_by: Vec<Ast>,
    /// What to order by, and whether it descends.
    pub order_by: Vec<(Ast, bool)>,
    pub has_limit: bool,
}

type Parsed<T> = Result<T, String>;

/// Reads a filter.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(filter: &str) -> Parsed<Statement> {
    parse_tail(STATEMENT, filter)
}

/// Reads the filter of a batch job.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_of_batch(filter: &str) -> Parsed<Statement> {
    parse_tail(BATCH_STATEMENT, filter)
}

fn parse_tail(statement: &str, filter: &str) -> Parsed<Statement> {
    let filter = filter.trim();
    let lowered: String = filter.chars().take(8).collect::<String>().to_lowercase();
    let bare = filter.is_empty() || lowered == "order by" || lowered == "group by";
    parse_source(&format!("{statement}{}{filter}", if bare { "" } else { WHERE }))
}

/// Reads a filter that may not begin with another clause.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_where(filter: &str) -> Parsed<Statement> {
    parse_source(&format!("{STATEMENT}{WHERE}{filter}"))
}

fn parse_source(source: &str) -> Parsed<Statement> {
    let mut parser = Parser::new(source);
    for _ in 0..4 {
        parser.advance();
    }
    parser.statement()
}

struct Parser<'a> {
    source: &'a str,
    lexer: Lexer<'a>,
    token: Token,
    /// Where the token before this one ended.
    previous_end: usize,
    nesting: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a str) -> Self {
        let mut lexer = Lexer::new(source);
        let token = lexer.next();
        Self { source, lexer, token, previous_end: 0, nesting: 0 }
    }

    fn advance(&mut self) -> Token {
        self.previous_end = self.token.end;
        std::mem::replace(&mut self.token, self.lexer.next())
    }

    fn is(&self, kind: Kind) -> bool {
        self.token.kind == kind
    }

    fn accept(&mut self, kind: Kind) -> bool {
        let found = self.is(kind);
        if found {
            self.advance();
        }
        found
    }

    fn accept_word(&mut self, word: &'static str) -> bool {
        self.accept(Kind::Word(word))
    }

    fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        if self.is(kind) { Ok(self.advance()) } else { self.fail() }
    }

    fn fail<T>(&self) -> Parsed<T> {
        Err(self.token.complain(SYNTAX))
    }

    /// Passes a token that opens one more level.
    fn enter(&mut self) -> Parsed<()> {
        if self.nesting == NESTING_MAX {
            return Err(self.token.complain("max nesting level reached"));
        }
        self.nesting += 1;
        self.advance();
        Ok(())
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    fn open(&mut self) -> Parsed<()> {
        if self.is(Kind::Sign("(")) { self.enter() } else { self.fail() }
    }

    fn close(&mut self) -> Parsed<()> {
        self.expect(Kind::Sign(")"))?;
        self.leave();
        Ok(())
    }

    fn text_from(&self, start: usize) -> String {
        self.source.get(start..self.previous_end).unwrap_or_default().to_string()
    }

    fn other(&self, kind: &'static str, start: usize) -> Ast {
        Ast::Other { kind, text: self.text_from(start) }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let mut statement = Statement::default();
        if self.accept_word("where") {
            statement.filter = Some(self.expression()?);
        }
        if self.accept_word("group") {
            self.expect(Kind::Word("by"))?;
            statement.group_by = self.expressions()?;
        }
        if self.accept_word("having") {
            self.expression()?;
        }
        if self.accept_word("order") {
            statement.order_by = self.order()?;
        }
        if self.accept_word("limit") {
            self.expression()?;
            if self.accept(Kind::Sign(",")) || self.accept_word("offset") {
                self.expression()?;
            }
            statement.has_limit = true;
        }
        if self.accept_word("for") {
            self.expect(Kind::Word("update"))?;
        } else if self.accept_word("lock") {
            for word in ["in", "share", "mode"] {
                self.expect(Kind::Word(word))?;
            }
        }
        self.accept(Kind::Sign(";"));
        self.expect(Kind::End)?;
        Ok(statement)
    }

    fn order(&mut self) -> Parsed<Vec<(Ast, bool)>> {
        self.expect(Kind::Word("by"))?;
        let mut by = Vec::new();
        loop {
            let what = self.expression()?;
            let descends = !self.accept_word("asc") && self.accept_word("desc");
            by.push((what, descends));
            if !self.accept(Kind::Sign(",")) {
                return Ok(by);
            }
        }
    }

    fn expressions(&mut self) -> Parsed<Vec<Ast>> {
        let mut list = vec![self.expression()?];
        while self.accept(Kind::Sign(",")) {
            list.push(self.expression()?);
        }
        Ok(list)
    }

    fn expression(&mut self) -> Parsed<Ast> {
        self.chain("or", Self::conjunction, Ast::Or)
    }

    fn conjunction(&mut self) -> Parsed<Ast> {
        self.chain("and", Self::negation, Ast::And)
    }

    fn chain(
        &mut self,
        word: &'static str,
        part: fn(&mut Self) -> Parsed<Ast>,
        join: fn(Vec<Ast>) -> Ast,
    ) -> Parsed<Ast> {
        let first = part(self)?;
        if !self.is(Kind::Word(word)) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.accept_word(word) {
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }

    fn negation(&mut self) -> Parsed<Ast> {
        if self.is(Kind::Word("not")) {
            self.enter()?;
            let inner = self.negation()?;
            self.leave();
            return Ok(Ast::Not(Box::new(inner)));
        }
        let mut expression = self.condition()?;
        while self.accept_word("is") {
            let suffix = self.is_suffix()?;
            let kind = expression.kind();
            let subject = if let Ast::Column(name) = expression { Ok(name) } else { Err(kind) };
            expression = Ast::Is { subject, suffix };
        }
        Ok(expression)
    }

    fn is_suffix(&mut self) -> Parsed<&'static str> {
        let negated = self.accept_word("not");
        let suffix = match (self.token.kind, negated) {
            (Kind::Word("null"), false) => "is null",
            (Kind::Word("null"), true) => "is not null",
            (Kind::Word("true"), false) => "is true",
            (Kind::Word("true"), true) => "is not true",
            (Kind::Word("false"), false) => "is false",
            (Kind::Word("false"), true) => "is not false",
            _ => return self.fail(),
        };
        self.advance();
        Ok(suffix)
    }

    fn condition(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        if self.accept_word("exists") {
            self.open()?;
            if !self.is(Kind::Word("select")) {
                return self.fail();
            }
            self.skip_to_close()?;
            return Ok(self.other("*sqlparser.ExistsExpr", start));
        }
        if self.accept_word("default") {
            if self.is(Kind::Sign("(")) {
                self.open()?;
                self.expect(Kind::Name)?;
                self.close()?;
            }
            return Ok(self.other("*sqlparser.Default", start));
        }
        let left = self.value()?;
        if let Kind::Sign(sign) = self.token.kind
            && let Some(operator) = comparison(sign)
        {
            self.advance();
            return self.compare(left, operator);
        }
        let negated = self.accept_word("not");
        match self.token.kind {
            Kind::Word("in") => {
                self.advance();
                let right = Box::new(self.in_list()?);
                let operator = if negated { "not in" } else { "in" };
                Ok(Ast::Compare { left: Box::new(left), operator, right, escape: String::new() })
            }
            Kind::Word(word @ ("like" | "regexp" | "starts_with")) => {
                self.advance();
                self.compare(left, pattern_operator(word, negated))
            }
            Kind::Word("between") => {
                self.advance();
                let from = Box::new(self.value()?);
                self.expect(Kind::Word("and"))?;
                let to = Box::new(self.value()?);
                Ok(Ast::Range { left: Box::new(left), negated, from, to })
            }
            _ if negated => self.fail(),
            _ => Ok(left),
        }
    }

    fn compare(&mut self, left: Ast, operator: &'static str) -> Parsed<Ast> {
        let right = Box::new(self.value()?);
        let mut escape = String::new();
        if operator.ends_with("like") && self.accept_word("escape") {
            escape = format!(" escape {}", self.value()?.show());
        }
        Ok(Ast::Compare { left: Box::new(left), operator, right, escape })
    }

    fn in_list(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        if self.accept(Kind::ListArgument) {
            return Ok(self.other("sqlparser.ListArg", start));
        }
        self.open()?;
        if self.is(Kind::Word("select")) {
            self.skip_to_close()?;
            return Ok(self.other("*sqlparser.Subquery", start));
        }
        let items = self.expressions()?;
        self.close()?;
        Ok(Ast::Tuple(items))
    }

    /// Operands joined by arithmetic, which no filter may use: of a whole chain only its last kind is kept.
    fn value(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        let operand = self.operand()?;
        let mut chain = None;
        loop {
            match self.token.kind {
                Kind::Sign("->" | "->>") if chain.is_none() && matches!(operand, Ast::Column(_)) => {
                    self.advance();
                    if !self.is_literal() {
                        return self.fail();
                    }
                    self.operand()?;
                    chain = Some("*sqlparser.BinaryExpr");
                }
                Kind::Sign("|" | "&" | "<<" | ">>" | "+" | "-" | "*" | "/" | "%" | "^") | Kind::Word("div" | "mod") => {
                    self.advance();
                    self.operand()?;
                    chain = Some("*sqlparser.BinaryExpr");
                }
                Kind::Word("collate") => {
                    self.advance();
                    if !matches!(self.token.kind, Kind::Name | Kind::Text) {
                        return self.fail();
                    }
                    self.advance();
                    chain = Some("*sqlparser.CollateExpr");
                }
                _ => return Ok(chain.map_or(operand, |kind| self.other(kind, start))),
            }
        }
    }

    fn is_literal(&self) -> bool {
        let kind = self.token.kind;
        matches!(kind, Kind::Text | Kind::Integer | Kind::Float | Kind::Other | Kind::Argument | Kind::Word("null"))
    }

    fn operand(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        match self.token.kind {
            Kind::Text => Ok(Ast::Value(Form::Text, self.advance().text)),
            Kind::Integer => Ok(Ast::Value(Form::Integer, self.advance().text)),
            Kind::Float | Kind::Other | Kind::Argument => Ok(Ast::Value(Form::Bare, self.advance().text)),
            Kind::Word("null") => {
                self.advance();
                Ok(Ast::Null)
            }
            Kind::Word(word @ ("true" | "false")) => {
                self.advance();
                Ok(Ast::Bool(word == "true"))
            }
            Kind::Sign("(") => self.parenthesis(),
            Kind::Sign("+" | "-" | "~" | "!") | Kind::Word("binary" | "_binary") => self.unary(),
            Kind::Word("interval") => {
                self.enter()?;
                self.value()?;
                self.name()?;
                self.leave();
                Ok(self.other("*sqlparser.IntervalExpr", start))
            }
            Kind::Word("case") => self.case(),
            Kind::Word(word) if function_kind(word).is_some() => self.keyword_function(word),
            _ => self.column_or_function(),
        }
    }

    fn unary(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        let sign = self.token.kind;
        self.enter()?;
        let inner = self.operand()?;
        self.leave();
        Ok(match (sign, inner) {
            (Kind::Sign("+"), Ast::Value(Form::Integer, digits)) => Ast::Value(Form::Integer, digits),
            (Kind::Sign("-"), Ast::Value(Form::Integer, digits)) => {
                let negated = digits.strip_prefix('-').map_or_else(|| format!("-{digits}"), str::to_string);
                Ast::Value(Form::Integer, negated)
            }
            _ => self.other("*sqlparser.UnaryExpr", start),
        })
    }

    fn parenthesis(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        self.open()?;
        if self.is(Kind::Word("select")) {
            self.skip_to_close()?;
            return Ok(self.other("*sqlparser.Subquery", start));
        }
        let mut items = self.expressions()?;
        self.close()?;
        Ok(match items.pop() {
            Some(only) if items.is_empty() => Ast::Paren(Box::new(only)),
            last => {
                items.extend(last);
                Ast::Tuple(items)
            }
        })
    }

    /// Passes the rest of a parenthesis whose contents no filter may have.
    fn skip_to_close(&mut self) -> Parsed<()> {
        let mut depth = 0usize;
        loop {
            match self.token.kind {
                Kind::End | Kind::Bad => return self.fail(),
                Kind::Sign("(") => depth += 1,
                Kind::Sign(")") if depth == 0 => return self.close(),
                Kind::Sign(")") => depth -= 1,
                _ => {}
            }
            self.advance();
        }
    }

    fn case(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        self.enter()?;
        if !self.is(Kind::Word("when")) {
            self.expression()?;
        }
        self.expect(Kind::Word("when"))?;
        loop {
            self.expression()?;
            self.expect(Kind::Word("then"))?;
            self.expression()?;
            if !self.accept_word("when") {
                break;
            }
        }
        if self.accept_word("else") {
            self.expression()?;
        }
        self.expect(Kind::Word("end"))?;
        self.leave();
        Ok(self.other("*sqlparser.CaseExpr", start))
    }

    fn keyword_function(&mut self, word: &'static str) -> Parsed<Ast> {
        let start = self.token.start;
        let kind = function_kind(word).unwrap_or_default();
        self.advance();
        let is_time = word.starts_with("current_") || word.starts_with("utc_") || word.starts_with("localtime");
        if !is_time || self.is(Kind::Sign("(")) {
            self.open()?;
            self.skip_to_close()?;
        }
        if kind == "*sqlparser.FuncExpr" {
            Ok(Ast::Function(self.text_from(start)))
        } else {
            Ok(self.other(kind, start))
        }
    }

    /// A name, which a key word may be too.
    fn name(&mut self) -> Parsed<String> {
        match self.token.kind {
            Kind::Name => Ok(self.advance().text),
            Kind::Word(word) if crate::keywords::may_name(word) => {
                self.advance();
                Ok(word.to_string())
            }
            _ => self.fail(),
        }
    }

    fn column_or_function(&mut self) -> Parsed<Ast> {
        let start = self.token.start;
        let mut name = self.name()?;
        let mut parts = 1;
        while parts < 3 && self.accept(Kind::Sign(".")) {
            let part = match self.token.kind {
                Kind::Name => self.advance().text,
                Kind::Word(word) => {
                    self.advance();
                    word.to_string()
                }
                _ => return self.fail(),
            };
            name = format!("{name}.{part}");
            parts += 1;
        }
        if parts == 3 || !self.is(Kind::Sign("(")) {
            return Ok(Ast::Column(name));
        }
        self.open()?;
        self.arguments()?;
        self.close()?;
        Ok(Ast::Function(self.text_from(start)))
    }

    fn arguments(&mut self) -> Parsed<()> {
        if self.is(Kind::Sign(")")) {
            return Ok(());
        }
        self.accept_word("distinct");
        loop {
            if !self.accept(Kind::Sign("*")) {
                self.expression()?;
                if self.accept_word("as") || self.is(Kind::Name) {
                    self.name()?;
                } else {
                    self.accept(Kind::Text);
                }
            }
            if !self.accept(Kind::Sign(",")) {
                return Ok(());
            }
        }
    }
}

fn comparison(sign: &str) -> Option<&'static str> {
    Some(match sign {
        "=" => "=",
        "<" => "<",
        ">" => ">",
        "<=" => "<=",
        ">=" => ">=",
        "<>" | "!=" => "!=",
        "<=>" => "<=>",
        _ => return None,
    })
}

fn pattern_operator(word: &str, negated: bool) -> &'static str {
    match (word, negated) {
        ("like", false) => "like",
        ("like", true) => "not like",
        ("regexp", false) => "regexp",
        ("regexp", true) => "not regexp",
        (_, false) => "starts_with",
        (_, true) => "not starts_with",
    }
}

/// The kind of a call that a key word begins.
fn function_kind(word: &str) -> Option<&'static str> {
    Some(match word {
        "left" | "right" | "if" | "database" | "mod" | "replace" | "current_timestamp" | "current_date"
        | "current_time" | "utc_timestamp" | "utc_time" | "utc_date" | "localtime" | "localtimestamp" => {
            "*sqlparser.FuncExpr"
        }
        "convert" | "cast" => "*sqlparser.ConvertExpr",
        "substr" | "substring" => "*sqlparser.SubstrExpr",
        "match" => "*sqlparser.MatchExpr",
        "group_concat" => "*sqlparser.GroupConcatExpr",
        "values" => "*sqlparser.ValuesFuncExpr",
        _ => return None,
    })
}
