//! What people type: command lines of both start commands, and the environment's variables.
//!
//! An input is one argument a line; lines that begin with `$` are variables. Nothing is started. Names of hosts are replaced where
//! they would be looked up, since nobody is to be asked.

use std::collections::BTreeMap;

use mainstay_base::Prng;

use super::{Target, shape};

/// Flags whose values name hosts.
const HOSTS: [&str; 4] = ["--ip", "--ui-ip", "--listen", "--peer-listen"];

const FLAGS: [&str; 31] = [
    "--ip",
    "--ui-ip",
    "--listen",
    "--peer-listen",
    "--port",
    "--ui-port",
    "--http-port",
    "--metrics-port",
    "--db-filename",
    "--data-dir",
    "--namespace",
    "--search-attribute",
    "--dynamic-config-value",
    "--disk-budget",
    "--node-name",
    "--advertise",
    "--join",
    "--bootstrap-expect",
    "--http-allowed-hosts",
    "--ui-public-path",
    "--ui-codec-endpoint",
    "--ui-allowed-host",
    "--log-level",
    "--log-format",
    "--log-filter",
    "--log-slow-ms",
    "--otlp-endpoint",
    "--insecure",
    "--headless",
    "--log-config",
    "--sqlite-pragma",
];

const VALUES: [&str; 28] = [
    "127.0.0.1",
    "127.0.0.1:7233",
    "[::1]:0",
    "0.0.0.0:1",
    "localhost",
    "0",
    "65535",
    "65536",
    "-1",
    "",
    "a=Keyword",
    "=Int",
    "frontend.WorkflowPauseEnabled=true",
    "frontend.WorkflowPauseEnabled=2",
    "500MiB",
    "1e30GB",
    "9",
    "node-1",
    "a,b,,c:1",
    "h:",
    ":1",
    "mainstay_node=debug,openraft=info",
    "=,=",
    "http://127.0.0.1:4318",
    "http://",
    "é😀",
    "debug",
    "/a//b/../%2e",
];

const VARIABLES: [&str; 8] = [
    "MAINSTAY_LOG_FILTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_BSP_SCHEDULE_DELAY",
];

/// Flags and variables.
pub struct Settings;

/// A host that nobody has to be asked for.
fn harmless(value: &str) -> bool {
    value.chars().all(|c| c.is_ascii_digit() || ".:[]".contains(c)) || value.starts_with("localhost")
}

/// The arguments and variables of an input.
fn read(input: &[u8]) -> (Vec<String>, BTreeMap<String, String>) {
    let text = String::from_utf8_lossy(input);
    let (mut arguments, mut variables) = (vec!["mainstay".to_owned()], BTreeMap::new());
    let mut names_host = false;
    for line in text.lines() {
        if let Some((name, value)) = line.strip_prefix('$').and_then(|line| line.split_once('=')) {
            variables.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (flag, value) = line.split_once('=').unwrap_or((line, line));
        let inline = HOSTS.contains(&flag) && value != line;
        arguments.push(match (inline && !harmless(value), names_host && !harmless(line)) {
            (true, _) => format!("{flag}=127.0.0.1"),
            (_, true) => "127.0.0.1".into(),
            _ => line.to_owned(),
        });
        names_host = HOSTS.contains(&line);
    }
    (arguments, variables)
}

impl Target for Settings {
    fn name(&self) -> &'static str {
        "settings"
    }

    fn words(&self) -> &'static [&'static str] {
        &VALUES
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        [
            "server\nstart-dev\n--port\n0",
            "server\nstart\n--data-dir\nd\n--listen\n127.0.0.1:0",
            "server\nstart-dev\n--help",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
    }

    fn generate(&mut self, prng: &mut Prng) -> Option<Vec<u8>> {
        let mut lines = vec!["server".to_owned()];
        let start = prng.below(2) == 0;
        lines.push(if start { "start" } else { "start-dev" }.into());
        if start {
            lines.extend(["--data-dir".into(), "d".into()]);
        }
        for _ in 0..prng.below(6) {
            let flag = FLAGS[prng.below(FLAGS.len() as u64) as usize];
            let value = VALUES[prng.below(VALUES.len() as u64) as usize];
            match prng.below(6) {
                0 => lines.push(flag.into()),
                1 => lines.push(format!("{flag}={value}")),
                2 => lines.push(format!("${}={value}", VARIABLES[prng.below(8) as usize])),
                _ => lines.extend([flag.into(), value.into()]),
            }
        }
        Some(lines.join("\n").into_bytes())
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let (arguments, variables) = read(input);
        let typed = mainstay_server::check(arguments);
        let set = mainstay_server::check_environment(|name| variables.get(name).cloned());
        for refusal in [&typed, &set].into_iter().filter_map(|answer| answer.as_ref().err()) {
            if refusal.trim().is_empty() {
                return Err("it is refused without a word".into());
            }
        }
        Ok(format!("{} {}", shape(&typed.err().unwrap_or_default()), shape(&set.err().unwrap_or_default())))
    }
}
