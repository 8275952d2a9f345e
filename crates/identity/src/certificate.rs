//! What certificates say: how long they hold, and which node they name.

use std::fmt;
use std::time::{Duration, SystemTime};

use haul_types::{NodeId, NodeName};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// How a node's certificate names it: `haul://node/<name>/<id>`, the one URI among its subject's alternative names.
const NODE_URI: &str = "haul://node/";

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From here on.
    pub not_before: SystemTime,
    /// Up to here.
    pub not_after: SystemTime,
}

impl Validity {
    /// Of a certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        Ok(Self::of(&certificate))
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let time = |time: x509_parser::time::ASN1Time| {
            let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
            SystemTime::UNIX_EPOCH + seconds
        };
        let validity = certificate.validity();
        Self {
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        }
    }

    /// When half of its life is over: time to renew it.
    #[must_use]
    pub fn half_life(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 2
    }

    /// Whether it is time to renew.
    #[must_use]
    pub fn is_renewal_due(&self, now: SystemTime) -> bool {
        now >= self.half_life()
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", date(self.not_before), date(self.not_after))
    }
}

/// A time for people, in UTC and to the second.
#[must_use]
pub fn date(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(
        |_| format!("{time:?}"),
        |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// A node, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The node's name.
    pub name: NodeName,
    /// The node's id.
    pub id: NodeId,
    /// When it holds. The TLS layer lets one that expired a short while ago pass: whoever serves the call looks here.
    pub validity: Validity,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

/// Bytes that are no certificate, or not the one that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("this is no X.509 certificate in DER")]
    Malformed,
    /// A certificate of something else.
    #[error("this certificate names no node of Haul")]
    NotANode,
}

impl NodeCertificate {
    /// Reads a certificate in DER, whose signature has been verified before.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| CertificateError::Malformed)?
            .ok_or(CertificateError::NotANode)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(NODE_URI),
            _ => None,
        });
        let (Some(node), None) = (uris.next(), uris.next()) else {
            return Err(CertificateError::NotANode);
        };
        let (name, id) = node.split_once('/').ok_or(CertificateError::NotANode)?;
        Ok(Self {
            name: name
                .to_owned()
                .try_into()
                .map_err(|_| CertificateError::NotANode)?,
            id: id.parse().map_err(|_| CertificateError::NotANode)?,
            validity: Validity::of(&certificate),
            serial: certificate
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        })
    }
}

/// The URI of a node.
pub(crate) fn node_uri(name: &NodeName, id: NodeId) -> String {
    format!("{NODE_URI}{name}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_half_life() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let validity = Validity {
            not_before: from,
            not_after: from + Duration::from_secs(200),
        };
        assert!(!validity.is_renewal_due(from + Duration::from_secs(99)));
        assert!(validity.is_renewal_due(from + Duration::from_secs(100)));
        assert!(!validity.has_expired(from + Duration::from_secs(200)));
        assert!(validity.has_expired(from + Duration::from_secs(201)));
        assert_eq!(date(from), "1970-01-12 13:46:40 UTC");
    }

    #[test]
    fn bytes_of_others_are_refused() {
        assert_eq!(
            NodeCertificate::read(b"no certificate"),
            Err(CertificateError::Malformed)
        );
        let key = rcgen::KeyPair::generate().unwrap();
        for uris in [
            vec![],
            vec!["https://example.org"],
            vec!["haul://node/box"],
            vec!["haul://node/box/17"],
        ] {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = uris
                .iter()
                .map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap()))
                .collect();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(
                NodeCertificate::read(certificate.der()),
                Err(CertificateError::NotANode),
                "{uris:?}"
            );
        }
    }
}
