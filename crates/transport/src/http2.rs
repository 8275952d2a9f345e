//! How HTTP/2 is spoken between a client or an agent and a controller: both sides' settings, side by side.

use std::time::Duration;

/// Bytes that may be on their way in one stream before the reader has taken them: with gRPC's 64 KiB, a fast log
/// would wait for window updates more than it flows.
pub const STREAM_WINDOW: u32 = 8 << 20;
/// The same for all streams of one connection together.
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest frame; a log frame of 1 MiB then is one HTTP/2 frame, not 64.
pub const FRAME: u32 = 1 << 20;
/// Calls that one connection may have under way: an agent has its session, its logs, and a few uploads.
pub const MAX_STREAMS: u32 = 64;
/// The longest list of headers, in bytes.
pub const MAX_HEADERS: u32 = 16 << 10;
/// Streams that a peer opened and took back before we came to them; at one more the connection is closed. Nobody
/// honest comes near it.
pub const MAX_PENDING_RESETS: usize = 20;
/// Streams that we had to reset for a peer's mistakes; at one more the connection is closed.
pub const MAX_ERROR_RESETS: usize = 64;

/// A ping goes to a peer that was silent for so long, and one that does not answer within so long is gone. Together
/// they have to stay well within the 15 seconds in which a dead connection is to be noticed.
pub const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// The server's side.
#[cfg(feature = "server")]
#[must_use]
pub fn server<L>(server: tonic::transport::Server<L>) -> tonic::transport::Server<L> {
    server
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
}

/// The client's side, whatever carries it.
#[cfg(feature = "client")]
#[must_use]
pub fn client(endpoint: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
}

/// The client's side over a network, where a connection can die without a word.
#[cfg(feature = "client")]
#[must_use]
pub fn remote_client(endpoint: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    client(endpoint)
        .http2_keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        // An agent's session is silent for hours, and must know when it is cut.
        .keep_alive_while_idle(true)
}
