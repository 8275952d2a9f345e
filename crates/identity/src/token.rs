//! Tokens: one word that says where the controller is, how to know it, and who asks.
//!
//! ```text
//!   haul1.<base64url of>
//!     role       1 byte       the number of a Role
//!     pin        32 bytes     SHA-256 of the authority's public key
//!     secret     32 bytes     random; the controller keeps a hash of it only
//!     addresses  1 byte       how many, and then of each
//!                1 byte + n   its length and its text, HOST:PORT
//!     checksum   4 bytes      the head of the SHA-256 of all before
//! ```
//!
//! The checksum tells a token that was cut off or mistyped from one that the controller does not know. Everything in a
//! token but its secret is for whoever holds it; what it is good for is decided by the controller's own record.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use haul_types::{Digest, Role, TokenId};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::address::Address;
use crate::pin::Pin;

/// What every token of this form begins with.
const PREFIX: &str = "haul1.";
/// Bytes of the checksum.
const CHECKSUM: usize = 4;
/// Longer text is no token: 255 addresses of 255 letters would be less.
const LONGEST: usize = 96 << 10;

/// A token as it is handed to a person or a machine. Printed by [`Token::reveal`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    role: Role,
    addresses: Vec<Address>,
    pin: Pin,
    secret: Secret,
}

/// The part of a token that proves who asks: 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; Self::BYTES]);

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("the system's source of randomness failed")]
pub struct NoRandomness;

/// Text that is no token.
#[derive(Debug, thiserror::Error)]
pub enum NotAToken {
    /// It is something else.
    #[error("this is not a token: a token is one word that begins with {PREFIX}")]
    Foreign,
    /// It is of a form that this version does not know.
    #[error("this token is of a newer form than this version of Haul knows: upgrade Haul on this machine")]
    Newer,
    /// Its checksum does not fit.
    #[error("this token is damaged: it was cut off or mistyped on its way; copy it again, as one word")]
    Damaged,
}

impl Secret {
    /// Its length.
    pub const BYTES: usize = 32;

    /// A new one.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; Self::BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// What is stored of it. Two secrets have two hashes, and none is found from its hash.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(&[b"haul token secret\0".as_slice(), &self.0].concat())
    }

    /// What lists show of it.
    #[must_use]
    pub fn id(&self) -> TokenId {
        TokenId::of_hash(&self.hash())
    }

    /// The secret as text, to be sent over a connection that has proved where it leads: base64url.
    #[must_use]
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl FromStr for Secret {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAToken::Foreign)?;
        bytes.try_into().map(Self).map_err(|_| NotAToken::Foreign)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Token {
    /// A token of a new secret. At most 255 addresses are carried.
    pub fn new(role: Role, mut addresses: Vec<Address>, pin: Pin) -> Result<Self, NoRandomness> {
        addresses.truncate(u8::MAX.into());
        Ok(Self {
            role,
            addresses,
            pin,
            secret: Secret::random()?,
        })
    }

    /// What it is for, as its maker said; the controller's record decides.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Where the controller is, best first.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// How to know the controller.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What proves who asks.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The token as text.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = vec![self.role as u8];
        bytes.extend(self.pin.as_bytes());
        bytes.extend(self.secret.0);
        bytes.push(u8::try_from(self.addresses.len()).expect("a token has at most 255 addresses"));
        for address in &self.addresses {
            let text = address.to_string();
            bytes.push(u8::try_from(text.len()).expect("an address has at most 255 letters"));
            bytes.extend(text.as_bytes());
        }
        bytes.extend(checksum(&bytes));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut head = [0; CHECKSUM];
    head.copy_from_slice(&digest.as_ref()[..CHECKSUM]);
    head
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let newer = text
                .strip_prefix("haul")
                .and_then(|rest| rest.split_once('.'))
                .is_some_and(|(version, _)| version.parse::<u32>().is_ok_and(|version| version > 1));
            return Err(if newer {
                NotAToken::Newer
            } else {
                NotAToken::Foreign
            });
        };
        if body.len() > LONGEST {
            return Err(NotAToken::Foreign);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| NotAToken::Damaged)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(NotAToken::Damaged)?;
        if checksum(content) != *sum {
            return Err(NotAToken::Damaged);
        }
        read(content).ok_or(NotAToken::Newer)
    }
}

/// The token of bytes whose checksum fits. What does not make sense then was written by a version that knows more.
fn read(bytes: &[u8]) -> Option<Token> {
    let (&role, rest) = bytes.split_first()?;
    let (pin, rest) = rest.split_first_chunk::<{ Pin::BYTES }>()?;
    let (secret, rest) = rest.split_first_chunk::<{ Secret::BYTES }>()?;
    let (&count, mut rest) = rest.split_first()?;
    let mut addresses = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (&length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(length.into())?;
        addresses.push(std::str::from_utf8(text).ok()?.parse().ok()?);
        rest = after;
    }
    rest.is_empty().then_some(Token {
        role: Role::from_number(role)?,
        addresses,
        pin: Pin::from_bytes(*pin),
        secret: Secret(*secret),
    })
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("role", &self.role)
            .field("addresses", &self.addresses)
            .field("pin", &self.pin)
            .field("id", &self.secret.id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
