//! Filters that people click together: terms of the query language, taken apart only as far as a click needs.
//!
//! A filter that is a plain conjunction can have one of its terms replaced or removed. Anything else is put in parentheses and
//! left alone.

/// The names of an attribute's own value, as `WorkflowType = 'x'`.
pub fn equals(field: &str, value: &str) -> String {
    format!("{field} = '{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A filter with a term for this attribute: instead of the one it has, or besides.
pub fn with(filter: &str, field: &str, value: &str) -> String {
    let rest = without(filter, field);
    let term = equals(field, value);
    match terms(&rest) {
        _ if rest.is_empty() => term,
        Some(_) => format!("{rest} AND {term}"),
        None => format!("({rest}) AND {term}"),
    }
}

/// A filter without its `field = 'value'` terms.
pub fn without(filter: &str, field: &str) -> String {
    let filter = filter.trim();
    let Some(terms) = terms(filter) else { return filter.to_owned() };
    let kept: Vec<&str> = terms.into_iter().filter(|term| value_in(term, field).is_none()).collect();
    kept.join(" AND ")
}

/// The value that a filter demands of an attribute by a term of its own.
pub fn value(filter: &str, field: &str) -> Option<String> {
    terms(filter.trim())?.into_iter().find_map(|term| value_in(term, field))
}

/// The terms of a plain conjunction; none if it has `OR`, or clauses behind the condition.
fn terms(filter: &str) -> Option<Vec<&str>> {
    let mut terms = Vec::new();
    let (mut begin, mut depth, mut between, mut quote) = (0, 0_i32, false, None);
    let mut at = 0;
    let bytes = filter.as_bytes();
    while at < bytes.len() {
        let byte = bytes[at];
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth -= 1,
            (None, _) if depth == 0 && word_starts(bytes, at) => {
                match word(filter, at).to_ascii_uppercase().as_str() {
                    "OR" | "GROUP" | "ORDER" | "LIMIT" => return None,
                    "BETWEEN" => between = true,
                    // The AND of a BETWEEN is none of ours.
                    "AND" if between => between = false,
                    "AND" => {
                        terms.push(filter[begin..at].trim());
                        begin = at + "AND".len();
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        at += 1;
    }
    terms.push(filter.get(begin..)?.trim());
    (quote.is_none() && depth == 0).then(|| terms.into_iter().filter(|term| !term.is_empty()).collect())
}

fn word_starts(bytes: &[u8], at: usize) -> bool {
    bytes[at].is_ascii_alphabetic() && at.checked_sub(1).is_none_or(|before| !is_word(bytes[before]))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn word(filter: &str, at: usize) -> &str {
    let rest = &filter[at..];
    &rest[..rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len())]
}

/// The value of `field = 'value'`, if a term is that.
fn value_in(term: &str, field: &str) -> Option<String> {
    let (name, quoted) = term.split_once('=')?;
    let name = name.trim().trim_matches('`');
    let quoted = quoted.trim();
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    name.eq_ignore_ascii_case(field).then(|| unescape(inner))
}

fn unescape(text: &str) -> String {
    let mut letters = text.chars();
    let mut plain = String::new();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_adds_or_replaces_a_term() {
        assert_eq!(with("", "WorkflowType", "a"), "WorkflowType = 'a'");
        assert_eq!(with("A = 1", "WorkflowType", "a"), "A = 1 AND WorkflowType = 'a'");
        assert_eq!(with("WorkflowType = 'b' AND A = 1", "WorkflowType", "a"), "A = 1 AND WorkflowType = 'a'");
        assert_eq!(with("A = 1 OR B = 2", "T", "a"), "(A = 1 OR B = 2) AND T = 'a'");
        assert_eq!(with("(A = 1 OR B = 2) and T=\"b\"", "T", "a"), "(A = 1 OR B = 2) AND T = 'a'");
    }

    #[test]
    fn quotes_and_between_are_understood() {
        assert_eq!(with("A = 'x AND y'", "T", "it's"), r"A = 'x AND y' AND T = 'it\'s'");
        assert_eq!(value(r"A = 1 AND T = 'it\'s'", "T").as_deref(), Some("it's"));
        let between = "StartTime BETWEEN '1' AND '2' AND T = 'a'";
        assert_eq!(without(between, "T"), "StartTime BETWEEN '1' AND '2'");
        assert_eq!(value("Band = 'x'", "T"), None);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for odd in ["A = 'open", "(A = 1", "A = 1 GROUP BY ExecutionStatus", "ü OR ö"] {
            assert_eq!(without(odd, "T"), odd);
            assert_eq!(with(odd, "T", "a"), format!("({odd}) AND T = 'a'"));
        }
    }
}
