//! What the port says to those who speak HTTP/1.1, and for how long it listens to them.

use std::time::Duration;

use haul_transport::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Identity, serve, soon};

/// What comes back for some bytes.
async fn answer(request: &str) -> String {
    let server = serve(&Identity::new(), Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What was refused while it was still being sent may end in a reset.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn whoever_is_lost_is_told_where_they_are() {
    let answer = answer("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.contains("This is a Haul controller"), "{answer}");
}

#[tokio::test]
async fn a_request_for_the_tunnel_that_is_none_is_told_what_is_missing() {
    for spoilt in [
        "connection: close\r\n",
        "upgrade: h2c\r\nconnection: upgrade\r\n",
        "",
    ] {
        let request = format!(
            "GET /haul/v1/tunnel HTTP/1.1\r\nhost: a\r\n{spoilt}sec-websocket-version: 13\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        let answer = answer(&request).await;
        assert!(
            answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
            "{answer}"
        );
        assert!(answer.contains("headers Connection and Upgrade"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_has_a_size() {
    let long = answer(&format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(1 << 20)
    ))
    .await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 431"), "{long}");
    let many = answer(&format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "x: y\r\n".repeat(100)
    ))
    .await;
    assert!(many.is_empty() || many.starts_with("HTTP/1.1 431"), "{many}");
}

#[tokio::test]
async fn whoever_dribbles_is_cut_off() {
    let limits = Limits {
        step_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = serve(&Identity::new(), limits).await;
    for first in ["GET /haul/v1/tunnel HTTP/1.1\r\n", "\u{16}\u{3}\u{1}"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut every = tokio::time::interval(Duration::from_millis(20));
        let dribbled = async {
            // A header that never ends, a byte at a time.
            loop {
                every.tick().await;
                if stream.write_all(b"x").await.is_err() {
                    return;
                }
            }
        };
        let began = tokio::time::Instant::now();
        soon(dribbled).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
