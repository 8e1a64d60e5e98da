//! `cargo xtask bench --restart [CLOSED OPEN]`: how long a server takes to serve again after a crash, with many workflows on disk,
//! and what it costs when nothing happens.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::bounded::run;
use crate::server::{self, Server};

const CLOSED: &str = "100000";
const OPEN: &str = "10000";
const FILL_WITHIN: Duration = Duration::from_secs(1800);
const RESTARTS: usize = 3;
const IDLE: Duration = Duration::from_secs(10);
/// Of the clock in which /proc counts processor time.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fills a server, then kills and restarts it.
pub fn bench(sizes: &[String]) -> Result<(), Failure> {
    let closed = sizes.first().map_or(CLOSED, String::as_str);
    let open = sizes.get(1).map_or(OPEN, String::as_str);
    // The development build will do: a start is the work of the database, which is optimised in it too.
    let binary = server::build(false)?;
    let mut server = Server::start(&binary)?;
    fill(&binary, &server, closed, open)?;
    for _ in 0..RESTARTS {
        let began = Instant::now();
        server = server.crash_and_restart(&binary)?;
        let ready = began.elapsed().as_secs_f64();
        println!("ready {ready:.2} s after a crash, with {closed} closed and {open} open workflows on disk");
    }
    idle(server.pid())?;
    let began = Instant::now();
    server.stop()?;
    println!("stopped in {:.2} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn fill(binary: &Path, server: &Server, closed: &str, open: &str) -> Result<(), Failure> {
    let mut command = Command::new(binary);
    command.args(["bench", "--address", &server.address, "--pid", &server.pid().to_string(), "--warmup", "0"]);
    command.args(["--activities", "0", "--clients", "64", "--count", closed, "--open", open]);
    run(&mut command, FILL_WITHIN)
}

/// Prints what a server takes while nobody asks it for anything.
fn idle(pid: u32) -> Result<(), Failure> {
    // Its start may still be settling.
    thread::sleep(IDLE / 5);
    let before = processor_seconds(pid)?;
    thread::sleep(IDLE);
    let spent = processor_seconds(pid)? - before;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|error| format!("no /proc: {error}"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or(" unknown").trim();
    println!("idle: {:.2} % of a core, {resident} resident", 100.0 * spent / IDLE.as_secs_f64());
    Ok(())
}

fn processor_seconds(pid: u32) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| format!("no /proc: {error}"))?;
    // Behind the name, which is in parentheses and may hold anything: user and system time are words 12 and 13.
    let words: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}
