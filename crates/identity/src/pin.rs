//! Pins: an authority known by its public key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The SHA-256 of an authority's public key (its SubjectPublicKeyInfo), printed as base64url. Whoever holds it can
/// tell the authority from every other, without having seen its certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; Self::BYTES]);

/// Text or bytes that are no pin.
#[derive(Debug, thiserror::Error)]
#[error("not a pin: expected {} letters of base64url", Pin::LETTERS)]
pub struct NotAPin;

impl Pin {
    /// Its length.
    pub const BYTES: usize = 32;
    /// Its length as text.
    pub const LETTERS: usize = 43;

    /// The pin of the public key of a certificate in DER; none if it is no certificate.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
        digest.as_ref().try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The pin of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAPin)?;
        bytes.try_into().map(Self).map_err(|_| NotAPin)
    }
}
