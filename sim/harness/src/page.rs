//! A run as one self-contained page: each event in the lane of the machine or workflow that it begins with, faults and the verdict
//! marked, and a field that keeps only the lines with some words.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use mainstay_sim_runtime::trace::Trace;

use crate::report::escaped;

const STYLE: &str = "body{font:13px monospace;margin:1em}table{border-collapse:collapse}td{padding:1px 8px;vertical-align:top;\
                     border-left:1px solid #ddd}.fault{background:#fdd}.verdict{background:#fc9}input{width:40em}";
const SCRIPT: &str = "const field=document.querySelector('input');field.oninput=()=>{const words=field.value.toLowerCase().split(' ');\
                      for(const row of document.querySelectorAll('tbody tr'))row.hidden=!words.every(word=>row.textContent.toLowerCase().includes(word))}";

/// Whom an event is about.
fn lane(what: &str) -> &str {
    let (name, _) = what.split_once(':').unwrap_or(("", what));
    let known = ["node", "disk", "workflow-", "workflows-", "activities-", "workers"];
    if known.iter().any(|start| name.starts_with(start)) && !name.contains(' ') { name } else { "world" }
}

/// The page.
#[must_use]
pub fn page(title: &str, trace: &Trace, verdict: &str) -> String {
    let lanes: BTreeSet<&str> = trace.events.iter().map(|event| lane(&event.what)).collect();
    let lanes: Vec<&str> = lanes.into_iter().collect();
    let mut text = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>\
         <p class=\"verdict\">{1}</p><p><input placeholder=\"words that a line must have\"></p><table><thead><tr><th>s</th>",
        escaped(title),
        escaped(verdict)
    );
    for lane in &lanes {
        let _ = write!(text, "<th>{}</th>", escaped(lane));
    }
    text.push_str("</tr></thead><tbody>\n");
    for event in &trace.events {
        let own = lane(&event.what);
        let class = if event.what.starts_with("fault") { " class=\"fault\"" } else { "" };
        let _ = write!(text, "<tr{class}><td>{:.6}</td>", event.at.as_secs_f64());
        for lane in &lanes {
            let cell = if *lane == own { escaped(&event.what) } else { String::new() };
            let _ = write!(text, "<td>{cell}</td>");
        }
        text.push_str("</tr>\n");
    }
    let _ = write!(text, "</tbody></table><script>{SCRIPT}</script>\n");
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use mainstay_sim_runtime::trace::Event;

    #[test]
    fn an_event_is_in_its_lane_and_cannot_break_the_page() {
        assert_eq!(lane("node1: restart"), "node1");
        assert_eq!(lane("fault: Pause at node 0"), "world");
        let events = vec![Event { at: Duration::from_secs(1), what: "node1: <b>".into() }];
        let page = page("seed 1", &Trace { hash: 0, bytes: 0, events }, "a & b");
        assert!(page.contains("<td>node1: &lt;b&gt;</td>") && page.contains("a &amp; b"));
    }
}
