//! What came of many seeds, for people and for machines: JSON and JUnit XML.

use std::fmt::Write as _;
use std::time::Duration;

use mainstay_sim_runtime::Outcome;

use crate::Report;
use crate::coverage::Table;
use crate::violation::kind;

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Line {
    /// The seed.
    pub seed: u64,
    /// The violated invariant, and its text; none if the run was clean.
    pub failure: Option<(String, String)>,
    /// Of the whole trace.
    pub hash: u128,
    /// Simulated time.
    pub simulated: Duration,
    /// Real time.
    pub real: Duration,
    /// What the run did.
    pub report: Report,
}

impl Line {
    /// What an outcome says.
    #[must_use]
    pub fn of(seed: u64, outcome: &Outcome<Report>, real: Duration) -> Self {
        let failure = outcome.result.as_ref().err().map(|reason| (kind(reason).to_string(), reason.clone()));
        let report = outcome.result.clone().unwrap_or_default();
        Self { seed, failure, hash: outcome.trace.hash, simulated: outcome.simulated, real, report }
    }
}

/// The command that plays a seed again.
#[must_use]
pub fn replay(scenario: &str, seed: u64) -> String {
    format!("cargo xtask sim replay {seed} --scenario {scenario}")
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", control as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// All lines and the coverage table as JSON.
#[must_use]
pub fn json(scenario: &str, lines: &[Line], coverage: &Table) -> String {
    let seed = |line: &Line| {
        let failure = line.failure.as_ref().map_or("null".into(), |(invariant, text)| {
            let replay = quoted(&replay(scenario, line.seed));
            format!("{{\"invariant\": {}, \"text\": {}, \"replay\": {replay}}}", quoted(invariant), quoted(text))
        });
        let Report { runs, events, tries, faults, stopped, .. } = &line.report;
        format!(
            "    {{\"seed\": {}, \"trace\": \"{:032x}\", \"simulated_s\": {:.3}, \"real_s\": {:.3}, \"runs\": {runs}, \
             \"events\": {events}, \"tries\": {tries}, \"faults\": {faults}, \"stopped\": {stopped}, \"failure\": {failure}}}",
            line.seed,
            line.hash,
            line.simulated.as_secs_f64(),
            line.real.as_secs_f64()
        )
    };
    let pair = |((fault, capability), count): (&(String, String), &u64)| {
        format!("    {{\"fault\": {}, \"capability\": {}, \"count\": {count}}}", quoted(fault), quoted(capability))
    };
    format!(
        "{{\n  \"scenario\": {},\n  \"seeds\": [\n{}\n  ],\n  \"coverage\": [\n{}\n  ]\n}}\n",
        quoted(scenario),
        lines.iter().map(seed).collect::<Vec<_>>().join(",\n"),
        coverage.iter().map(pair).collect::<Vec<_>>().join(",\n")
    )
}

pub(crate) fn escaped(text: &str) -> String {
    let escape = |letter: char| match letter {
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '&' => "&amp;".into(),
        '"' => "&quot;".into(),
        control if control < ' ' && control != '\n' => " ".into(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// All lines as JUnit XML: a test case for each seed.
#[must_use]
pub fn junit(scenario: &str, lines: &[Line]) -> String {
    let failures = lines.iter().filter(|line| line.failure.is_some()).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{scenario}\" tests=\"{}\" failures=\"{failures}\">\n",
        lines.len()
    );
    for line in lines {
        let (seed, seconds) = (line.seed, line.real.as_secs_f64());
        let _ = write!(text, "  <testcase classname=\"{scenario}\" name=\"seed {seed}\" time=\"{seconds:.3}\"");
        match &line.failure {
            None => text.push_str("/>\n"),
            Some((invariant, words)) => {
                let words = escaped(&format!("{words}\n{}", replay(scenario, seed)));
                let _ = writeln!(text, ">\n    <failure type=\"{invariant}\">{words}</failure>\n  </testcase>");
            }
        }
    }
    text.push_str("</testsuite>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_says_survives_both_forms() {
        let failure = Some(("panic".to_string(), "a \"b\" <c>\n&".to_string()));
        let report = Report::default();
        let (simulated, real) = (Duration::from_secs(1), Duration::from_millis(5));
        let line = Line { seed: 7, failure, hash: 1, simulated, real, report };
        assert!(json("calm", std::slice::from_ref(&line), &Table::new()).contains("a \\\"b\\\" <c>\\n&"));
        assert!(junit("calm", &[line]).contains("a &quot;b&quot; &lt;c&gt;\n&amp;"));
    }
}
