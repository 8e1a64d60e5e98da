//! Peers' connections to this node: greeted, or refused in a sentence, and their calls answered.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use mainstay_runtime::{Instant, Runtime, Select2, select2};
use tokio::io::ReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frame::{Frame, FrameReader};
use super::link::{Outbox, watch_silence, write_one, write_queued};
use super::{
    Answer, BODY_BYTES_MAX, CALLS_MAX, CONNECT_WITHIN, CONNECTIONS_MAX, GREETING_SERVICE, Gate, Hello, Inner, Peers,
    RAFT_SERVICE, lock,
};

/// Accepts connections until the peers are stopped.
pub(super) async fn accept<R: Runtime>(peers: Peers<R>, mut listener: R::Listener) {
    let stopped = peers.0.stopped.clone();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = match select2(stopped.closed(), R::accept(&mut listener)).await {
            Select2::First(()) => return,
            Select2::Second(accepted) => accepted,
        };
        match accepted {
            // Too many: closed again.
            Ok((stream, _)) => {
                if let Ok(place) = room.clone().try_acquire_owned() {
                    drop(R::spawn(serve(peers.clone(), stream, place)));
                }
            }
            // The listener is gone; an adapter repeats what may pass by itself.
            Err(_) => return,
        }
    }
}

async fn serve<R: Runtime>(peers: Peers<R>, stream: R::Stream, _place: OwnedSemaphorePermit) {
    let inner = peers.0;
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader);
    let Ok(Ok(Frame::Hello(hello))) = R::timeout(CONNECT_WITHIN, reader.next()).await else {
        return;
    };
    if let Err(reason) = inner.admits(&hello) {
        let _gone = R::timeout(CONNECT_WITHIN, write_one(&mut writer, &Frame::Unwelcome { reason })).await;
        return;
    }
    if write_one(&mut writer, &Frame::Welcome { node: inner.me }).await.is_err() {
        return;
    }
    if inner.is_member(&hello) {
        reader.trust();
    }
    let heard = Mutex::new(R::Instant::now());
    let (outbox, mut queue) = Outbox::new();
    let stopped = inner.stopped.clone();
    let read = answer_calls(&inner, &hello, &mut reader, &heard, outbox);
    let talk = select2(read, write_queued(&mut writer, &mut queue, |_| {}));
    let watch = select2(stopped.closed(), watch_silence::<R>(&heard, None));
    let _ended = select2(watch, talk).await;
}

async fn answer_calls<R: Runtime>(
    inner: &Arc<Inner<R>>,
    hello: &Hello,
    reader: &mut FrameReader<ReadHalf<R::Stream>>,
    heard: &Mutex<R::Instant>,
    outbox: Outbox,
) -> io::Result<()> {
    let under_way = Arc::new(Semaphore::new(CALLS_MAX));
    let calls = Calls::default();
    loop {
        let frame = reader.next().await?;
        *lock(heard) = R::Instant::now();
        if inner.is_banned(hello.from) && inner.is_member(hello) {
            return Ok(());
        }
        if hello.to != 0 {
            inner.heard(hello.from);
        }
        match frame {
            Frame::Ping => outbox.offer(Frame::Pong),
            Frame::Cancel { id } => calls.cancel(id),
            Frame::Call { id, service, .. } if service != GREETING_SERVICE && !inner.is_member(hello) => {
                let reason = inner.stranger(hello);
                let _gone = outbox.send(Frame::Refusal { id, reason }, 0).await;
            }
            Frame::Call { id, service, body } => {
                let Ok(permit) = under_way.clone().acquire_owned().await else { return Ok(()) };
                let mut answer: Answer = match inner.handler(service) {
                    Some(handler) => handler.handle(hello.from, body),
                    None => Box::pin(async move { Err(format!("there is no service {service}")) }),
                };
                // Polled once here, in the order of the calls; whoever polls it next is the one to be woken.
                let first = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                let outbox = outbox.clone();
                let call = calls.begin(id, service);
                drop(R::spawn(async move {
                    let answer = match first {
                        Poll::Ready(answer) => answer,
                        Poll::Pending => match select2(call.gate.closed(), answer).await {
                            Select2::First(()) => return,
                            Select2::Second(answer) => answer,
                        },
                    };
                    let frame = match answer {
                        Ok(body) if body.len() <= BODY_BYTES_MAX => Frame::Answer { id, body },
                        Ok(_) => Frame::Refusal { id, reason: "the answer is too large".into() },
                        Err(reason) => Frame::Refusal { id, reason },
                    };
                    let bytes = if let Frame::Answer { body, .. } = &frame { body.len() } else { 0 };
                    let _gone = outbox.send(frame, bytes).await;
                    drop((permit, call));
                }));
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is no call")),
        }
    }
}

/// The calls of one connection that are under way. They are dropped when nobody waits for them any more, and with the connection; but
/// for Raft's, which must not stop half-way.
#[derive(Default)]
struct Calls(Arc<Mutex<BTreeMap<u64, Gate>>>);

/// One of them.
struct Begun {
    calls: Arc<Mutex<BTreeMap<u64, Gate>>>,
    id: u64,
    gate: Gate,
}

impl Calls {
    fn begin(&self, id: u64, service: u16) -> Begun {
        let gate = Gate::new();
        if service != RAFT_SERVICE {
            lock(&self.0).insert(id, gate.clone());
        }
        Begun { calls: self.0.clone(), id, gate }
    }

    fn cancel(&self, id: u64) {
        if let Some(gate) = lock(&self.0).remove(&id) {
            gate.close();
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        lock(&self.0).values().for_each(Gate::close);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.id);
    }
}
