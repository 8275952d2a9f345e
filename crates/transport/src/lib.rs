//! How bytes get from a client or an agent to a controller over a network.
//!
//! ```text
//!   Dialer ── TCP, or CONNECT through a proxy ────────────────────── TLS ─┐
//!     └────── WebSocket over whatever passes HTTP/1.1 ── the same TLS ────┴─► Acceptor ─► Connection
//! ```
//!
//! | to … | use |
//! |---|---|
//! | listen | [`Acceptor::start`] on a listener of [`bind`]: a stream of [`Connection`]s that speak HTTP/2 |
//! | dial | [`Dialer::dial`], made from [`Address`]es and a [`Proxy`] |
//! | set HTTP/2 up on both sides alike | [`http2`] |
//!
//! # What it promises
//!
//! * **TLS is between the two ends, always.** The tunnel carries what a TCP connection would carry, so a proxy in
//!   between, even one that terminates TLS of its own, reads nothing and can be nobody.
//! * **A peer costs nothing lasting before it has spoken HTTP/2 over TLS**: each step up to there has its time, all
//!   together have their number, and when that is reached the one that has dawdled longest goes, so that somebody
//!   honest, who takes milliseconds, gets in.
//! * **A connection that is dead is noticed** by either side, by pings within ten seconds ([`http2::PING`]), and the
//!   kernel's own timers behind them.
//!
//! # What it does not do
//!
//! It makes no certificates and trusts nobody: whom to believe is in the TLS configurations that it is given, and what a
//! peer may do is for the controller. It reads no environment variable.

mod accept;
mod bytes;
mod dial;
pub mod http2;
mod socket;
mod tls;
mod tunnel;

pub use accept::{Acceptor, Connection, Limits, Peer};
pub use bytes::{ByteStream, Duplex};
pub use dial::{
    Address, AddressError, DialError, Dialed, Dialer, Failure, Proxy, ProxyError, Step, Tried, Way,
};
pub use socket::bind;
pub use tls::{ClientTlsSource, ServerTlsSource, TlsSource};
