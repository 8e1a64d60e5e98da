//! The calls that clients and workers make, with their fixed parts filled in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mainstay_api::temporal::common::v1::{Payload, Payloads};
use mainstay_api::temporal::enums::v1::TaskQueueKind;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::transport::{Channel, Endpoint};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(crate) type Client = WorkflowServiceClient<Channel>;

/// A server, and the names that this run uses on it.
pub(crate) struct Server {
    clients: Vec<Client>,
    next: AtomicUsize,
    pub namespace: String,
    pub identity: String,
    /// Unique to this run, so that runs on the same server do not meet.
    pub run: String,
    padding: Bytes,
}

impl Server {
    pub async fn connect(address: &str, namespace: &str, connections: usize, payload: usize) -> Result<Self, String> {
        let wrong =
            |error: &dyn std::fmt::Display| format!("no server at {address}: {error}; start one, or say --address");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| wrong(&error))?;
        let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true);
        let mut clients = Vec::new();
        for _ in 0..connections {
            let channel = endpoint.connect().await.map_err(|error| wrong(&error))?;
            clients.push(WorkflowServiceClient::new(channel).max_decoding_message_size(usize::MAX));
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Self {
            clients,
            next: AtomicUsize::new(0),
            namespace: namespace.to_string(),
            identity: format!("bench-{}", std::process::id()),
            run: format!("bench-{nanos:x}"),
            padding: incompressible(payload),
        })
    }

    /// A client on the next connection.
    pub fn client(&self) -> Client {
        self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()].clone()
    }

    pub fn task_queue(&self) -> TaskQueue {
        TaskQueue { name: self.run.clone(), kind: TaskQueueKind::Normal.into(), ..Default::default() }
    }

    pub fn sticky_queue(&self) -> TaskQueue {
        TaskQueue {
            name: format!("{}-sticky", self.run),
            kind: TaskQueueKind::Sticky.into(),
            normal_name: self.run.clone(),
        }
    }

    /// A number as JSON, and padding behind it.
    pub fn number(&self, number: u32) -> Option<Payloads> {
        let mut payloads = vec![payload("json/plain", Bytes::from(number.to_string()))];
        if !self.padding.is_empty() {
            payloads.push(payload("binary/plain", self.padding.clone()));
        }
        Some(Payloads { payloads })
    }
}

/// So many bytes that do not compress, the same each time.
fn incompressible(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| byte()).collect()
}

pub(crate) fn payload(encoding: &'static str, data: Bytes) -> Payload {
    let metadata = [("encoding".to_owned(), Bytes::from_static(encoding.as_bytes()))].into();
    Payload { metadata, data, ..Default::default() }
}

/// The number that [`Server::number`] wrote.
pub(crate) fn read_number(payloads: Option<&Payloads>) -> Option<u32> {
    std::str::from_utf8(&payloads?.payloads.first()?.data).ok()?.parse().ok()
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}
