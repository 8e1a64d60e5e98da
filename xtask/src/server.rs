//! A server of this checkout for as long as a task needs it, on a free port, with a data directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::bounded::end;
use crate::{Failure, cargo, setup};

const READY_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Builds the server, and the benches of single layers beside it; `release` for figures that mean something.
pub fn build(release: bool) -> Result<PathBuf, Failure> {
    // The whole workspace and examples: features are then those of `cargo test --workspace`, and nothing is built twice.
    let mut arguments = vec![
        "build",
        "--workspace",
        "--bin",
        "mainstay",
        "--example",
        "transitions",
        "--example",
        "apply",
        "--example",
        "lists",
    ];
    if release {
        arguments.push("--release");
    }
    cargo(&arguments)?;
    Ok(binary(release))
}

/// Where cargo puts the server.
pub fn binary(release: bool) -> PathBuf {
    let target = setup::target_directory().or_else(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from));
    target.unwrap_or_else(|| "target".into()).join(if release { "release" } else { "debug" }).join("mainstay")
}

/// A running server. It ends with this value.
pub struct Server {
    pub address: String,
    pub data: PathBuf,
    process: Child,
}

impl Server {
    /// Starts a server and waits until it serves.
    pub fn start(binary: &Path) -> Result<Self, Failure> {
        Self::start_on(binary, std::env::temp_dir().join(format!("mainstay-xtask-{}", std::process::id())))
    }

    fn start_on(binary: &Path, data: PathBuf) -> Result<Self, Failure> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| format!("no free port: {error}"))?.port();
        let mut command = Command::new(binary);
        command.args(["server", "start-dev", "--ip", "127.0.0.1", "--headless", "--port", &port.to_string()]);
        command.arg("--db-filename").arg(&data).stdin(Stdio::null()).stdout(Stdio::piped());
        let process = command.spawn().map_err(|error| format!("{} did not start: {error}", binary.display()))?;
        let mut server = Self { address: format!("127.0.0.1:{port}"), data, process };
        server.await_ready().map(|()| server)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills the server and starts another on what it left.
    pub fn crash_and_restart(mut self, binary: &Path) -> Result<Self, Failure> {
        let _ = self.process.kill();
        self.process.wait().map_err(|error| format!("the server cannot be awaited: {error}"))?;
        Self::start_on(binary, std::mem::take(&mut self.data))
    }

    /// Waits for the banner, which a server prints once it serves. Its socket accepts connections before that.
    fn await_ready(&mut self) -> Result<(), Failure> {
        let stdout = self.process.stdout.take().ok_or("the server has no output")?;
        let (line, lines) = mpsc::channel();
        // Reads to the end, so that the server can go on printing.
        thread::spawn(move || BufReader::new(stdout).lines().for_each(|read| drop(line.send(read))));
        match lines.recv_timeout(READY_WITHIN) {
            Ok(_) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(format!("the server does not serve after {READY_WITHIN:?}")),
            Err(RecvTimeoutError::Disconnected) => match self.process.wait() {
                Ok(status) => Err(format!("the server ended at its start ({status})")),
                Err(error) => Err(format!("the server cannot be awaited: {error}")),
            },
        }
    }

    /// Asks the server to stop, and waits; it must end well.
    pub fn stop(mut self) -> Result<(), Failure> {
        match end(&mut self.process, "TERM", STOP_WITHIN) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the server ended with {status}")),
            None => Err(format!("the server did not stop within {STOP_WITHIN:?}")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        // Empty when another server has the data now.
        if !self.data.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}
