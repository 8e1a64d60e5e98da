//! Characters to tokens. Positions are counted as Temporal counts them, because its error texts show them: the number of
//! bytes read when a token ends, one character of look-ahead included.

use crate::keywords;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    End,
    /// A key word in lower case; `&&` and `||` are `and` and `or`.
    Word(&'static str),
    Name,
    Text,
    Integer,
    Float,
    /// `0x1f`, `x'1f'`, `b'01'`.
    Other,
    /// `?`, `:name`.
    Argument,
    /// `::name`.
    ListArgument,
    /// An operator or a bracket.
    Sign(&'static str),
    /// No token: an open quote, a stray character.
    Bad,
}

/// One token; it starts and ends at byte offsets of the text.
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    /// A name, a string without its quotes, digits; empty where the kind says all.
    pub text: String,
    pub start: usize,
    pub end: usize,
    /// What an error text shows after "near".
    near: bool,
}

impl Token {
    /// Temporal's text for an error at this token.
    pub fn complain(&self, what: &str) -> String {
        let position = self.end + 1;
        let shown = match self.kind {
            Kind::Word(word) => word,
            _ => &self.text,
        };
        if self.near && !shown.is_empty() {
            format!("{what} at position {position} near '{shown}'")
        } else {
            format!("{what} at position {position}")
        }
    }
}

const SIGNS: [&str; 23] = [
    "<=>", "->>", "<>", "<=", "<<", ">=", ">>", "!=", "->", "=", "<", ">", ",", ";", "(", ")", "+", "-", "*", "%", "^",
    "~", "!",
];

/// Reads tokens one after the other.
pub struct Lexer<'a> {
    source: &'a [u8],
    at: usize,
    arguments: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(source: &'a str) -> Self {
        Self { source: source.as_bytes(), at: 0, arguments: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    fn peek_second(&self) -> Option<u8> {
        self.source.get(self.at + 1).copied()
    }

    /// Moves on while the test holds; returns what was passed.
    fn take(&mut self, test: impl Fn(u8) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&test) {
            self.at += 1;
        }
        self.slice(start, self.at)
    }

    fn slice(&self, start: usize, end: usize) -> String {
        String::from_utf8_lossy(&self.source[start..end]).into_owned()
    }

    /// The next token that is no comment.
    pub fn next(&mut self) -> Token {
        loop {
            if self.peek() == Some(0) {
                self.at += 1;
            }
            self.take(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
            let start = self.at;
            if let Some((kind, text)) = self.scan() {
                let near = !matches!(kind, Kind::End | Kind::Sign(_)) && !self.is_word_sign(start);
                return Token { kind, text, start, end: self.at, near };
            }
        }
    }

    /// `&&` and `||` are words, but error texts do not show them.
    fn is_word_sign(&self, start: usize) -> bool {
        matches!(self.source.get(start), Some(b'&' | b'|'))
    }

    /// One token, or nothing for a comment.
    fn scan(&mut self) -> Option<(Kind, String)> {
        let Some(first) = self.peek() else { return Some((Kind::End, String::new())) };
        match first {
            b'x' | b'X' if self.peek_second() == Some(b'\'') => Some(self.quoted_digits(|b| b.is_ascii_hexdigit(), 2)),
            b'b' | b'B' if self.peek_second() == Some(b'\'') => {
                Some(self.quoted_digits(|b| matches!(b, b'0' | b'1'), 1))
            }
            _ if is_letter(first) => Some(self.word()),
            b'0'..=b'9' => Some(self.number()),
            b'.' if self.peek_second().is_some_and(|byte| byte.is_ascii_digit()) => Some(self.number()),
            b':' => Some(self.named_argument()),
            b'?' => {
                self.at += 1;
                self.arguments += 1;
                Some((Kind::Argument, format!(":v{}", self.arguments)))
            }
            b'\'' | b'"' => Some(self.string(first)),
            b'`' => Some(self.quoted_name()),
            b'#' => self.line_comment(),
            b'-' if self.peek_second() == Some(b'-') => self.line_comment(),
            b'/' if self.peek_second() == Some(b'/') => self.line_comment(),
            b'/' if self.peek_second() == Some(b'*') => self.block_comment(),
            _ => Some(self.sign(first)),
        }
    }

    fn sign(&mut self, first: u8) -> (Kind, String) {
        let rest = &self.source[self.at..];
        let word = match first {
            b'&' if rest.starts_with(b"&&") => Some(Kind::Word("and")),
            b'|' if rest.starts_with(b"||") => Some(Kind::Word("or")),
            _ => None,
        };
        if let Some(word) = word {
            self.at += 2;
            return (word, String::new());
        }
        let single = match first {
            b'&' => Some("&"),
            b'|' => Some("|"),
            b'.' => Some("."),
            b'/' => Some("/"),
            _ => None,
        };
        let found = single.or_else(|| SIGNS.into_iter().find(|sign| rest.starts_with(sign.as_bytes())));
        match found {
            Some(sign) => {
                self.at += sign.len();
                (Kind::Sign(sign), String::new())
            }
            None => {
                self.at += 1;
                (Kind::Bad, self.slice(self.at - 1, self.at))
            }
        }
    }

    fn word(&mut self) -> (Kind, String) {
        let text = self.take(|byte| is_letter(byte) || byte.is_ascii_digit());
        match keywords::find(&text) {
            Some(word) => (Kind::Word(word), text),
            None => (Kind::Name, text),
        }
    }

    fn number(&mut self) -> (Kind, String) {
        let start = self.at;
        let mut kind = Kind::Integer;
        if self.peek() == Some(b'0') && matches!(self.peek_second(), Some(b'x' | b'X')) {
            self.at += 2;
            self.take(|byte| byte.is_ascii_hexdigit());
            kind = Kind::Other;
        } else {
            self.take(|byte| byte.is_ascii_digit());
            if self.peek() == Some(b'.') {
                kind = Kind::Float;
                self.at += 1;
                self.take(|byte| byte.is_ascii_digit());
            }
            if matches!(self.peek(), Some(b'e' | b'E')) {
                kind = Kind::Float;
                self.at += 1;
                if matches!(self.peek(), Some(b'+' | b'-')) {
                    self.at += 1;
                }
                self.take(|byte| byte.is_ascii_digit());
            }
        }
        // A letter cannot follow a number.
        let kind = if self.peek().is_some_and(is_letter) { Kind::Bad } else { kind };
        (kind, self.slice(start, self.at))
    }

    fn quoted_digits(&mut self, digit: impl Fn(u8) -> bool, multiple: usize) -> (Kind, String) {
        self.at += 2;
        let text = self.take(digit);
        if self.peek() != Some(b'\'') {
            return (Kind::Bad, text);
        }
        self.at += 1;
        let kind = if text.len().is_multiple_of(multiple) { Kind::Other } else { Kind::Bad };
        (kind, text)
    }

    fn named_argument(&mut self) -> (Kind, String) {
        let start = self.at;
        self.at += 1;
        let list = self.peek() == Some(b':');
        if list {
            self.at += 1;
        }
        if !self.peek().is_some_and(is_letter) {
            return (Kind::Bad, self.slice(start, self.at));
        }
        self.take(|byte| is_letter(byte) || byte.is_ascii_digit() || byte == b'.');
        (if list { Kind::ListArgument } else { Kind::Argument }, self.slice(start, self.at))
    }

    /// A quoted string; a doubled quote is a quote, and a backslash escapes.
    fn string(&mut self, quote: u8) -> (Kind, String) {
        let mut text = Vec::new();
        self.at += 1;
        let kind = loop {
            let Some(byte) = self.peek() else { break Kind::Bad };
            self.at += 1;
            match (byte, self.peek()) {
                (b'\\', None) => break Kind::Bad,
                (b'\\', Some(escaped)) => {
                    self.at += 1;
                    text.push(unescape(escaped));
                }
                (byte, Some(next)) if byte == quote && next == quote => {
                    self.at += 1;
                    text.push(quote);
                }
                (byte, _) if byte == quote => break Kind::Text,
                (byte, _) => text.push(byte),
            }
        };
        (kind, String::from_utf8_lossy(&text).into_owned())
    }

    fn quoted_name(&mut self) -> (Kind, String) {
        let mut text = Vec::new();
        self.at += 1;
        let kind = loop {
            let Some(byte) = self.peek() else { break Kind::Bad };
            self.at += 1;
            match (byte, self.peek()) {
                (b'`', Some(b'`')) => {
                    self.at += 1;
                    text.push(b'`');
                }
                (b'`', _) if text.is_empty() => break Kind::Bad,
                (b'`', _) => break Kind::Name,
                (byte, _) => text.push(byte),
            }
        };
        (kind, String::from_utf8_lossy(&text).into_owned())
    }

    fn line_comment(&mut self) -> Option<(Kind, String)> {
        self.take(|byte| byte != b'\n');
        if self.peek().is_some() {
            self.at += 1;
        }
        None
    }

    fn block_comment(&mut self) -> Option<(Kind, String)> {
        let start = self.at;
        match self.source[start + 2..].windows(2).position(|pair| pair == b"*/") {
            Some(length) => {
                self.at = start + 2 + length + 2;
                None
            }
            None => {
                self.at = self.source.len();
                Some((Kind::Bad, self.slice(start, self.at)))
            }
        }
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'@'
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 26,
        other => other,
    }
}
