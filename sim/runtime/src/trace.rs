//! What happened, hashed: each byte on a wire and each named event, with the simulated nanosecond.
//!
//! A run has a thread of its own, so the trace is the thread's. Equal traces are what "deterministic" means here.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

/// Something that a scenario or a node did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Simulated time since the start of the run.
    pub at: Duration,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6} {}", self.at.as_secs_f64(), self.what)
    }
}

/// Bytes that arrived, as one read took them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// When the first of them was written.
    pub sent: Duration,
    /// When they were read.
    pub received: Duration,
    /// From this machine.
    pub from: IpAddr,
    /// To this one.
    pub to: IpAddr,
    /// How many.
    pub bytes: usize,
}

/// A finished trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of all wire bytes, events and their times, in order.
    pub hash: u128,
    /// Bytes read and written on wires.
    pub bytes: u64,
    /// The named events.
    pub events: Vec<Event>,
    /// Bytes that travelled, if that was to be recorded, and not more than [`MESSAGES_MAX`].
    pub messages: Vec<Message>,
}

/// Messages that a trace keeps.
pub const MESSAGES_MAX: usize = 100_000;

#[derive(Default)]
struct Recorder {
    hasher: Xxh3,
    bytes: u64,
    events: Vec<Event>,
    print: bool,
    messages: Option<Messages>,
}

/// Messages, and what is under way: by direction, when it was written and how much of it was not read.
#[derive(Default)]
struct Messages {
    under_way: BTreeMap<(SocketAddr, SocketAddr), VecDeque<(Duration, usize)>>,
    read: Vec<Message>,
}

impl Messages {
    fn take(&mut self, at: Duration, local: SocketAddr, peer: SocketAddr, way: Way, bytes: usize) {
        match way {
            Way::Written => self.under_way.entry((local, peer)).or_default().push_back((at, bytes)),
            Way::Closed => {}
            Way::Read if self.read.len() < MESSAGES_MAX => {
                let queue = self.under_way.entry((peer, local)).or_default();
                let sent = queue.front().map_or(at, |(sent, _)| *sent);
                let mut left = bytes;
                while let Some((_, unread)) = queue.front_mut().filter(|_| left > 0) {
                    let taken = left.min(*unread);
                    (left, *unread) = (left - taken, *unread - taken);
                    if *unread == 0 {
                        queue.pop_front();
                    }
                }
                self.read.push(Message { sent, received: at, from: peer.ip(), to: local.ip(), bytes });
            }
            Way::Read => {}
        }
    }
}

thread_local! {
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

/// Simulated time since the start of the run.
#[must_use]
pub fn now() -> Duration {
    madsim::time::TimeHandle::current().elapsed()
}

/// Records a named event.
pub fn event(what: impl Into<String>) {
    let event = Event { at: now(), what: what.into() };
    RECORDER.with_borrow_mut(|recorder| {
        recorder.hasher.update(&event.at.as_nanos().to_le_bytes());
        recorder.hasher.update(event.what.as_bytes());
        if recorder.print {
            println!("{event}");
        }
        recorder.events.push(event);
    });
}

/// Direction of bytes on a wire.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Read = 1,
    Written = 2,
    Closed = 3,
}

/// Records bytes on a wire.
pub(crate) fn wire(local: SocketAddr, peer: SocketAddr, way: Way, bytes: &[u8]) {
    let now = now();
    let at = now.as_nanos().to_le_bytes();
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(messages) = recorder.messages.as_mut() {
            messages.take(now, local, peer, way, bytes.len());
        }
        recorder.hasher.update(&at);
        for address in [local, peer] {
            if let SocketAddr::V4(v4) = address {
                recorder.hasher.update(&v4.ip().octets());
            }
            recorder.hasher.update(&address.port().to_le_bytes());
        }
        recorder.hasher.update(&[way as u8]);
        recorder.hasher.update(&(bytes.len() as u64).to_le_bytes());
        recorder.hasher.update(bytes);
        recorder.bytes += bytes.len() as u64;
    });
}

/// Begins an empty trace; with `print`, events are shown as they happen, and with `messages`, what travels is kept.
pub(crate) fn begin(print: bool, messages: bool) {
    RECORDER.set(Recorder { print, messages: messages.then(Messages::default), ..Recorder::default() });
}

/// Ends the trace.
pub(crate) fn end() -> Trace {
    let recorder = RECORDER.take();
    let messages = recorder.messages.map(|messages| messages.read).unwrap_or_default();
    Trace { hash: recorder.hasher.digest128(), bytes: recorder.bytes, events: recorder.events, messages }
}
