//! Where a controller is.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::Authority;
use rustls::pki_types::ServerName;

/// `host:port` for the controller itself; `https://host[:port][/prefix]` for a reverse proxy in front of it, through
/// which only the tunnel passes (`http://` for one without TLS: what is inside the tunnel is TLS in any case).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    pub(super) front: Option<Front>,
}

/// A reverse proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) encrypted: bool,
    /// Empty, or begins with a slash and does not end with one.
    pub(super) prefix: String,
}

/// Why a text is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address of a controller: {problem} (as in controller.example.org:7878 or https://example.org/haul)"
)]
pub struct AddressError {
    text: String,
    problem: &'static str,
}

impl Address {
    /// The name or IP address, as a resolver takes it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as HTTP takes it.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name in the carrier's greeting; a reverse proxy chooses by it.
    pub(super) fn carrier_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }

    /// What comes before the tunnel's path.
    pub(super) fn prefix(&self) -> &str {
        self.front.as_ref().map_or("", |front| &front.prefix)
    }

    /// Whether a tunnel to it is within TLS of its own.
    pub(super) fn is_carrier_encrypted(&self) -> bool {
        self.front.as_ref().is_none_or(|front| front.encrypted)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |problem| AddressError {
            // A password that does not belong here is not to be shown either.
            text: text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned(),
            problem,
        };
        if text.contains('@') {
            return Err(wrong("it holds a user's name"));
        }
        let plain = |authority: &Authority, default: Option<u16>| {
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            let port = authority.port_u16().or(default).filter(|&port| port != 0);
            if host.is_empty() {
                return Err(wrong("it names no host"));
            }
            Ok((host.to_owned(), port.ok_or_else(|| wrong("it has no port"))?))
        };
        if !text.contains("://") {
            let authority = text.parse().map_err(|_| wrong("it cannot be read"))?;
            let (host, port) = plain(&authority, None)?;
            return Ok(Self {
                host,
                port,
                front: None,
            });
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let (encrypted, default) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(wrong("it begins neither with https:// nor with http://")),
        };
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        let (host, port) = plain(authority, Some(default))?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            host,
            port,
            front: Some(Front { encrypted, prefix }),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority();
        match &self.front {
            None => formatter.write_str(&authority),
            Some(Front { encrypted, prefix }) => {
                let scheme = if *encrypted { "https" } else { "http" };
                write!(formatter, "{scheme}://{authority}{prefix}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("controller:7878", "controller:7878"),
            ("10.1.2.3:1", "10.1.2.3:1"),
            ("[2001:db8::1]:7878", "[2001:db8::1]:7878"),
            ("https://example.org", "https://example.org:443"),
            ("https://example.org/", "https://example.org:443"),
            ("https://example.org:8443/a/b/", "https://example.org:8443/a/b"),
            ("http://[::1]/haul", "http://[::1]:80/haul"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<Address>().unwrap(), address);
        }
        assert_eq!(
            "[2001:db8::1]:7878".parse::<Address>().unwrap().host(),
            "2001:db8::1"
        );
    }

    #[test]
    fn what_is_no_address_says_why_and_no_password() {
        for text in [
            "",
            "controller",
            ":7878",
            "a:b",
            "a:0",
            "a:70000",
            "a b:1",
            "2001:db8::1",
            "ftp://a",
            "https://",
            "https://a?b",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let error = "https://me:hunter2@a/b"
            .parse::<Address>()
            .unwrap_err()
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
