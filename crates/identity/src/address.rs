//! Where a controller is reached.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host and a port: `host:7070`, `10.0.0.1:7070`, `[fd00::1]:7070`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address {
    host: Host,
    port: u16,
}

/// A machine on the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// By name, in lower case.
    Name(String),
    /// By address.
    Ip(IpAddr),
}

/// Text that is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an address: write HOST:PORT, as in haul.example.org:7070, 10.0.0.1:7070 or [fd00::1]:7070"
)]
pub struct NotAnAddress(String);

impl Address {
    /// The longest host: four letters less than DNS knows, so that with its port it has at most 255.
    const LONGEST_NAME: usize = 249;

    /// Its host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Host {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        // What ends in a number is an address that was mistyped.
        let numeric_end = text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if text.len() <= Address::LONGEST_NAME && text.split('.').all(label) && !numeric_end {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(NotAnAddress(text.to_owned()))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let bad = || NotAnAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => Host::Ip(IpAddr::V6(inner.parse().map_err(|_| bad())?)),
            // Without brackets nobody can tell where an IPv6 address ends.
            None if host.contains(':') => return Err(bad()),
            None => host.parse().map_err(|_| bad())?,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, NotAnAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed() {
        for good in [
            "haul.example.org:7070",
            "10.0.0.1:1",
            "[fd00::1]:65535",
            "localhost:7070",
            "a_b-c:9",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "host",
            "host:",
            ":7070",
            "host:0",
            "host:70700",
            "fd00::1:7070",
            "[10.0.0.1]:1",
            "a b:1",
            "-a:1",
            "10.0.0.256:1",
            "a..b:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
