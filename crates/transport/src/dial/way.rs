//! Which ways lead to an address, and which of them a failure leaves open. No I/O.

use std::fmt;

use hyper::StatusCode;

use super::address::Address;
use super::error::{Failure, Step};

/// A way to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// TLS over a TCP connection.
    Direct,
    /// The same, through a proxy's CONNECT.
    Proxied,
    /// A WebSocket to the controller, or to a reverse proxy in front of it, that carries the TLS.
    Tunnel,
    /// The same, through a proxy's CONNECT.
    ProxiedTunnel,
    /// A WebSocket that a proxy passes on which knows no CONNECT, or does not let us use it.
    ForwardedTunnel,
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Direct => "directly",
            Self::Proxied => "through the proxy",
            Self::Tunnel => "by the WebSocket tunnel",
            Self::ProxiedTunnel => "by the WebSocket tunnel through the proxy",
            Self::ForwardedTunnel => "by the WebSocket tunnel that the proxy passes on",
        })
    }
}

/// The ways to an address, the best first.
pub(super) fn ways(address: &Address, proxied: bool) -> &'static [Way] {
    use Way::{Direct, ForwardedTunnel, Proxied, ProxiedTunnel, Tunnel};
    match (&address.front, proxied) {
        (None, false) => &[Direct, Tunnel],
        (None, true) => &[Proxied, ProxiedTunnel, ForwardedTunnel],
        (Some(_), false) => &[Tunnel],
        (Some(front), true) if front.encrypted => &[ProxiedTunnel],
        (Some(_), true) => &[ForwardedTunnel, ProxiedTunnel],
    }
}

impl Way {
    /// Whether this one may lead where another has failed so.
    pub(super) fn is_worth_a_try(self, failed: &Failure) -> bool {
        match failed {
            // All ways to an address begin with the same TCP connection.
            Failure::Resolve { .. }
            | Failure::Connect { .. }
            | Failure::Slow {
                step: Step::Connect, ..
            } => false,
            // It will not let us do anything before it knows who we are.
            Failure::ProxyAuthentication { .. } => false,
            // It does not let us CONNECT. If it let us, and could not get there itself, nothing else helps.
            Failure::ProxyRefused { status, .. } => {
                self == Self::ForwardedTunnel
                    && (status.is_client_error() || *status == StatusCode::NOT_IMPLEMENTED)
            }
            // Somebody in between ends TLS, does not let HTTP/2 pass, cuts or swallows what it does not know.
            Failure::Socket { .. }
            | Failure::Tls { .. }
            | Failure::NotHttp2
            | Failure::Http { .. }
            | Failure::Refused { .. }
            | Failure::Slow { .. }
            | Failure::NoTunnel => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_refused_connect_leaves_open() {
        let refused = |status| Failure::ProxyRefused {
            proxy: "p:1".into(),
            status: StatusCode::from_u16(status).unwrap(),
        };
        for status in [400, 403, 404, 405, 501] {
            assert!(Way::ForwardedTunnel.is_worth_a_try(&refused(status)), "{status}");
            assert!(!Way::ProxiedTunnel.is_worth_a_try(&refused(status)), "{status}");
        }
        for status in [500, 502, 503, 504] {
            assert!(!Way::ForwardedTunnel.is_worth_a_try(&refused(status)), "{status}");
        }
        let unknown = Failure::ProxyAuthentication { proxy: "p:1".into() };
        assert!(!Way::ForwardedTunnel.is_worth_a_try(&unknown));
    }

    #[test]
    fn nobody_there_is_nobody_there_for_the_tunnel_too() {
        let refused = Failure::Connect {
            to: "a:1".into(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        assert!(!Way::Tunnel.is_worth_a_try(&refused));
        let slow = |step| Failure::Slow {
            step,
            after: Duration::from_secs(1),
        };
        assert!(!Way::Tunnel.is_worth_a_try(&slow(Step::Connect)));
        assert!(Way::Tunnel.is_worth_a_try(&slow(Step::Tls)));
        assert!(Way::Tunnel.is_worth_a_try(&Failure::NotHttp2));
    }

    #[test]
    fn the_straight_way_is_first_where_there_is_one() {
        let first = |address: &str, proxied| ways(&address.parse().unwrap(), proxied)[0];
        assert_eq!(first("a:1", false), Way::Direct);
        assert_eq!(first("a:1", true), Way::Proxied);
        assert_eq!(first("https://a", false), Way::Tunnel);
        assert_eq!(first("https://a", true), Way::ProxiedTunnel);
        assert_eq!(first("http://a", true), Way::ForwardedTunnel);
    }
}
