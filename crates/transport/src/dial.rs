//! Dialling: straight if that works, by whatever else gets through if not.
//!
//! - [`address`]: where a controller is. [`proxy`]: what stands in front of it.
//! - [`way`]: which ways there are, and after which failure another is worth a try; no I/O.
//! - [`attempt`]: going one way. [`http`]: HTTP/1.1 up to the point where it is given up for bytes.
//! - [`carrier`]: the TLS around a tunnel, which is asked nothing.
//! - [`race`]: several at once, the earlier ones with a start.

mod address;
mod attempt;
mod carrier;
mod error;
mod http;
mod proxy;
mod race;
mod way;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;

pub use self::address::{Address, AddressError};
pub use self::error::{DialError, Failure, Step, Tried};
pub use self::proxy::{Proxy, ProxyError};
pub use self::way::Way;
use crate::bytes::ByteStream;
use crate::tls::{ClientTls, TlsSource};

/// How long an address has before the next one is tried too.
const START: Duration = Duration::from_millis(300);
/// How long a way that is not the first choice is kept to. Whatever stood in the first one's way may have gone.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// Opens connections to one controller.
///
/// Cheap to clone; what worked is remembered for all clones.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

struct Shared {
    addresses: Vec<Address>,
    tls: ClientTls,
    server_name: ServerName<'static>,
    proxy: Proxy,
    carrier: Arc<ClientConfig>,
    worked: Mutex<Option<Worked>>,
}

/// The way that worked last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Worked {
    address: usize,
    way: Way,
    since: Instant,
}

/// An open connection.
pub struct Dialed {
    /// Its bytes: HTTP/2, inside TLS with the controller.
    pub stream: ByteStream,
    /// Where it goes.
    pub address: Address,
    /// How it gets there.
    pub way: Way,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Dialed")
            .field("address", &self.address)
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Dialer")
            .field("addresses", &self.shared.addresses)
            .field("server_name", &self.shared.server_name)
            .field("proxy", &self.shared.proxy)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    /// Dials the first of `addresses` that answers, in their order. `tls` says whom to believe to be the controller and
    /// what to show it, and `server_name` what name it has to prove; neither depends on the way.
    #[must_use]
    pub fn new(
        addresses: Vec<Address>,
        tls: impl Into<TlsSource<ClientConfig>>,
        server_name: ServerName<'static>,
        proxy: Proxy,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                addresses,
                tls: ClientTls::new(tls.into()),
                server_name,
                proxy,
                carrier: carrier::config(),
                worked: Mutex::default(),
            }),
        }
    }

    /// Where it dials.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.shared.addresses
    }

    /// Opens a connection: what worked last first, then all addresses, each by all its ways.
    pub async fn dial(&self) -> Result<Dialed, DialError> {
        let mut tried = Vec::new();
        let mut failed = None;
        if let Some(Worked { address, way, .. }) = self.remembered() {
            match self.go(address, way).await {
                // Since when is not renewed: the first choice has its turn again.
                Ok(dialed) => return Ok(dialed),
                Err(one) => {
                    tried.push(one);
                    failed = Some((address, way));
                }
            }
        }
        let all: Vec<_> = (0..self.shared.addresses.len())
            .map(|address| self.dial_address(address, failed).boxed())
            .collect();
        match race::race(all, START).await {
            Ok((dialed, worked)) => {
                self.remember(worked);
                Ok(dialed)
            }
            Err(failures) => {
                self.forget();
                tried.extend(failures.into_iter().flatten());
                Err(DialError { tried })
            }
        }
    }

    /// Tries the ways to one address, one after the other, but for one that has just failed.
    async fn dial_address(
        &self,
        address: usize,
        failed: Option<(usize, Way)>,
    ) -> Result<(Dialed, Worked), Vec<Tried>> {
        let to = &self.shared.addresses[address];
        let mut tried: Vec<Tried> = Vec::new();
        for &way in way::ways(to, self.shared.proxy.of(to).is_some()) {
            if failed == Some((address, way)) || !tried.iter().all(|one| way.is_worth_a_try(&one.failure)) {
                continue;
            }
            match self.go(address, way).await {
                Ok(dialed) => {
                    if !tried.is_empty() {
                        tracing::info!(address = %to, %way, "reached the controller, though not by the first way");
                    }
                    let since = Instant::now();
                    return Ok((dialed, Worked { address, way, since }));
                }
                Err(one) => tried.push(one),
            }
        }
        Err(tried)
    }

    async fn go(&self, address: usize, way: Way) -> Result<Dialed, Tried> {
        let address = &self.shared.addresses[address];
        match self.attempt(address, way).await {
            Ok(stream) => Ok(Dialed {
                stream,
                address: address.clone(),
                way,
            }),
            Err(failure) => {
                tracing::debug!(%address, %way, %failure, "did not get through");
                Err(Tried {
                    address: address.clone(),
                    way,
                    failure,
                })
            }
        }
    }

    /// What worked last, unless the first choice is to be tried again.
    fn remembered(&self) -> Option<Worked> {
        let worked = self.worked().clone()?;
        let address = &self.shared.addresses[worked.address];
        let first = way::ways(address, self.shared.proxy.of(address).is_some()).first();
        let is_first_choice = worked.address == 0 && first == Some(&worked.way);
        (is_first_choice || worked.since.elapsed() < KEPT).then_some(worked)
    }

    fn remember(&self, worked: Worked) {
        *self.worked() = Some(worked);
    }

    fn forget(&self) {
        *self.worked() = None;
    }

    fn worked(&self) -> std::sync::MutexGuard<'_, Option<Worked>> {
        self.shared.worked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
