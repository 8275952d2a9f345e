//! Which way is taken, without being told.

use std::time::Duration;

use haul_transport::{Dialer, Failure, Limits, Proxy, TlsSource, Way};
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use crate::proxies::{Kind, Running, run};
use crate::support::{Identity, NAME, Server, anonymous, call, channel, dialer, serve, soon};

/// What the client's side of a request would hold, were it to be read.
const MARK: &str = "/a-path-that-nobody-else-may-read";

async fn server() -> (Identity, Server) {
    let identity = Identity::new();
    let server = serve(&identity, Limits::default()).await;
    (identity, server)
}

fn proxied(proxy: &Running, user: &str) -> Proxy {
    let url = format!("http://{user}{}", proxy.address);
    Proxy::from_variables([("HTTPS_PROXY".to_owned(), url)]).unwrap()
}

/// Dials, calls, and says by which way; the server has to have seen the client's certificate.
async fn arrives(identity: &Identity, server: &mut Server, addresses: &[&str], proxy: Proxy) -> Way {
    let (config, certificate) = identity.client();
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let dialer = Dialer::new(addresses, config, ServerName::try_from(NAME).unwrap(), proxy);
    let dialed = soon(dialer.dial()).await.unwrap();
    soon(call(channel(dialed.stream), MARK)).await.unwrap();
    let peer = server.calls.recv().await.unwrap();
    assert_eq!(*peer.certificates, [certificate]);
    let through_tunnel = !matches!(dialed.way, Way::Direct | Way::Proxied);
    assert_eq!(peer.tunneled, through_tunnel);
    assert!(peer.address.ip().is_loopback());
    dialed.way
}

#[tokio::test]
async fn straight_if_nothing_is_in_the_way() {
    let (identity, mut server) = server().await;
    let address = server.address.to_string();
    let way = arrives(&identity, &mut server, &[&address], Proxy::none()).await;
    assert_eq!(way, Way::Direct);
}

#[tokio::test]
async fn through_a_proxy_that_knows_connect() {
    let (identity, mut server) = server().await;
    let proxy = run(Kind::Connect { authorization: None }).await;
    let address = server.address.to_string();
    let way = arrives(&identity, &mut server, &[&address], proxied(&proxy, "")).await;
    assert_eq!(way, Way::Proxied);
    assert!(proxy.saw("CONNECT 127.0.0.1:") && !proxy.saw(MARK));
}

#[tokio::test]
async fn a_proxy_is_given_its_password_and_nobody_else() {
    let (identity, mut server) = server().await;
    // me:hunter2
    let authorization = Some("Basic bWU6aHVudGVyMg==");
    let proxy = run(Kind::Connect { authorization }).await;
    let address = server.address.to_string();
    let way = arrives(
        &identity,
        &mut server,
        &[&address],
        proxied(&proxy, "me:hunter2@"),
    )
    .await;
    assert_eq!(way, Way::Proxied);

    let refused = dialer(&identity, &[&address], proxied(&proxy, "me:hunter3@"));
    let error = soon(refused.dial()).await.unwrap_err();
    assert_eq!(error.tried.len(), 1, "{error}");
    assert!(matches!(
        error.tried[0].failure,
        Failure::ProxyAuthentication { .. }
    ));
    let shown = format!("{error} {error:?} {refused:?}");
    assert!(!shown.contains("hunter") && !shown.contains("bWU6"), "{shown}");
}

#[tokio::test]
async fn by_the_tunnel_through_a_proxy_that_refuses_connect() {
    let (identity, mut server) = server().await;
    for status in ["403 Forbidden", "405 Method Not Allowed", "501 Not Implemented"] {
        let proxy = run(Kind::Forward { status }).await;
        let address = server.address.to_string();
        let way = arrives(&identity, &mut server, &[&address], proxied(&proxy, "")).await;
        assert_eq!(way, Way::ForwardedTunnel);
        assert!(proxy.saw("GET http://127.0.0.1:") && !proxy.saw(MARK));
    }
}

#[tokio::test]
async fn by_the_tunnel_through_a_reverse_proxy_that_ends_tls_and_reads_nothing() {
    let (identity, mut server) = server().await;
    // Of another CA: nobody of ours has reason to believe it.
    let tls = Identity::new().server();
    let proxy = run(Kind::Reverse {
        to: server.address,
        tls,
    })
    .await;
    for address in [
        // Believed to be the controller itself, until it turns out not to be.
        proxy.address.to_string(),
        format!("https://{}", proxy.address),
        format!("https://localhost:{}/some/prefix", proxy.address.port()),
    ] {
        let way = arrives(&identity, &mut server, &[&address], Proxy::none()).await;
        assert_eq!(way, Way::Tunnel, "{address}");
    }
    assert!(proxy.saw("GET /haul/v1/tunnel") && proxy.saw("GET /some/prefix/haul/v1/tunnel"));
    assert!(!proxy.saw(MARK));
}

#[tokio::test]
async fn by_the_tunnel_to_a_reverse_proxy_behind_a_proxy() {
    let (identity, mut server) = server().await;
    let tls = Identity::new().server();
    let reverse = run(Kind::Reverse {
        to: server.address,
        tls,
    })
    .await;
    let proxy = run(Kind::Connect { authorization: None }).await;
    let address = format!("https://{}", reverse.address);
    let way = arrives(&identity, &mut server, &[&address], proxied(&proxy, "")).await;
    assert_eq!(way, Way::ProxiedTunnel);
}

#[tokio::test]
async fn the_controllers_own_port_has_the_tunnel_too() {
    let (identity, mut server) = server().await;
    for scheme in ["https", "http"] {
        let address = format!("{scheme}://{}", server.address);
        let way = arrives(&identity, &mut server, &[&address], Proxy::none()).await;
        assert_eq!(way, Way::Tunnel);
    }
}

#[tokio::test]
async fn a_megabyte_passes_the_tunnel_both_ways() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let identity = Identity::new();
    let listener = haul_transport::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let tasks = tokio_util::task::TaskTracker::new();
    let mut acceptor =
        haul_transport::Acceptor::start(listener, identity.server(), Limits::default(), &tasks);
    tasks.spawn(async move {
        let connection = futures::StreamExt::next(&mut acceptor).await.unwrap().unwrap();
        let (mut reads, mut writes) = tokio::io::split(connection);
        tokio::io::copy(&mut reads, &mut writes).await.unwrap();
        writes.shutdown().await.unwrap();
    });
    let stream = soon(dialer(&identity, &[&address], Proxy::none()).dial())
        .await
        .unwrap()
        .stream;
    let (mut reads, mut writes) = tokio::io::split(stream);
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend((0..1u32 << 20).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8));
    let mut received = Vec::new();
    let write = async {
        writes.write_all(&sent).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let (_, read) = soon(async { tokio::join!(write, reads.read_to_end(&mut received)) }).await;
    read.unwrap();
    assert!(sent == received);
}

#[tokio::test]
async fn what_worked_is_tried_first() {
    let (identity, server) = server().await;
    let tls = Identity::new().server();
    let proxy = run(Kind::Reverse {
        to: server.address,
        tls,
    })
    .await;
    let dialer = dialer(&identity, &[&proxy.address.to_string()], Proxy::none());
    soon(dialer.dial()).await.unwrap();
    assert_eq!(proxy.connections(), 2);
    soon(dialer.dial()).await.unwrap();
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn one_address_that_is_dead_or_silent_does_not_keep_from_the_next() {
    let (identity, mut server) = server().await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead_address = dead.local_addr().unwrap().to_string();
    drop(dead);
    // The kernel takes the connection, and nobody ever answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let address = server.address.to_string();
    let began = Instant::now();
    let all = [dead_address.as_str(), &silent_address, &address];
    assert_eq!(
        arrives(&identity, &mut server, &all, Proxy::none()).await,
        Way::Direct
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_error_tells_of_each_way() {
    let identity = Identity::new();
    let other = serve(&Identity::new(), Limits::default()).await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead_address = dead.local_addr().unwrap();
    drop(dead);
    let addresses = [dead_address.to_string(), other.address.to_string()];
    let addresses = addresses.each_ref().map(String::as_str);
    let error = soon(dialer(&identity, &addresses, Proxy::none()).dial())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("{dead_address} directly: cannot connect")),
        "{text}"
    );
    // A controller of somebody else is believed neither directly nor through its tunnel.
    assert!(
        text.contains(&format!("{} directly: the TLS handshake", other.address)),
        "{text}"
    );
    assert!(
        text.contains("by the WebSocket tunnel: the TLS handshake with the controller failed"),
        "{text}"
    );
    assert!(text.contains("invalid peer certificate"), "{text}");
}

#[tokio::test]
async fn a_certificate_is_exchanged_without_a_restart() {
    let (old, new) = (Identity::new(), Identity::new());
    let listener = haul_transport::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let current = std::sync::Arc::new(std::sync::Mutex::new(old.server()));
    let reading = std::sync::Arc::clone(&current);
    let source = TlsSource::new(move || std::sync::Arc::clone(&reading.lock().unwrap()));
    let tasks = tokio_util::task::TaskTracker::new();
    let _acceptor = haul_transport::Acceptor::start(listener, source, Limits::default(), &tasks);
    soon(dialer(&old, &[&address], Proxy::none()).dial())
        .await
        .unwrap();
    *current.lock().unwrap() = new.server();
    soon(dialer(&new, &[&address], Proxy::none()).dial())
        .await
        .unwrap();
    soon(dialer(&old, &[&address], Proxy::none()).dial())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_port_that_is_taken_is_taken() {
    let (_, server) = server().await;
    let error = haul_transport::bind(server.address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_seen_to_have_none() {
    let (identity, mut server) = server().await;
    let config = anonymous(identity.root().clone());
    let addresses = vec![server.address.to_string().parse().unwrap()];
    let dialer = Dialer::new(
        addresses,
        config,
        ServerName::try_from(NAME).unwrap(),
        Proxy::none(),
    );
    let dialed = soon(dialer.dial()).await.unwrap();
    soon(call(channel(dialed.stream), "/")).await.unwrap();
    assert!(server.calls.recv().await.unwrap().certificates.is_empty());
}
