//! What happened, hashed: each byte on a wire and each named event, with the simulated nanosecond.
//!
//! A run has a thread of its own, so the trace is the thread's. Equal traces are what "deterministic" means here.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
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

/// A finished trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of all wire bytes, events and their times, in order.
    pub hash: u128,
    /// Bytes read and written on wires.
    pub bytes: u64,
    /// The named events.
    pub events: Vec<Event>,
}

#[derive(Default)]
struct Recorder {
    hasher: Xxh3,
    bytes: u64,
    events: Vec<Event>,
    print: bool,
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
    let at = now().as_nanos().to_le_bytes();
    RECORDER.with_borrow_mut(|recorder| {
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

/// Begins an empty trace; with `print`, events are shown as they happen.
pub(crate) fn begin(print: bool) {
    RECORDER.set(Recorder { print, ..Recorder::default() });
}

/// Ends the trace.
pub(crate) fn end() -> Trace {
    let recorder = RECORDER.take();
    Trace { hash: recorder.hasher.digest128(), bytes: recorder.bytes, events: recorder.events }
}
