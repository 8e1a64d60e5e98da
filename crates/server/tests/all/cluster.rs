//! Clusters as people start them: one command, or one process for each node; what does not belong is refused in a sentence.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);

fn mainstay(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that is killed when its test ends.
struct Running(Child);

impl Running {
    /// The first lines that it prints, up to and with one that begins so.
    fn says(&mut self, beginning: &str) -> String {
        let mut lines = BufReader::new(self.0.stdout.as_mut().expect("piped"));
        let (mut text, begun) = (String::new(), Instant::now());
        while begun.elapsed() < READY_WITHIN {
            let mut line = String::new();
            if lines.read_line(&mut line).expect("reads") == 0 {
                break;
            }
            text += &line;
            if line.starts_with(beginning) {
                return text;
            }
        }
        let mut wrong = String::new();
        let _ = self.0.kill();
        let _ = self.0.stderr.as_mut().expect("piped").read_to_string(&mut wrong);
        panic!("it said {text:?} and {wrong:?}, not {beginning:?}");
    }

    fn signal(&mut self, name: &str) -> bool {
        Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().expect("signals");
        let begun = Instant::now();
        while begun.elapsed() < STOP_WITHIN {
            if let Some(status) = self.0.try_wait().expect("waits") {
                return status.success();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it runs on after {name}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that are free, `count` in a row, and that nobody is given who asks for any port.
fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let place = NEXT.fetch_add(50, Ordering::Relaxed).wrapping_add(std::process::id() as u16);
        let first = 12_000 + place % 15_000;
        if (0..count).all(|next| TcpListener::bind(("127.0.0.1", first + next)).is_ok()) {
            return first;
        }
    }
}

struct Node<'a> {
    data: &'a Path,
    name: &'a str,
    port: u16,
    join: &'a str,
    expect: &'a str,
}

impl Node<'_> {
    fn command(&self) -> Command {
        let (listen, peers) = (format!("127.0.0.1:{}", self.port), format!("127.0.0.1:{}", self.port + 1));
        let data = self.data.to_str().expect("UTF-8");
        mainstay(&[
            "server",
            "start",
            "--data-dir",
            data,
            "--node-name",
            self.name,
            "--listen",
            &listen,
            "--peer-listen",
            &peers,
            "--join",
            self.join,
            "--bootstrap-expect",
            self.expect,
            "--log-level",
            "error",
        ])
    }

    fn start(&self) -> Running {
        Running(self.command().spawn().expect("starts"))
    }
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn status(port: u16) -> String {
    let output = mainstay(&["cluster", "status", "--address", &format!("127.0.0.1:{port}")]).output().expect("runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("lists").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn one_command_runs_a_cluster_and_ends_it() {
    let first = free_ports(3);
    let mut cluster = Running(
        mainstay(&["cluster", "dev", "--nodes", "3", "--headless", "--port", &first.to_string()])
            .spawn()
            .expect("starts"),
    );
    let text = cluster.says("Ctrl-C");
    for number in 0..3 {
        assert!(text.contains(&format!("node-{}", number + 1)), "{text}");
        assert!(text.contains(&format!("127.0.0.1:{}", first + number)), "{text}");
    }
    assert_eq!(status(first + 2).matches("serves").count(), 3);
    assert!(cluster.signal("INT"));
    assert!((0..3).all(|next| TcpListener::bind(("127.0.0.1", first + next)).is_ok()), "a node runs on");
}

#[test]
fn nodes_start_and_restart_in_any_order_and_come_back_elsewhere() {
    let parent = tempfile::tempdir().expect("a directory");
    let ports = free_ports(8);
    let join: Vec<String> = (0..4).map(|number| format!("127.0.0.1:{}", ports + 2 * number + 1)).collect();
    let join = join.join(",");
    let data: Vec<_> = (0..3).map(|number| parent.path().join(format!("d{number}"))).collect();
    let node = |number: usize, place: u16| Node {
        data: &data[number],
        name: ["a", "b", "c"][number],
        port: ports + 2 * place,
        join: &join,
        expect: "3",
    };
    // The founder comes last.
    let mut later: Vec<Running> = [2, 1].map(|number| node(number, number as u16).start()).into();
    thread::sleep(Duration::from_millis(700));
    let mut founder = node(0, 0).start();
    founder.says("Temporal Server");
    later.iter_mut().for_each(|node| drop(node.says("Temporal Server")));
    assert_eq!(status(ports).matches("serves").count(), 3);

    // A name of another node, and a node that runs already, are refused.
    let other = Node { name: "x", ..node(1, 3) };
    assert!(refusal(&other.command().output().expect("runs")).contains("in use by another server"));
    let copied = parent.path().join("copy");
    copy(&data[1], &copied);
    let twin = Node { data: &copied, ..node(1, 3) };
    let sentence = refusal(&twin.command().output().expect("runs"));
    assert!(sentence.contains("copy"), "{sentence}");

    // All stop; one comes back at another address, and in another order.
    assert!(founder.signal("TERM"));
    later.iter_mut().for_each(|node| assert!(node.signal("TERM")));
    let wrong = Node { name: "x", ..node(1, 3) };
    assert!(refusal(&wrong.command().output().expect("runs")).contains("data of b, not of x"));
    let mut again = [node(1, 3).start(), node(2, 2).start()];
    again.iter_mut().for_each(|node| drop(node.says("Temporal Server")));
    let mut founder = node(0, 0).start();
    founder.says("Temporal Server");
    let text = status(ports);
    assert!(text.contains(&format!("127.0.0.1:{}", ports + 7)), "{text}");
    assert_eq!(text.matches("serves").count(), 3, "{text}");
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let ports = free_ports(4);
    let (one, other) = (parent.path().join("one"), parent.path().join("other"));
    let (here, there) = (format!("127.0.0.1:{}", ports + 1), format!("127.0.0.1:{}", ports + 3));
    let mut first = Node { data: &one, name: "a", port: ports, join: &here, expect: "1" }.start();
    first.says("Temporal Server");
    let mut second = Node { data: &other, name: "b", port: ports + 2, join: &there, expect: "1" }.start();
    second.says("Temporal Server");
    assert!(second.signal("TERM"));
    let lost = Node { data: &other, name: "b", port: ports + 2, join: &here, expect: "1" };
    let sentence = refusal(&lost.command().output().expect("runs"));
    assert!(sentence.contains("different clusters"), "{sentence}");
    let alone = mainstay(&["server", "start", "--data-dir", other.to_str().expect("UTF-8")]).output().expect("runs");
    assert!(refusal(&alone).contains("--node-name b"));
}
