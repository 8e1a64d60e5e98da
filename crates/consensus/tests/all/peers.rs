//! Two nodes that call each other: who is let in, what a failed call means, order, limits, connections that come back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::peer::{Answer, BODY_BYTES_MAX, Hello};
use mainstay_consensus::{Handler, PeerError, Peers};
use mainstay_runtime::Runtime;
use mainstay_runtime_tokio::TokioRuntime as Rt;

const ECHO: u16 = 2;
const WITHIN: Duration = Duration::from_secs(5);

/// Answers what it was told, after the time that the first byte says, in tens of milliseconds; refuses "no".
#[derive(Default)]
struct Echo {
    seen: Mutex<Vec<Bytes>>,
}

impl Handler for Echo {
    fn handle(&self, from: u64, body: Bytes) -> Answer {
        self.seen.lock().expect("not poisoned").push(body.clone());
        Box::pin(async move {
            if body == "no" {
                return Err(format!("not for node {from}"));
            }
            let wait = body.first().copied().unwrap_or_default();
            if wait > 0 && wait < b' ' {
                tokio::time::sleep(Duration::from_millis(10 * u64::from(wait))).await;
            }
            Ok(body)
        })
    }
}

async fn listen(peers: &Peers<Rt>, address: &str) -> String {
    let address: SocketAddr = address.parse().expect("is an address");
    let listener = Rt::bind(address).await.expect("is free");
    let address = Rt::local_address(&listener).expect("is bound").to_string();
    peers.serve(listener);
    address
}

fn node(id: u64, cluster: &str) -> (Peers<Rt>, Arc<Echo>) {
    let (peers, echo) = (Peers::new(id, cluster.into()), Arc::<Echo>::default());
    peers.register(ECHO, echo.clone());
    (peers, echo)
}

/// Node 1 that knows where node 2 is.
async fn pair() -> (Peers<Rt>, Peers<Rt>, Arc<Echo>) {
    let (one, _) = node(1, "c");
    let (two, echo) = node(2, "c");
    one.set_address(2, listen(&two, "127.0.0.1:0").await);
    (one, two, echo)
}

async fn echo(peers: &Peers<Rt>, node: u64, body: &'static [u8]) -> Result<Bytes, PeerError> {
    peers.call(node, ECHO, Bytes::from_static(body), WITHIN).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_or_refused() {
    let (one, two, _) = pair().await;
    assert_eq!(echo(&one, 2, b"yes").await, Ok(Bytes::from_static(b"yes")));
    assert_eq!(echo(&one, 2, b"no").await, Err(PeerError::Refused("not for node 1".into())));
    let service = one.call(2, 9, Bytes::new(), WITHIN).await;
    assert_eq!(service, Err(PeerError::Refused("there is no service 9".into())));
    assert!(matches!(echo(&one, 3, b"yes").await, Err(PeerError::Unreachable(reason)) if reason.contains("node 3")));
    let large = one.call(2, ECHO, Bytes::from(vec![b'x'; 20 << 20]), WITHIN).await.expect("is answered");
    assert_eq!(large.len(), 20 << 20);
    let huge = one.call(2, ECHO, Bytes::from(vec![0; BODY_BYTES_MAX + 1]), WITHIN).await;
    assert!(matches!(huge, Err(PeerError::Unreachable(reason)) if reason.contains("at most")));
    assert!(one.last_heard(2).is_some() && two.last_heard(1).is_some() && one.last_heard(3).is_none());
    one.forget(2);
    assert!(matches!(echo(&one, 2, b"yes").await, Err(PeerError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_calls_do_not_hold_up_others_and_calls_keep_their_order() {
    let (one, _two, seen) = pair().await;
    let slow = tokio::spawn({
        let one = one.clone();
        async move { echo(&one, 2, b"\x1e").await }
    });
    let begun = Instant::now();
    let calls: Vec<Bytes> = (0..1000).map(|number| Bytes::from(format!("number {number}"))).collect();
    let answers = calls.iter().map(|call| one.call(2, ECHO, call.clone(), WITHIN));
    let answers = futures_util::future::join_all(answers).await;
    assert!(answers.iter().zip(&calls).all(|(answer, call)| answer.as_ref() == Ok(call)));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    slow.await.expect("does not panic").expect("is answered");
    let seen = seen.seen.lock().expect("not poisoned");
    let numbers: Vec<&Bytes> = seen.iter().filter(|call| call.starts_with(b"number")).collect();
    assert!(numbers.into_iter().eq(calls.iter()), "they came in the order in which they were made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_is_a_doubt_and_a_dead_node_is_none() {
    let (one, two, _) = pair().await;
    let late = one.call(2, ECHO, Bytes::from_static(b"\x1e"), Duration::from_millis(50)).await;
    assert_eq!(late, Err(PeerError::TimedOut));
    let lost = tokio::spawn({
        let one = one.clone();
        async move { echo(&one, 2, b"\x1f").await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let address = one.address(2).expect("is known");
    two.stop();
    assert!(matches!(lost.await.expect("does not panic"), Err(PeerError::Lost(_))));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(echo(&one, 2, b"yes").await, Err(PeerError::Unreachable(_))));
    // It comes back at the same place.
    let (again, _) = node(2, "c");
    listen(&again, &address).await;
    let begun = Instant::now();
    while echo(&one, 2, b"yes").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(3), "it does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_why_they_are_refused() {
    let (two, _) = node(2, "c");
    let address = listen(&two, "127.0.0.1:0").await;
    let refused = async |id: u64, cluster: &str, to: u64| {
        let (stranger, _) = node(id, cluster);
        stranger.set_incarnation(5);
        stranger.set_address(to, address.clone());
        match echo(&stranger, to, b"yes").await {
            Err(PeerError::Unreachable(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(1, "other", 2).await.contains("cluster \"other\""));
    assert!(refused(1, "c", 3).await.contains("this is node 2"));
    assert!(refused(2, "c", 2).await.contains("node 2"), "it does not call itself");
    two.admit_by(Arc::new(|hello: &Hello| {
        if hello.incarnation < 6 { Err(format!("node {} lost its disk", hello.from)) } else { Ok(()) }
    }));
    assert!(refused(1, "c", 2).await.contains("node 1 lost its disk"));

    let (new, _) = node(0, "c");
    new.set_incarnation(6);
    let answer = new.call_address(&address, ECHO, Bytes::from_static(b"hello"), WITHIN).await;
    assert_eq!(answer, Ok((2, Bytes::from_static(b"hello"))));
    let nobody = new.call_address("127.0.0.1:1", ECHO, Bytes::new(), WITHIN).await;
    assert!(matches!(nobody, Err(PeerError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_closes_the_connection_and_nothing_else() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (one, two, _) = pair().await;
    let address = one.address(2).expect("is known");
    // The last is a frame that is larger than a stranger's may be.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], &[0, 2, 0, 0, 1, 2, 3, 4]] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("listens");
        stream.write_all(garbage).await.expect("is sent");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it waits for more of {garbage:?}");
    }
    assert_eq!(echo(&one, 2, b"yes").await, Ok(Bytes::from_static(b"yes")));
    two.stop();
}
