//! The binary as people and SDKs start it: its banner, its refusals, its end.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const STOP_WITHIN: Duration = Duration::from_secs(6);

fn dev(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.args(["server", "start-dev", "--ip", "127.0.0.1", "--headless"]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that is killed when its test ends.
struct Server {
    process: Child,
    banner: String,
}

impl Server {
    /// Starts a server and waits for its banner.
    fn start(flags: &[&str]) -> Self {
        let mut process = dev(flags).spawn().expect("starts");
        let mut banner = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped")).read_line(&mut banner).expect("reads");
        Self { process, banner }
    }

    fn signal(&mut self, name: &str) -> ExitStatus {
        Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().expect("signals");
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN {
            if let Some(status) = self.process.try_wait().expect("waits") {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the server runs on after {name}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("tells").port().to_string()
}

/// The one line that a refused start prints.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    text.into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_server_says_where_it_listens_and_stops_when_asked() {
    for signal in ["INT", "TERM"] {
        let port = free_port();
        let mut server = Server::start(&["--port", &port]);
        assert_eq!(server.banner, format!("Temporal Server:  127.0.0.1:{port}\n"));
        let connection = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connects");
        assert!(server.signal(signal).success());
        drop(connection);
    }
}

#[test]
fn a_killed_server_starts_again_and_keeps_its_identity() {
    let parent = tempfile::tempdir().expect("a directory");
    let data = parent.path().join("data");
    let flags = ["--port", &free_port(), "--db-filename", text(&data)];
    let mut first = Server::start(&flags);
    let identity = std::fs::read(data.join("identity")).expect("an identity");
    first.signal("KILL");
    let mut second = Server::start(&flags);
    assert!(second.signal("TERM").success());
    assert_eq!(std::fs::read(data.join("identity")).expect("an identity"), identity);
}

#[test]
fn a_temporary_directory_goes_with_its_server() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut process = dev(&["--port", &free_port()]).env("TMPDIR", temporary.path()).spawn().expect("starts");
    let mut banner = String::new();
    BufReader::new(process.stdout.as_mut().expect("piped")).read_line(&mut banner).expect("reads");
    let mut server = Server { process, banner };
    assert_eq!(std::fs::read_dir(temporary.path()).expect("lists").count(), 1);
    assert!(server.signal("TERM").success());
    assert_eq!(std::fs::read_dir(temporary.path()).expect("lists").count(), 0);
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("tells").port().to_string();
    let parent = tempfile::tempdir().expect("a directory");
    let data = parent.path().join("data");
    let output = dev(&["--port", &port, "--db-filename", text(&data)]).output().expect("runs");
    let sentence = refusal(&output);
    assert!(sentence.contains("in use") && sentence.contains(&port), "{sentence}");
    assert!(!data.exists());
}

#[test]
fn a_directory_in_use_and_a_foreign_one_are_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let data = parent.path().join("data");
    let _server = Server::start(&["--port", &free_port(), "--db-filename", text(&data)]);
    let output = dev(&["--port", &free_port(), "--db-filename", text(&data)]).output().expect("runs");
    assert!(refusal(&output).contains("in use by another server"));
    let output = dev(&["--port", &free_port(), "--db-filename", text(parent.path())]).output().expect("runs");
    assert!(refusal(&output).contains("holds other files"));
}

#[test]
fn unknown_settings_of_sdks_do_no_harm_and_are_logged_once() {
    let setting = "frontend.enableServerVersionCheck=false";
    let flags =
        ["--port", &free_port(), "--log-level", "info", "--log-format", "pretty", "--dynamic-config-value", setting];
    let mut server = Server::start(&flags);
    assert!(server.signal("TERM").success());
    let mut log = String::new();
    server.process.stderr.as_mut().expect("piped").read_to_string(&mut log).expect("reads");
    assert_eq!(log.matches("frontend.enableServerVersionCheck").count(), 1, "{log}");
}
