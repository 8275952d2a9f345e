//! The proxy that a machine's environment asks for, and for which hosts it does.

use std::fmt;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::Address;

/// Which proxy to use for an address, if any. Shows no password.
#[derive(Clone, Default)]
pub struct Proxy {
    matcher: Option<Arc<Matcher>>,
}

/// Why what the environment says of a proxy cannot be used. The value is not shown: it may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It is no URL.
    #[error("the proxy that {variable} names cannot be read (as in http://proxy.example.org:3128)")]
    Unreadable {
        /// Where it is said.
        variable: String,
    },
    /// It is a proxy of another kind.
    #[error("the proxy that {variable} names is of the kind {scheme}, and only http proxies can be used")]
    Unsupported {
        /// Where it is said.
        variable: String,
        /// The kind.
        scheme: String,
    },
}

/// One proxy, for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProxyServer {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`, marked as not to be shown.
    pub(super) authorization: Option<HeaderValue>,
}

impl fmt::Display for ProxyServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Proxy").field(&self.matcher).finish()
    }
}

impl Proxy {
    /// None, ever.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What these variables say, in the order in which curl looks at them: `https_proxy`, `HTTPS_PROXY`, `all_proxy`,
    /// `ALL_PROXY`, and for what not `no_proxy`, `NO_PROXY` (names, of which all below are meant too, IP addresses,
    /// networks as in 10.0.0.0/8, or `*`).
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ProxyError> {
        const PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];
        let set: Vec<_> = variables
            .into_iter()
            .filter(|(name, value)| {
                let name = name.as_str();
                (PROXIES.contains(&name) || EXCEPTIONS.contains(&name)) && !value.trim().is_empty()
            })
            .collect();
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|wanted| set.iter().find(|(name, _)| name == wanted))
        };
        let Some((variable, value)) = first(&PROXIES) else {
            return Ok(Self::none());
        };
        let exceptions = first(&EXCEPTIONS).map_or("", |(_, value)| value.trim());
        Self::new(variable, value.trim(), exceptions)
    }

    fn new(variable: &str, url: &str, exceptions: &str) -> Result<Self, ProxyError> {
        let unreadable = || ProxyError::Unreadable {
            variable: variable.to_owned(),
        };
        let matcher = Matcher::builder().https(url.to_owned());
        let asked = matcher
            .build()
            .intercept(&Uri::from_static("https://haul.invalid"));
        let asked = asked.ok_or_else(unreadable)?;
        match asked.uri().scheme_str() {
            Some("http") => {}
            other => {
                return Err(ProxyError::Unsupported {
                    variable: variable.to_owned(),
                    scheme: other.unwrap_or_default().to_owned(),
                });
            }
        }
        ProxyServer::try_from(&asked).map_err(|()| unreadable())?;
        let matcher = Matcher::builder()
            .https(url.to_owned())
            .no(exceptions.to_owned())
            .build();
        Ok(Self {
            matcher: Some(Arc::new(matcher)),
        })
    }

    /// The proxy for an address.
    pub(super) fn of(&self, address: &Address) -> Option<ProxyServer> {
        let uri: Uri = format!("https://{}", address.authority()).parse().ok()?;
        let intercept = self.matcher.as_ref()?.intercept(&uri)?;
        ProxyServer::try_from(&intercept).ok()
    }
}

impl TryFrom<&Intercept> for ProxyServer {
    type Error = ();

    fn try_from(intercept: &Intercept) -> Result<Self, ()> {
        let host = intercept.uri().host().ok_or(())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(());
        }
        Ok(Self {
            host: host.to_owned(),
            port: intercept.uri().port_u16().unwrap_or(80),
            authorization: intercept.basic_auth().cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Proxy, ProxyError> {
        Proxy::from_variables(
            variables
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned())),
        )
    }

    fn of(proxy: &Proxy, address: &str) -> Option<String> {
        let proxy = proxy.of(&address.parse().unwrap())?;
        Some(proxy.to_string())
    }

    #[test]
    fn variables_have_their_order() {
        let proxy = from(&[
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "lower:2"),
            ("ALL_PROXY", "all:3"),
        ]);
        assert_eq!(of(&proxy.unwrap(), "a:1").as_deref(), Some("lower:2"));
        let proxy = from(&[
            ("https_proxy", " "),
            ("ALL_PROXY", "http://all"),
            ("HTTP_PROXY", "http://no:1"),
        ]);
        assert_eq!(of(&proxy.unwrap(), "https://a/b").as_deref(), Some("all:80"));
        assert_eq!(of(&from(&[("NO_PROXY", "x")]).unwrap(), "a:1"), None);
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        let proxy = from(&[
            ("HTTPS_PROXY", "http://proxy:3128"),
            (
                "NO_PROXY",
                "example.org, .internal,10.0.0.0/8,192.0.2.7,2001:db8::/32",
            ),
        ])
        .unwrap();
        for excepted in [
            "example.org:1",
            "a.example.org:1",
            "a.b.internal:1",
            "10.200.0.1:1",
            "192.0.2.7:1",
            "[2001:db8::5]:1",
        ] {
            assert_eq!(of(&proxy, excepted), None, "{excepted}");
        }
        for other in [
            "badexample.org:1",
            "11.0.0.1:1",
            "192.0.2.70:1",
            "[2001:db9::5]:1",
            "https://example.com/x",
        ] {
            assert_eq!(of(&proxy, other).as_deref(), Some("proxy:3128"), "{other}");
        }
        let all = from(&[("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", "*")]).unwrap();
        assert_eq!(of(&all, "anything:1"), None);
    }

    #[test]
    fn a_password_is_decoded_and_never_shown() {
        let proxy = from(&[("HTTPS_PROXY", "http://me:hunter%322@[::1]:3128")]).unwrap();
        let server = proxy.of(&"a:1".parse().unwrap()).unwrap();
        assert_eq!((server.host.as_str(), server.port), ("::1", 3128));
        // me:hunter22
        assert_eq!(server.authorization.as_ref().unwrap(), "Basic bWU6aHVudGVyMjI=");
        let shown = format!("{proxy:?} {server:?} {server}");
        assert!(!shown.contains("hunter") && !shown.contains("bWU6"), "{shown}");
    }

    #[test]
    fn what_cannot_be_used_says_so_and_shows_nothing() {
        for (value, unsupported) in [
            ("socks5://me:hunter2@a:1", true),
            ("https://me:hunter2@a:1", true),
            ("http://me:hunter2@ a", false),
            ("gopher://me:hunter2@a", false),
        ] {
            let error = from(&[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(
                matches!(error, ProxyError::Unsupported { .. }),
                unsupported,
                "{value}"
            );
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains("HTTPS_PROXY") && !shown.contains("hunter2"),
                "{shown}"
            );
        }
    }
}
