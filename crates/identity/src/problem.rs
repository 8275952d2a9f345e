//! Failed handshakes, in words with advice.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use crate::certificate::{Validity, date};
use crate::pin::Pin;

/// The controller shows another authority than the one that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "whoever answers there is not the controller that this token is for: the token names the authority {expected}, and \
     the answer came from {}", found.map_or_else(|| "one that shows none".to_owned(), |pin| pin.to_string())
)]
pub struct WrongPin {
    /// The token's.
    pub expected: Pin,
    /// The first that the other side shows.
    pub found: Option<Pin>,
}

/// Why no connection was made, as far as identity is the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// By our clock, the controller's certificate is over.
    #[error(
        "the controller's certificate expired at {}, and the clock of this machine says {}: if this clock is wrong, set \
         it; if it is right, the controller's is wrong", date(*not_after), date(*now)
    )]
    ControllerExpired {
        /// When it was over.
        not_after: SystemTime,
        /// Our clock.
        now: SystemTime,
    },
    /// By our clock, the controller's certificate does not hold yet.
    #[error(
        "the controller's certificate holds from {} on, and the clock of this machine says {}: if this clock is wrong, \
         set it; if it is right, the controller's is wrong", date(*not_before), date(*now)
    )]
    ControllerNotYetValid {
        /// When it begins.
        not_before: SystemTime,
        /// Our clock.
        now: SystemTime,
    },
    /// Not the controller that the token names.
    #[error(
        "{0}. Check the address; if the controller's authority was rotated or made anew since, ask for a new token"
    )]
    WrongPin(WrongPin),
    /// An authority that we were not told to trust.
    #[error(
        "whoever answers there has a certificate of an authority that is not trusted here: it is another controller, or \
         one whose authority was replaced while this machine was away; join or log in again with a new token"
    )]
    UnknownAuthority,
    /// It has a certificate of ours, but not a controller's.
    #[error("whoever answers there does not prove to be a controller of Haul: check the address")]
    NotAController,
    /// The controller says that our certificate does not hold at this time.
    #[error(
        "the controller says that this node's certificate is not good at this time{}: if a clock is wrong, set it; else \
         join again, with `haul-agent join` and a new token",
        own.map(|(validity, now)| {
            format!(" (it is good {validity}, and the clock of this machine says {})", date(now))
        }).unwrap_or_default()
    )]
    RefusedAsExpired {
        /// What our certificate says, and our clock.
        own: Option<(Validity, SystemTime)>,
    },
    /// The controller does not know our certificate's authority.
    #[error(
        "the controller does not know the authority of this node's certificate: it is another controller, or one whose \
         authority was replaced while this machine was away; join again, with `haul-agent join` and a new token"
    )]
    RefusedAsForeign,
    /// What answers does not speak TLS.
    #[error("whoever answers there does not speak TLS: check the address and the port")]
    NotTls,
}

impl TlsProblem {
    /// What an error of a connection means, if TLS is at its bottom. `own` is what our own certificate says, if we
    /// showed one.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static), own: Option<Validity>, now: SystemTime) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(tls, own, now);
            }
            // An I/O error's source is the source of what it wraps, which would skip just what is looked for.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match wrapped {
                Some(inner) => Some(inner as &(dyn Error + 'static)),
                None => error.source(),
            };
        }
        None
    }

    fn of_tls(error: &rustls::Error, own: Option<Validity>, now: SystemTime) -> Option<Self> {
        Some(match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::ExpiredContext { time, not_after } => Self::ControllerExpired {
                    not_after: system_time(*not_after),
                    now: system_time(*time),
                },
                CertificateError::NotValidYetContext { time, not_before } => Self::ControllerNotYetValid {
                    not_before: system_time(*not_before),
                    now: system_time(*time),
                },
                CertificateError::Other(other) => Self::WrongPin(*other.0.downcast_ref::<WrongPin>()?),
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                _ => Self::NotAController,
            },
            rustls::Error::NoCertificatesPresented => Self::NotAController,
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateExpired => Self::RefusedAsExpired {
                    own: own.map(|validity| (validity, now)),
                },
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::DecryptError => Self::RefusedAsForeign,
                _ => return None,
            },
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => return None,
        })
    }
}

fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}
