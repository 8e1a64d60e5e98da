//! The way of every log operation of every group of a node to its one writer: one queue, bounded in operations and in bytes.

use std::sync::Arc;

use mainstay_storage::{LogOp, StorageError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::group_log::GroupLog;

/// Operations that may wait.
const OPERATIONS: usize = 1024;
/// Bytes of entries that may wait, in units of [`UNIT`].
const UNITS: u32 = 64 << 10;
const UNIT: usize = 1 << 10;

/// Who waits for an operation to be durable.
pub(crate) enum Done {
    /// A call.
    Call(Box<dyn FnOnce() + Send>),
    /// Someone who waits.
    Signal(oneshot::Sender<()>),
    /// Nobody, but it is to be written soon.
    Nobody,
    /// Nobody, and it may wait for something else to be written.
    Lazy,
}

impl Done {
    pub fn tell(self) {
        match self {
            Self::Call(call) => call(),
            // Whoever waited may be gone.
            Self::Signal(tell) => drop(tell.send(())),
            Self::Nobody | Self::Lazy => {}
        }
    }
}

/// What waits in the queue. Without an operation it asks that all before it be durable.
pub(crate) struct Item {
    pub op: Option<LogOp>,
    /// Whose it is, and its number there.
    pub group: Option<(Arc<GroupLog>, u64)>,
    pub done: Done,
}

impl Item {
    pub fn is_lazy(&self) -> bool {
        matches!(self.done, Done::Lazy)
    }
}

/// An item with the bytes that it takes of the bound.
pub(crate) struct Queued {
    pub item: Item,
    pub room: OwnedSemaphorePermit,
}

/// The sending end.
#[derive(Clone)]
pub(crate) struct Queue {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// A place in the queue.
pub(crate) struct Slot<'a> {
    permit: mpsc::Permit<'a, Queued>,
    room: OwnedSemaphorePermit,
}

impl Slot<'_> {
    pub fn send(self, item: Item) {
        self.permit.send(Queued { item, room: self.room });
    }
}

impl Queue {
    pub fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (sender, receiver) = mpsc::channel(OPERATIONS);
        (Self { sender, room: Arc::new(Semaphore::new(UNITS as usize)) }, receiver)
    }

    /// Waits for room.
    pub async fn slot(&self, bytes: usize) -> Result<Slot<'_>, StorageError> {
        // What is larger than the whole queue takes all of it.
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).min(UNITS);
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| Self::closed())?;
        let permit = self.sender.reserve().await.map_err(|_| Self::closed())?;
        Ok(Slot { permit, room })
    }

    /// Returns when everything queued before is durable.
    pub async fn barrier(&self) -> Result<(), StorageError> {
        let (tell, told) = oneshot::channel();
        self.slot(0).await?.send(Item { op: None, group: None, done: Done::Signal(tell) });
        told.await.map_err(|_| Self::closed())
    }

    pub fn closed() -> StorageError {
        StorageError::Io("the log's writer has ended".into())
    }
}
