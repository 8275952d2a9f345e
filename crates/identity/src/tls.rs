//! TLS as Haul speaks it: version 1.3, with our own authority alone.
//!
//! | side | constructor | proves itself | knows the other by |
//! |---|---|---|---|
//! | controller | [`server_config`] | certificate of its authority, which is shown as well | a node's certificate, if it has one |
//! | agent | [`agent_config`] | certificate of its node | the authorities it was told to trust |
//! | user, joining host | [`client_config`] | not here: by a token, once connected | the same ([`Trust::Bundle`]), or a pin ([`Trust::Pin`]) |
//!
//! Every controller's certificate has the name [`CONTROLLER_NAME`], and clients ask for that one: so it does not matter
//! by which address or through which proxy they come. What the configurations rest on is in [`Current`]s, which are
//! looked into at each handshake: a renewed certificate or a rotated authority needs no restart.
//!
//! Sessions are never resumed, because a resumed session is not verified again.

mod client;
mod server;

use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;

pub use client::{HostIdentity, IdentityError, Trust, agent_config, client_config};
pub use server::{ServerIdentity, server_config};

/// The name in every controller's certificate, which clients ask for.
pub const CONTROLLER_NAME: &str = "haul-controller";
/// HTTP/2, as both sides name it when they agree on a protocol.
const HTTP2: &[u8] = b"h2";
/// HTTP/1.1, for the WebSocket tunnel.
const HTTP1: &[u8] = b"http/1.1";

/// [`CONTROLLER_NAME`] as rustls wants it.
#[must_use]
pub fn controller_name() -> ServerName<'static> {
    ServerName::try_from(CONTROLLER_NAME).expect("the name is a DNS name")
}

/// A value that is replaced now and then, and read whole.
#[derive(Debug)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// Begins with this one.
    pub fn new(value: T) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(value))))
    }

    /// What it is now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on it is this one.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// The cryptography: ring's.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
