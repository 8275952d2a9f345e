//! A controller that is reached by its Unix socket and over a network at once.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use haul_client::{CallError, Client, Endpoint};
use haul_controller::{ControllerConfig, IdentityConfig, RunError, SharedConfig};
use haul_identity::{Trust, client_config, controller_name};
use haul_transport::{Dialer, Limits, Proxy};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Of this process alone: all of 127/8 is this machine, so that no port has to be guessed to be free.
fn address(last: u8) -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, high, low, last), 7878))
}

fn config(dir: &Path, address: SocketAddr) -> ControllerConfig {
    let state_dir = dir.join("state");
    let addresses = vec![address.to_string().parse().unwrap()];
    ControllerConfig {
        socket: dir.join("socket"),
        shared: Some(SharedConfig {
            identity: IdentityConfig::new(&state_dir, addresses),
            listen: address,
            limits: Limits::default(),
        }),
        state_dir,
        private: None,
        keep_jobs_for: None,
        build: "a build".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_reached_by_its_socket_over_tls_and_through_the_tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let address = address(2);
    let token = haul_controller::init(
        &dir.path().join("state"),
        &[address.to_string().parse().unwrap()],
        SystemTime::now(),
    )
    .unwrap();
    let (say, ready) = oneshot::channel();
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let running = tasks.spawn(haul_controller::run(
        config(dir.path(), address),
        Box::new(move || {
            let _ = say.send(());
        }),
        shutdown.clone(),
    ));
    ready.await.unwrap();
    let remote = |text: String| {
        let tls = Arc::new(client_config(Trust::Pin(token.pin())).unwrap());
        let dialer = Dialer::new(vec![text.parse().unwrap()], tls, controller_name(), Proxy::none());
        Endpoint::Remote(dialer)
    };
    for endpoint in [
        Endpoint::Unix(dir.path().join("socket")),
        remote(address.to_string()),
        remote(format!("http://{address}")),
        remote(format!("https://{address}")),
    ] {
        let client = Client::lazy(endpoint.dial());
        let controller = tokio::time::timeout(Duration::from_secs(20), client.controller()).await;
        match (&endpoint, controller.unwrap()) {
            (Endpoint::Unix(_), Ok(controller)) => assert_eq!(controller.build, "a build"),
            // It is reached, and its answer is that it does not know who asks.
            (Endpoint::Remote(_), Err(CallError::Denied(_))) => {
                let client = client.with_token(&token.secret().reveal()).unwrap();
                assert_eq!(client.controller().await.unwrap().build, "a build");
            }
            (_, other) => panic!("{endpoint:?}: {other:?}"),
        }
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let address = address(3);
    let _taken = TcpListener::bind(address).unwrap();
    let addresses = [address.to_string().parse().unwrap()];
    haul_controller::init(&dir.path().join("state"), &addresses, SystemTime::now()).unwrap();
    let config = config(dir.path(), address);
    let error = haul_controller::run(config, Box::new(|| ()), CancellationToken::new()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, RunError::ListenRemote { .. }), "{error:?}");
    let expected =
        format!("cannot listen on {address}: another program has the port; stop it, or choose another one");
    assert_eq!(error.to_string(), expected);
}
