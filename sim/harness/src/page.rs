//! A run as one self-contained page: machines as lanes, time downwards, messages as arrows, faults as bands, the verdict at its place,
//! and beside it the events, filtered by words and lanes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use mainstay_sim_runtime::trace::Trace;

use crate::report::{escaped, quoted};

const TEMPLATE: &str = include_str!("page.html");

/// The machine that an event is about.
fn lane(what: &str) -> String {
    let (name, _) = what.split_once(':').unwrap_or(("", what));
    let starts = |start: &str| name.starts_with(start) && !name.contains(' ');
    if starts("node") {
        name.into()
    } else if starts("workflows-") || starts("activities-") || what.starts_with("workers") {
        "workers".into()
    } else if starts("workflow-") || what.starts_with("query ") || what.starts_with("update ") {
        "clients".into()
    } else {
        "world".into()
    }
}

/// The machine with an address, as `world.rs` gives them.
fn machine(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) if ip.octets()[2] == 0 => format!("node{}", ip.octets()[3]),
        IpAddr::V4(ip) if ip.octets()[3] == 1 => "workers".into(),
        _ => "clients".into(),
    }
}

/// The page. `failure` is the violation's text, if there was one.
#[must_use]
pub fn page(title: &str, trace: &Trace, failure: Option<&str>) -> String {
    let machines = trace.messages.iter().flat_map(|message| [machine(message.from), machine(message.to)]);
    let lanes: BTreeSet<String> = trace.events.iter().map(|event| lane(&event.what)).chain(machines).collect();
    let order = |name: &String| {
        (["node", "workers", "clients", "world"].iter().position(|it| name.starts_with(it)), name.clone())
    };
    let mut lanes: Vec<String> = lanes.into_iter().collect();
    lanes.sort_by_key(order);
    let place = |name: &String| lanes.iter().position(|lane| lane == name).unwrap_or_default();
    let end = trace.events.last().map_or(0.0, |event| event.at.as_secs_f64());
    let mut data = format!("{{\"end\":{end:.6},\"failed\":{},\"lanes\":[", failure.is_some());
    data.push_str(&lanes.iter().map(|lane| quoted(lane)).collect::<Vec<_>>().join(","));
    data.push_str("],\"events\":[");
    for event in &trace.events {
        let _ = write!(data, "[{:.6},{},{}],", event.at.as_secs_f64(), place(&lane(&event.what)), quoted(&event.what));
    }
    data = data.trim_end_matches(',').to_string() + "],\"messages\":[";
    for message in &trace.messages {
        let (sent, received) = (message.sent.as_secs_f64(), message.received.as_secs_f64());
        let (from, to) = (place(&machine(message.from)), place(&machine(message.to)));
        let _ = write!(data, "[{sent:.5},{received:.5},{from},{to}],");
    }
    data = data.trim_end_matches(',').to_string() + "]}";
    let verdict = failure.unwrap_or("clean");
    let class = if failure.is_some() { "failed" } else { "clean" };
    TEMPLATE
        .replace("@TITLE@", &escaped(title))
        .replace("@VERDICT@", &escaped(verdict))
        .replace("@CLASS@", class)
        // Last: nothing in it is a place for something else. And no text may end the script.
        .replace("@DATA@", &data.replace("</", "<\\/"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use mainstay_sim_runtime::trace::{Event, Message};

    #[test]
    fn an_event_is_in_its_lane_and_cannot_break_the_page() {
        assert_eq!(lane("node1: restart"), "node1");
        assert_eq!(lane("workflow-3: op-1 Start"), "clients");
        assert_eq!(lane("fault: Pause at node 0"), "world");
        let at = Duration::from_secs(1);
        let events = vec![Event { at, what: "node1: </script> \"x\"".into() }];
        let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 1, 2].into());
        let messages = vec![Message { sent: at, received: at, from, to, bytes: 9 }];
        let page = page("seed 1", &Trace { hash: 0, bytes: 0, events, messages }, Some("a & b"));
        assert!(page.contains("\"node1: <\\/script> \\\"x\\\"\"") && page.contains("a &amp; b"), "{page}");
        assert!(page.contains("[1.00000,1.00000,0,1]") && page.contains("\"lanes\":[\"node1\",\"clients\"]"));
        assert_eq!(page.matches("</script>").count(), 1);
    }
}
