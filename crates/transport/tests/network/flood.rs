//! Those who come in numbers, and whether somebody honest gets through: small numbers here, `examples/flood.rs` has the
//! full ones.

use std::time::Duration;

use haul_transport::{Limits, Proxy};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{Identity, call, channel, dialer, open_and_take_back, serve, soon};

#[tokio::test]
async fn stalled_handshakes_push_each_other_out_and_nobody_else() {
    const STALLED: usize = 300;
    const ALLOWED: usize = 32;

    let limits = Limits {
        step_timeout: Duration::from_secs(60),
        handshakes_per_address: ALLOWED,
        ..Limits::default()
    };
    let identity = Identity::new();
    let server = serve(&identity, limits).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(TcpStream::connect(server.address).await.unwrap());
    }
    let address = server.address.to_string();
    for _ in 0..20 {
        let began = Instant::now();
        let dialed = soon(dialer(&identity, &[&address], Proxy::none()).dial())
            .await
            .unwrap();
        soon(call(channel(dialed.stream), "/")).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    // All but the last are closed; those are still waited for.
    for stream in &mut stalled[..STALLED - ALLOWED] {
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap_or(0), 0);
    }
    let mut last = stalled.pop().unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), last.read(&mut [0]))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn as_many_connections_as_allowed_and_then_again() {
    let limits = Limits {
        connections_per_address: 2,
        ..Limits::default()
    };
    let identity = Identity::new();
    let server = serve(&identity, limits).await;
    let dialer = dialer(&identity, &[&server.address.to_string()], Proxy::none());
    let mut open = Vec::new();
    for _ in 0..2 {
        let channel = channel(soon(dialer.dial()).await.unwrap().stream);
        soon(call(channel.clone(), "/")).await.unwrap();
        open.push(channel);
    }
    soon(dialer.dial()).await.unwrap_err();
    open.pop();
    // The server learns of it in its own time.
    soon(async {
        while dialer.dial().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_opens_calls_and_takes_them_back_is_cut_off() {
    let identity = Identity::new();
    let server = serve(&identity, Limits::default()).await;
    let address = server.address.to_string();
    let dialed = soon(dialer(&identity, &[&address], Proxy::none()).dial())
        .await
        .unwrap();
    // Bounded, should it not be cut off.
    let flood = server.tasks.spawn(open_and_take_back(dialed.stream, 200_000));
    for _ in 0..10 {
        let began = Instant::now();
        let dialed = soon(dialer(&identity, &[&address], Proxy::none()).dial())
            .await
            .unwrap();
        soon(call(channel(dialed.stream), "/")).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    assert!(
        soon(flood).await.unwrap(),
        "200,000 calls were opened and taken back"
    );
}
