//! The suites that run against the built server: the public SDKs and the recorded conformance scenarios. Each starts its own
//! servers, and each is bounded in time.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bounded::run;
use crate::{Failure, server, setup};

const WITHIN: Duration = Duration::from_secs(600);
/// On a slow machine; on a fast one it takes three minutes.
const CONFORMANCE_WITHIN: Duration = Duration::from_secs(1_800);
const LONG_WITHIN: Duration = Duration::from_secs(3_600);

/// Runs all suites, and then fails if one of them did.
pub fn test() -> Result<(), Failure> {
    let binary = server::build(false)?;
    let failures: Vec<Failure> = [
        in_venv(&["python", "-m", "pytest", "-q", "tests/python"], &binary),
        in_venv_within(&["python", "tests/conformance/run.py"], &binary, CONFORMANCE_WITHIN),
        in_venv(
            &["python", "tests/conformance/run.py", "--cluster", "signal", "query", "close", "update", "reset"],
            &binary,
        ),
        go(&binary),
        typescript_sample(&binary),
        in_venv(&["python", "-m", "pytest", "-q", "tests/python/kill"], &binary),
        in_venv(&["python", "-m", "pytest", "-q", "tests/python/cluster"], &binary),
        browser(&binary),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n  ")) }
}

/// Runs what takes too long for every change.
pub fn long() -> Result<(), Failure> {
    let binary = server::build(false)?;
    let mut cluster = Command::new("tests/venv");
    cluster.args(["python", "-m", "pytest", "-q", "-s", "tests/python/cluster/test_cluster.py"]);
    run(cluster.env("MAINSTAY_BIN", &binary).env("MAINSTAY_CLUSTER_LONG", "1"), LONG_WITHIN)?;
    let mut conformance = Command::new("tests/venv");
    conformance.args(["python", "tests/conformance/run.py", "--cluster"]);
    run(conformance.env("MAINSTAY_BIN", &binary), LONG_WITHIN)?;
    let mut failover = Command::new("tests/venv");
    failover.args(["python", "tests/python/cluster/failover.py", "100"]);
    run(failover.env("MAINSTAY_BIN", &binary), LONG_WITHIN)
}

/// The programs of all SDKs: the gate has those of Python and Go and a sample of TypeScript, here are also those that take longer.
pub fn sdk() -> Result<(), Failure> {
    let binary = server::build(false)?;
    let failures: Vec<Failure> = [
        in_venv(&["python", "-m", "pytest", "-q", "tests/python"], &binary),
        go(&binary),
        typescript(&binary),
        java(&binary),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n  ")) }
}

fn java(binary: &Path) -> Result<(), Failure> {
    if Command::new("mvn").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Err("the suite of the Java SDK needs Java 17 or newer, with Maven".into());
    }
    run(Command::new("mvn").args(["-q", "-B", "test"]).current_dir("tests/java").env("MAINSTAY_BIN", binary), WITHIN)
}

/// Installs what the lock file names, compiles, and runs all of it.
fn typescript(binary: &Path) -> Result<(), Failure> {
    if !has_npm() {
        return Err("the suite of the TypeScript SDK needs Node.js 20 or newer, with npm".into());
    }
    npm(&["ci", "--no-audit", "--no-fund"], binary)?;
    npm(&["test"], binary)
}

/// The programs of the TypeScript suite that show most in a few seconds. What they need is installed if it is not there.
fn typescript_sample(binary: &Path) -> Result<(), Failure> {
    if !has_npm() {
        eprintln!(
            "xtask: SKIPPED the sample of the TypeScript SDK: there is no `npm` here; install Node.js 20 or newer"
        );
        return Ok(());
    }
    let installed = Path::new("tests/typescript/node_modules/.package-lock.json");
    // A registry that cannot be reached says nothing of the server. `cargo xtask test --sdk` fails there.
    if !installed.exists()
        && let Err(failure) = npm(&["ci", "--no-audit", "--no-fund"], binary)
    {
        eprintln!("xtask: SKIPPED the sample of the TypeScript SDK: it could not be installed: {failure}");
        return Ok(());
    }
    npm(&["run", "sample"], binary)
}

fn has_npm() -> bool {
    Command::new("npm").arg("--version").stdout(Stdio::null()).status().is_ok()
}

fn npm(words: &[&str], binary: &Path) -> Result<(), Failure> {
    run(Command::new("npm").args(words).current_dir("tests/typescript").env("MAINSTAY_BIN", binary), WITHIN)
}

fn in_venv(words: &[&str], binary: &Path) -> Result<(), Failure> {
    in_venv_within(words, binary, WITHIN)
}

fn in_venv_within(words: &[&str], binary: &Path, within: Duration) -> Result<(), Failure> {
    run(Command::new("tests/venv").args(words).env("MAINSTAY_BIN", binary).env("MAINSTAY_KILL_SMOKE", "1"), within)
}

fn browser(binary: &Path) -> Result<(), Failure> {
    if let Err(sentence) = setup::prepare_browser() {
        eprintln!("xtask: SKIPPED the tests of the web interface in a browser: {sentence}");
        return Ok(());
    }
    in_venv(&["python", "-m", "pytest", "-q", "tests/browser"], binary)
}

fn go(binary: &Path) -> Result<(), Failure> {
    if Command::new("go").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("xtask: SKIPPED the suite of the Go SDK: there is no `go` here; install Go 1.26 or newer to run it");
        return Ok(());
    }
    let mut command = Command::new("go");
    command.args(["test", "-count=1", "./..."]).current_dir("tests/go").env("MAINSTAY_BIN", binary);
    run(&mut command, WITHIN)
}
