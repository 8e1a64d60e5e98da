//! The adapter against openraft's suite for runtimes, and its own parts once each.

use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_runtime_tokio::TokioRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type R = TokioRuntime;

#[test]
fn openraft_finds_what_it_needs() {
    openraft_rt::testing::Suite::<R>::test_all();
}

#[test]
fn bytes_travel_and_a_taken_port_is_refused() {
    R::new(2).block_on(async {
        let mut listener = R::bind("127.0.0.1:0".parse().expect("an address")).await.expect("binds");
        let address = R::local_address(&listener).expect("tells");
        assert!(R::bind(address).await.is_err());
        let echo = R::spawn(async move {
            let (mut stream, _) = R::accept(&mut listener).await.expect("accepts");
            let mut byte = [0];
            stream.read_exact(&mut byte).await.expect("reads");
            stream.write_all(&byte).await.expect("writes");
        });
        let mut stream = R::connect(address).await.expect("connects");
        assert!(stream.nodelay().expect("tells"));
        stream.write_all(b"x").await.expect("writes");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("reads");
        assert_eq!(&byte, b"x");
        echo.await.expect("ends");
        // The port is free again although a connection to it was open a moment ago.
        R::bind(address).await.expect("binds again");
    });
}

#[test]
fn clock_randomness_and_disk_answer() {
    R::new(1).block_on(async {
        assert!(R::wall_clock().as_nanos() > 1_700_000_000_000_000_000);
        assert_ne!(R::random(), R::random());
        let caller = std::thread::current().id();
        assert_ne!(R::disk(|| std::thread::current().id()).await, caller);
    });
}

#[test]
#[ignore = "prints the cost of a round trip through the blocking threads"]
fn cost_of_a_disk_round_trip() {
    R::new(2).block_on(async {
        let rounds = 20_000;
        let began = std::time::Instant::now();
        for _ in 0..rounds {
            R::disk(|| ()).await;
        }
        let through_the_trait = began.elapsed() / rounds;
        let (sender, jobs) = std::sync::mpsc::channel::<openraft_rt_tokio::TokioOneshotSender<()>>();
        std::thread::spawn(move || {
            for done in jobs {
                let _ = openraft_rt::OneshotSender::send(done, ());
            }
        });
        let began = std::time::Instant::now();
        for _ in 0..rounds {
            let (done, wait) = <<R as AsyncRuntime>::Oneshot as openraft_rt::Oneshot>::channel();
            sender.send(done).expect("the thread lives");
            wait.await.expect("answers");
        }
        println!("disk(): {through_the_trait:?}; a thread of our own: {:?}", began.elapsed() / rounds);
    });
}
