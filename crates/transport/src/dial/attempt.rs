//! Going one way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::address::Address;
use super::error::{Failure, Step};
use super::proxy::ProxyServer;
use super::race::race;
use super::{Dialer, Way, http};
use crate::bytes::{ByteStream, Duplex};
use crate::socket;
use crate::tls::H2;
use crate::tunnel::Tunnel;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(5);
/// How long one of a name's addresses has before the next is tried too (RFC 8305 has the same).
const START: Duration = Duration::from_millis(250);

async fn in_time<T>(step: Step, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(STEP, work)
        .await
        .map_err(|_| Failure::Slow { step, after: STEP })?
}

impl Dialer {
    /// Goes one way to one address: up to TLS with the controller.
    pub(super) async fn attempt(&self, address: &Address, way: Way) -> Result<ByteStream, Failure> {
        let proxy = self.shared.proxy.of(address);
        match (way, &proxy) {
            (Way::Proxied, Some(proxy)) => {
                let stream = through(proxy, address).await?;
                self.controller(stream).boxed().await
            }
            (Way::ProxiedTunnel, Some(proxy)) => {
                let stream = through(proxy, address).await?;
                self.tunnel(stream, address).boxed().await
            }
            (Way::ForwardedTunnel, Some(proxy)) => {
                let stream = tcp(&proxy.host, proxy.port).await?;
                let upgraded = in_time(Step::Tunnel, http::websocket(stream, address, Some(proxy))).await?;
                self.controller(Tunnel::over(upgraded, Role::Client).await).await
            }
            (Way::Tunnel | Way::ProxiedTunnel | Way::ForwardedTunnel, _) => {
                let stream = tcp(address.host(), address.port()).await?;
                self.tunnel(stream, address).await
            }
            (Way::Direct | Way::Proxied, _) => {
                let stream = tcp(address.host(), address.port()).await?;
                self.controller(stream).await
            }
        }
    }

    /// A tunnel over a connection to the controller or to a reverse proxy, and in it TLS with the controller.
    async fn tunnel(&self, stream: impl Duplex + 'static, address: &Address) -> Result<ByteStream, Failure> {
        let upgraded = if let Some(name) = address.carrier_name()
            && address.is_carrier_encrypted()
        {
            let carrier = Arc::clone(&self.shared.carrier);
            let carried = tls(Step::Carrier, carrier, name, stream).await?;
            in_time(Step::Tunnel, http::websocket(carried, address, None)).await?
        } else {
            in_time(Step::Tunnel, http::websocket(stream, address, None)).await?
        };
        self.controller(Tunnel::over(upgraded, Role::Client).await).await
    }

    /// TLS with the controller.
    async fn controller(&self, stream: impl Duplex + 'static) -> Result<ByteStream, Failure> {
        let name = self.shared.server_name.clone();
        let stream = tls(Step::Tls, self.shared.tls.get(), name, stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            Ok(Box::new(stream))
        } else {
            Err(Failure::NotHttp2)
        }
    }
}

async fn tls<S: Duplex>(
    step: Step,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: S,
) -> Result<TlsStream<S>, Failure> {
    let handshake = TlsConnector::from(config).connect(name, stream);
    in_time(step, async {
        handshake.await.map_err(|source| Failure::Tls { step, source })
    })
    .await
}

/// A connection that a proxy made for us.
async fn through(proxy: &ProxyServer, address: &Address) -> Result<ByteStream, Failure> {
    let stream = tcp(&proxy.host, proxy.port).await?;
    in_time(Step::Proxy, http::connect(stream, address, proxy)).await
}

/// A TCP connection to the first of a host's addresses that answers.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    in_time(Step::Connect, async {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|source| Failure::Resolve {
            host: host.to_owned(),
            source,
        })?;
        let attempts: Vec<_> = alternating(found.collect())
            .into_iter()
            .map(|address| TcpStream::connect(address).boxed())
            .collect();
        let stream = race(attempts, START).await;
        let stream = stream.map_err(|mut errors| Failure::Connect {
            to: format!("{host}:{port}"),
            source: errors
                .pop()
                .unwrap_or_else(|| std::io::Error::other("the name has no address")),
        })?;
        socket::tune(&stream).map_err(|source| Failure::Socket { source })?;
        Ok(stream)
    })
    .await
}

/// IPv6 and IPv4 in turns, as the resolver prefers: when one of them leads nowhere, the other is the next.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else {
        return addresses;
    };
    let (preferred, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_addresses_take_turns() {
        let [a, b, c, d] = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(|text| text.parse().unwrap());
        assert_eq!(alternating(vec![a, b, c, d]), [a, d, b, c]);
        assert_eq!(alternating(vec![d]), [d]);
        assert_eq!(alternating(vec![]), []);
    }
}
