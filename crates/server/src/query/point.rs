//! Where a query is wrong, shown under it.

/// How a server reads a filter: as the end of a statement. Positions in its texts count from that statement's beginning.
const STATEMENT: usize = "select * from table1 ".len();
const WHERE: usize = "where ".len();

/// The server's text, and below it the query with a caret under the place that the text names, if it names one.
pub fn at_fault(text: &str, query: &str) -> String {
    let Some((end, near)) = place(text) else { return format!("{text}\n  {query}") };
    let begun = query.trim_start().get(..8).unwrap_or_default().to_ascii_lowercase();
    let is_clause = begun == "order by" || begun == "group by";
    let before = STATEMENT + if is_clause { 0 } else { WHERE } + 1;
    // Positions count bytes and name the end of what is wrong.
    let end = end.saturating_sub(before).min(query.len());
    let columns = |bytes: usize| query.char_indices().take_while(|(at, _)| *at < bytes).count();
    let (end, width) = (columns(end), near.chars().count().max(1));
    let start = if near.is_empty() { end } else { end.saturating_sub(width) };
    format!("{text}\n  {query}\n  {}{}", " ".repeat(start), "^".repeat(width))
}

/// The position that an error text names, and what is there.
fn place(text: &str) -> Option<(usize, &str)> {
    let (_, rest) = text.rsplit_once("at position ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(digits);
    let near = rest.strip_prefix(" near '").and_then(|near| near.strip_suffix('\'')).unwrap_or_default();
    Some((number.parse().ok()?, near))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_what_is_wrong() {
        let shown = |text: &str, query: &str| at_fault(text, query).lines().last().unwrap_or_default().to_owned();
        let wrong = "A = 1 xor B = 2";
        assert_eq!(shown("syntax error at position 37 near 'xor'", wrong), "        ^^^");
        assert_eq!(shown("syntax error at position 32", "A = "), "      ^");
        assert_eq!(shown("syntax error at position 33 near 'x'", "ORDER BY é x").trim_start().len(), 1);
        assert_eq!(shown("column name 'A' is not a valid search attribute", "A = 1"), "  A = 1");
    }
}
