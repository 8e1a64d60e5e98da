//! The connection to one peer, for this node's calls to it: made again whenever it breaks, with a growing wait.
//!
//! While the first attempt runs, or the one after a connection broke, calls wait for it; once an attempt has failed they are
//! refused at once until one succeeds. A call is *sent* when its frame was handed to the connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mainstay_runtime::{Instant, Runtime, Select2, select2};
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::frame::{self, Frame, FrameReader};
use super::{
    BACKOFF_FIRST, BACKOFF_LAST, BODY_BYTES_MAX, CALLS_MAX, CONNECT_WITHIN, Gate, Inner, PING_EVERY, PeerError,
    QUEUE_FRAMES, QUEUE_UNIT, QUEUE_UNITS, SILENCE_MAX, WRITE_BYTES, lock,
};

/// A frame that waits to be written, with the room that it takes.
pub(crate) struct Queued {
    pub frame: Frame,
    pub room: Option<OwnedSemaphorePermit>,
}

/// The sending end of a connection's queue, bounded in frames and bytes.
#[derive(Clone)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

impl Outbox {
    pub fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (sender, receiver) = mpsc::channel(QUEUE_FRAMES);
        (Self { sender, room: Arc::new(Semaphore::new(QUEUE_UNITS as usize)) }, receiver)
    }

    /// Queues a frame: at the first poll if there is room, else when there is. False if nobody writes any more.
    pub async fn send(&self, frame: Frame, bytes: usize) -> bool {
        let units = u32::try_from(bytes / QUEUE_UNIT).unwrap_or(QUEUE_UNITS).min(QUEUE_UNITS);
        let room = match self.room.clone().try_acquire_many_owned(units) {
            Ok(room) => Some(room),
            Err(_) => self.room.clone().acquire_many_owned(units).await.ok(),
        };
        // What is tried first does not yield to other tasks, so calls made one after the other keep their order.
        match self.sender.try_send(Queued { frame, room }) {
            Ok(()) => true,
            Err(TrySendError::Full(queued)) => self.sender.send(queued).await.is_ok(),
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Queues a small frame if there is room now.
    pub fn offer(&self, frame: Frame) {
        let _full = self.sender.try_send(Queued { frame, room: None });
    }
}

/// Writes what is queued, small frames together, until the queue or the stream ends. `written` hears of each frame before.
pub(crate) async fn write_queued<W: AsyncWrite + Unpin>(
    stream: &mut W,
    queue: &mut mpsc::Receiver<Queued>,
    mut written: impl FnMut(&Frame),
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(first) = queue.recv().await {
        let mut next = Some(first);
        let mut rooms = Vec::new();
        while let Some(Queued { frame, room }) = next {
            written(&frame);
            frame::encode(&frame, &mut buffer);
            rooms.extend(room);
            next = if buffer.len() < WRITE_BYTES { queue.try_recv().ok() } else { None };
        }
        stream.write_all(&buffer).await?;
        stream.flush().await?;
        buffer.clear();
        if buffer.capacity() > 4 * WRITE_BYTES {
            buffer = BytesMut::new();
        }
    }
    Ok(())
}

/// Writes one frame.
pub(crate) async fn write_one<W: AsyncWrite + Unpin>(stream: &mut W, frame: &Frame) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    frame::encode(frame, &mut buffer);
    stream.write_all(&buffer).await?;
    stream.flush().await
}

/// Resolves when a connection was silent for too long; meanwhile asks for signs of life, if there is where to ask.
pub(crate) async fn watch_silence<R: Runtime>(heard: &Mutex<R::Instant>, outbox: Option<&Outbox>) {
    loop {
        R::sleep(PING_EVERY).await;
        if R::Instant::now() - *lock(heard) > SILENCE_MAX {
            return;
        }
        if let Some(outbox) = outbox {
            outbox.offer(Frame::Ping);
        }
    }
}

enum State {
    /// The first attempt, or the first after a break, is under way.
    Connecting,
    Connected,
    Down(String),
}

struct Waiting {
    sent: bool,
    tell: oneshot::Sender<Result<Bytes, PeerError>>,
}

/// See the module.
pub(crate) struct Link<R: Runtime> {
    node: u64,
    address: String,
    closed: Gate,
    outbox: Outbox,
    state: Mutex<State>,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    last_id: AtomicU64,
    heard: Mutex<R::Instant>,
}

/// Forgets a call when its caller goes away, and says so to the other side.
struct Call<'a, R: Runtime>(&'a Link<R>, u64);

impl<R: Runtime> Drop for Call<'_, R> {
    fn drop(&mut self) {
        let forgotten = lock(&self.0.waiting).remove(&self.1);
        if forgotten.is_some() {
            self.0.outbox.offer(Frame::Cancel { id: self.1 });
        }
    }
}

impl<R: Runtime> Link<R> {
    /// A link that connects at once. It ends with the peers that own it.
    pub fn start(peers: Weak<Inner<R>>, node: u64, address: String) -> Arc<Self> {
        let (outbox, queue) = Outbox::new();
        let link = Arc::new(Self {
            node,
            address,
            closed: Gate::new(),
            outbox,
            state: Mutex::new(State::Connecting),
            waiting: Mutex::default(),
            last_id: AtomicU64::new(0),
            heard: Mutex::new(R::Instant::now()),
        });
        drop(R::spawn(link.clone().run(peers, queue)));
        link
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn close(&self) {
        self.closed.close();
    }

    /// Whether the last attempt to connect failed.
    pub fn is_down(&self) -> bool {
        matches!(&*lock(&self.state), State::Down(_))
    }

    pub async fn call(&self, service: u16, body: Bytes, within: Duration) -> Result<Bytes, PeerError> {
        if body.len() > BODY_BYTES_MAX {
            let reason = format!("a call of {} bytes, where at most {BODY_BYTES_MAX} are allowed", body.len());
            return Err(PeerError::Unreachable(reason));
        }
        if let State::Down(reason) = &*lock(&self.state) {
            return Err(PeerError::Unreachable(reason.clone()));
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= CALLS_MAX {
                return Err(PeerError::Unreachable(format!("{CALLS_MAX} calls of it are under way")));
            }
            waiting.insert(id, Waiting { sent: false, tell });
        }
        let call = Call(self, id);
        let bytes = body.len();
        let answered = async {
            // If nobody writes any more, the answer says why.
            let _queued = self.outbox.send(Frame::Call { id, service, body }, bytes).await;
            told.await
        };
        match R::timeout(within, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(PeerError::Unreachable("the connection was closed".into())),
            Err(_) => {
                let sent = lock(&self.waiting).get(&call.1).is_none_or(|waiting| waiting.sent);
                let late = || PeerError::Unreachable("the call could not be sent in time".into());
                Err(if sent { PeerError::TimedOut } else { late() })
            }
        }
    }

    async fn run(self: Arc<Self>, peers: Weak<Inner<R>>, mut queue: mpsc::Receiver<Queued>) {
        let mut wait = BACKOFF_FIRST;
        while !self.closed.is_closed() {
            let attempt = connect(&peers, &self.address, self.node);
            let connected = match select2(self.closed.closed(), attempt).await {
                Select2::First(()) => break,
                Select2::Second(connected) => connected,
            };
            match connected {
                Ok((reader, writer, _)) => {
                    *lock(&self.heard) = R::Instant::now();
                    *lock(&self.state) = State::Connected;
                    let reason = self.converse(&peers, reader, writer, &mut queue).await;
                    *lock(&self.state) = State::Connecting;
                    self.fail(&reason, &mut queue);
                    wait = BACKOFF_FIRST;
                }
                Err(error) => {
                    let reason = error.to_string();
                    *lock(&self.state) = State::Down(reason.clone());
                    if let Some(peers) = peers.upgrade() {
                        peers.broken.notify_one();
                        if let PeerError::Refused(reason) = &error {
                            peers.refused(reason);
                        }
                    }
                    self.fail(&reason, &mut queue);
                    wait = (wait * 2).min(BACKOFF_LAST);
                }
            }
            if peers.strong_count() == 0 {
                break;
            }
            let _closed = select2(self.closed.closed(), R::sleep(wait)).await;
        }
        let reason = "the node was forgotten, or this one stops".to_owned();
        *lock(&self.state) = State::Down(reason.clone());
        queue.close();
        self.fail(&reason, &mut queue);
    }

    /// Writes calls and reads answers until the connection breaks; why it did.
    async fn converse(
        &self,
        peers: &Weak<Inner<R>>,
        mut reader: FrameReader<ReadHalf<R::Stream>>,
        mut writer: WriteHalf<R::Stream>,
        queue: &mut mpsc::Receiver<Queued>,
    ) -> String {
        let sent = |frame: &Frame| {
            if let Frame::Call { id, .. } = frame
                && let Some(waiting) = lock(&self.waiting).get_mut(id)
            {
                waiting.sent = true;
            }
        };
        let write = write_queued(&mut writer, queue, sent);
        let read = async {
            loop {
                let frame = reader.next().await?;
                *lock(&self.heard) = R::Instant::now();
                if let Some(peers) = peers.upgrade() {
                    peers.heard(self.node);
                }
                match frame {
                    Frame::Answer { id, body } => self.answer(id, Ok(body)),
                    Frame::Refusal { id, reason } => self.answer(id, Err(PeerError::Refused(reason))),
                    Frame::Pong => {}
                    _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is no answer")),
                }
            }
        };
        let talk = select2(write, read);
        let watch = select2(self.closed.closed(), watch_silence::<R>(&self.heard, Some(&self.outbox)));
        match select2(watch, talk).await {
            Select2::First(Select2::First(())) => "the connection was closed".into(),
            Select2::First(Select2::Second(())) => format!("nothing was heard for {SILENCE_MAX:?}"),
            Select2::Second(Select2::First(Ok(()))) => "the connection was closed".into(),
            Select2::Second(Select2::First(Err(error)) | Select2::Second(Err::<(), _>(error))) => error.to_string(),
            Select2::Second(Select2::Second(Ok(()))) => "the connection ended".into(),
        }
    }

    fn answer(&self, id: u64, answer: Result<Bytes, PeerError>) {
        // Who waited may be gone.
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            let _gone = waiting.tell.send(answer);
        }
    }

    /// Fails all calls that wait, and empties the queue.
    fn fail(&self, reason: &str, queue: &mut mpsc::Receiver<Queued>) {
        while queue.try_recv().is_ok() {}
        for (_, Waiting { sent, tell }) in std::mem::take(&mut *lock(&self.waiting)) {
            let error = if sent { PeerError::Lost(reason.into()) } else { PeerError::Unreachable(reason.into()) };
            let _gone = tell.send(Err(error));
        }
    }
}

type Halves<R> = (FrameReader<ReadHalf<<R as Runtime>::Stream>>, WriteHalf<<R as Runtime>::Stream>, u64);

/// A connection to an address, greeted; with the id of the node there.
async fn connect<R: Runtime>(peers: &Weak<Inner<R>>, address: &str, node: u64) -> Result<Halves<R>, PeerError> {
    let Some(hello) = peers.upgrade().map(|peers| peers.hello(node)) else {
        return Err(PeerError::Unreachable("this node stops".into()));
    };
    let greeted = async {
        let stream = dial::<R>(address).await?;
        let (reader, mut writer) = tokio::io::split(stream);
        write_one(&mut writer, &Frame::Hello(hello)).await?;
        let mut reader = FrameReader::new(reader);
        match reader.next().await? {
            Frame::Welcome { node: found } if node == 0 || found == node => {
                reader.trust();
                Ok(Ok((reader, writer, found)))
            }
            Frame::Welcome { node: found } => Err(io::Error::other(format!("node {found} is there, not node {node}"))),
            Frame::Unwelcome { reason } => Ok(Err(reason)),
            _ => Err(io::Error::other("it does not greet")),
        }
    };
    match R::timeout(CONNECT_WITHIN, greeted).await {
        Ok(Ok(Ok(halves))) => Ok(halves),
        Ok(Ok(Err(reason))) => Err(PeerError::Refused(reason)),
        Ok(Err(error)) => Err(PeerError::Unreachable(format!("{address}: {error}"))),
        Err(_) => Err(PeerError::Unreachable(format!("{address}: no answer within {CONNECT_WITHIN:?}"))),
    }
}

/// Tries the addresses that a name stands for, one after the other.
async fn dial<R: Runtime>(address: &str) -> io::Result<R::Stream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let found: Vec<SocketAddr> = R::resolve(address).await?;
    for address in found {
        match R::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// One call on a connection of its own.
pub(super) async fn call_once<R: Runtime>(
    peers: &Arc<Inner<R>>,
    address: &str,
    service: u16,
    body: Bytes,
    within: Duration,
) -> Result<(u64, Bytes), PeerError> {
    let deadline = R::Instant::now() + within;
    let connected = R::timeout_at(deadline, connect(&Arc::downgrade(peers), address, 0)).await;
    let late = || PeerError::Unreachable(format!("{address}: not connected in time"));
    let (mut reader, mut writer, node) = connected.unwrap_or_else(|_| Err(late()))?;
    let answered = async {
        write_one(&mut writer, &Frame::Call { id: 0, service, body }).await?;
        loop {
            match reader.next().await? {
                Frame::Answer { body, .. } => return Ok(Ok((node, body))),
                Frame::Refusal { reason, .. } => return Ok(Err(PeerError::Refused(reason))),
                _ => {}
            }
        }
    };
    match R::timeout_at(deadline, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err::<_, io::Error>(error)) => Err(PeerError::Lost(error.to_string())),
        Err(_) => Err(PeerError::TimedOut),
    }
}
