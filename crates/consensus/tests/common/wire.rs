//! The network between the nodes of a test: each node reaches each other one through a wire that can be cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// From one node to another. While it is cut, what was sent waits, as with a network that lost a cable.
struct Wire {
    address: String,
    cut: Arc<AtomicBool>,
}

async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, cut: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        while cut.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _closed = to.shutdown().await;
}

impl Wire {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("is bound").to_string();
        let cut = Arc::<AtomicBool>::default();
        let own = cut.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (target, cut) = (target.clone(), own.clone());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(&target).await else { return };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(pump(near_in, far_out, cut.clone()), pump(far_in, near_out, cut));
                });
            }
        });
        Self { address, cut }
    }
}

/// All wires of a test.
#[derive(Default)]
pub struct Wires(BTreeMap<(u64, u64), Wire>);

impl Wires {
    /// Connects all pairs of nodes, which listen at these addresses.
    pub async fn between(nodes: &BTreeMap<u64, String>) -> Self {
        let mut wires = BTreeMap::new();
        for from in nodes.keys() {
            for (to, address) in nodes.iter().filter(|(to, _)| *to != from) {
                wires.insert((*from, *to), Wire::to(address.clone()).await);
            }
        }
        Self(wires)
    }

    /// Where one node reaches another.
    pub fn address(&self, from: u64, to: u64) -> String {
        self.0[&(from, to)].address.clone()
    }

    /// Cuts a node off from all others, or not any more.
    pub fn isolate(&self, node: u64, cut: bool) {
        for ((from, to), wire) in &self.0 {
            if *from == node || *to == node {
                wire.cut.store(cut, Ordering::Relaxed);
            }
        }
    }
}
