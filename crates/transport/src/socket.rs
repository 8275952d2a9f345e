//! TCP sockets as Haul wants them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel holds for us until they are accepted: a thousand agents that lost the same controller
/// come back in the same second. The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// The kernel asks a silent peer after [`IDLE`](KEEPALIVE_IDLE), so much later again, and gives it up after the third.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_COUNT: u32 = 3;
/// What was sent and has not been acknowledged for so long never will be.
const USER_TIMEOUT_MS: u32 = 12_000;

/// Listens at an address. A port that somebody else has is `AddrInUse`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart is not kept out by what is left of old connections; a living listener still keeps others out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Small writes go at once, and a peer that is gone is noticed also while HTTP/2 has not begun.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}
