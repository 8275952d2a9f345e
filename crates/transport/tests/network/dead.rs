//! A connection that is dead and does not say so.

use std::time::Duration;

use haul_transport::{Limits, Proxy, Way};
use tokio::time::Instant;

use crate::proxies::{Kind, run};
use crate::support::{Identity, call, channel, dialer, serve, soon};

/// Both sides of a call that waits for ever notice within 15 s that nothing passes any more.
async fn is_noticed(address_of: fn(std::net::SocketAddr) -> String, way: Way) {
    let identity = Identity::new();
    let mut server = serve(&identity, Limits::default()).await;
    let relay = run(Kind::Relay(server.address)).await;
    let dialer = dialer(&identity, &[&address_of(relay.address)], Proxy::none());
    let dialed = soon(dialer.dial()).await.unwrap();
    assert_eq!(dialed.way, way);
    let waiting = call(channel(dialed.stream), "/wait");
    tokio::pin!(waiting);
    tokio::select! {
        outcome = &mut waiting => panic!("answered: {outcome:?}"),
        peer = server.calls.recv() => assert!(peer.is_some()),
    }
    // The sockets stay open and acknowledge all they get: no kernel will ever say a word.
    relay.held.send_replace(true);
    let began = Instant::now();
    let (outcome, cut) = soon(async { tokio::join!(waiting, server.cut.recv()) }).await;
    assert!(outcome.is_err());
    assert_eq!(cut, Some(()));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn is_noticed_by_both_sides() {
    is_noticed(|address| address.to_string(), Way::Direct).await;
}

#[tokio::test]
async fn is_noticed_by_both_sides_in_the_tunnel_too() {
    is_noticed(|address| format!("http://{address}"), Way::Tunnel).await;
}
