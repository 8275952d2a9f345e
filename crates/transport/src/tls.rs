//! TLS configurations: where they come from, and the protocols that this crate adds to them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ClientConfig, ServerConfig};

/// HTTP/2, as ALPN names it.
pub(crate) const H2: &[u8] = b"h2";
/// HTTP/1.1, over which only the tunnel is spoken.
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// Gives the TLS configuration to use for the next connection: one for ever, or whatever a function says now, so that
/// certificates are renewed without a restart.
pub struct TlsSource<C>(Arc<dyn Fn() -> Arc<C> + Send + Sync>);

/// The listener's.
pub type ServerTlsSource = TlsSource<ServerConfig>;
/// The dialler's.
pub type ClientTlsSource = TlsSource<ClientConfig>;

impl<C> TlsSource<C> {
    /// What the function gives, asked for each connection; it should be quick, and give the same `Arc` while nothing
    /// has changed.
    pub fn new(current: impl Fn() -> Arc<C> + Send + Sync + 'static) -> Self {
        Self(Arc::new(current))
    }

    fn current(&self) -> Arc<C> {
        (self.0)()
    }
}

impl<C: Send + Sync + 'static> From<Arc<C>> for TlsSource<C> {
    fn from(config: Arc<C>) -> Self {
        Self::new(move || Arc::clone(&config))
    }
}

impl<C> Clone for TlsSource<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for TlsSource<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TlsSource")
    }
}

/// A source's configurations with protocols set. What was made of the last one is kept while the source gives the same.
struct Derived<C, D> {
    source: TlsSource<C>,
    derive: fn(&C) -> D,
    last: Mutex<Option<(Arc<C>, D)>>,
}

impl<C, D: Clone> Derived<C, D> {
    fn get(&self) -> D {
        let current = self.source.current();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((made_of, made)) if Arc::ptr_eq(made_of, &current) => made.clone(),
            _ => {
                let made = (self.derive)(&current);
                *last = Some((current, made.clone()));
                made
            }
        }
    }
}

/// What a listener needs: `outer` for a new TCP connection, `inner` for what comes through the tunnel.
#[derive(Clone)]
pub(crate) struct ServerConfigs {
    pub(crate) outer: Arc<ServerConfig>,
    pub(crate) inner: Arc<ServerConfig>,
}

/// Makes [`ServerConfigs`].
pub(crate) struct ServerTls(Derived<ServerConfig, ServerConfigs>);

impl ServerTls {
    pub(crate) fn new(source: TlsSource<ServerConfig>) -> Self {
        let derive = |config: &ServerConfig| ServerConfigs {
            outer: with_protocols(config, &[H2, HTTP1]),
            inner: with_protocols(config, &[H2]),
        };
        Self(Derived {
            source,
            derive,
            last: Mutex::default(),
        })
    }

    pub(crate) fn get(&self) -> ServerConfigs {
        self.0.get()
    }
}

fn with_protocols(config: &ServerConfig, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A dialler's configurations, for HTTP/2.
pub(crate) struct ClientTls(Derived<ClientConfig, Arc<ClientConfig>>);

impl ClientTls {
    pub(crate) fn new(source: TlsSource<ClientConfig>) -> Self {
        let derive = |config: &ClientConfig| {
            let mut config = config.clone();
            config.alpn_protocols = vec![H2.to_vec()];
            Arc::new(config)
        };
        Self(Derived {
            source,
            derive,
            last: Mutex::default(),
        })
    }

    pub(crate) fn get(&self) -> Arc<ClientConfig> {
        self.0.get()
    }
}
