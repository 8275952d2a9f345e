//! Why no way led to a controller.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use hyper::StatusCode;

use super::{Address, Way};

/// No way led there: what was tried, in its order.
#[derive(Debug)]
pub struct DialError {
    /// Each way that was tried.
    pub tried: Vec<Tried>,
}

/// One way that was tried.
#[derive(Debug)]
pub struct Tried {
    /// Where to.
    pub address: Address,
    /// How.
    pub way: Way,
    /// What went wrong.
    pub failure: Failure,
}

/// What a connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The name's addresses and the TCP connection.
    Connect,
    /// The proxy's answer.
    Proxy,
    /// The TLS that carries a tunnel.
    Carrier,
    /// The tunnel.
    Tunnel,
    /// TLS with the controller.
    Tls,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "the TCP connection",
            Self::Proxy => "the proxy's answer",
            Self::Carrier => "the TLS handshake with the reverse proxy",
            Self::Tunnel => "the answer to the WebSocket request",
            Self::Tls => "the TLS handshake with the controller",
        })
    }
}

/// What went wrong on a way.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The name has no address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot connect to {to}")]
    Connect {
        /// Where to.
        to: String,
        /// Why.
        source: io::Error,
    },
    /// The connection cannot be used.
    #[error("cannot set the connection up")]
    Socket {
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{step} did not come within {} s", after.as_secs())]
    Slow {
        /// What.
        step: Step,
        /// How long it had.
        after: Duration,
    },
    /// The proxy wants a password, or another one.
    #[error(
        "the proxy {proxy} wants to know who we are: put user:password@ before its name in the variable that names it"
    )]
    ProxyAuthentication {
        /// The proxy.
        proxy: String,
    },
    /// The proxy did not connect us.
    #[error("the proxy {proxy} refused: {status}")]
    ProxyRefused {
        /// The proxy.
        proxy: String,
        /// Its answer.
        status: StatusCode,
    },
    /// No TLS came about.
    #[error("{step} failed")]
    Tls {
        /// With whom.
        step: Step,
        /// Why.
        source: io::Error,
    },
    /// There is TLS, but somebody else behind it.
    #[error("what answers does not speak HTTP/2")]
    NotHttp2,
    /// No sensible HTTP/1.1 came back.
    #[error("{step} was not HTTP/1.1")]
    Http {
        /// Whose.
        step: Step,
        /// Why.
        source: hyper::Error,
    },
    /// Something else answered than a controller's tunnel.
    #[error("the WebSocket request was refused: {status}")]
    Refused {
        /// The answer.
        status: StatusCode,
    },
    /// Something agreed to be a tunnel and has not understood what that is.
    #[error("the answer to the WebSocket request is not that of a WebSocket")]
    NoTunnel,
}

impl fmt::Display for DialError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("cannot reach the controller")?;
        for (
            number,
            Tried {
                address,
                way,
                failure,
            },
        ) in self.tried.iter().enumerate()
        {
            let before = if number == 0 { ": " } else { "; " };
            write!(formatter, "{before}{address} {way}: {failure}")?;
            let mut cause = failure.source();
            while let Some(error) = cause {
                write!(formatter, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// The failures are its text: it has several causes, of which none is the one.
impl Error for DialError {}
