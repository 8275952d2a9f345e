//! The authorities that somebody trusts: one, or two while they change.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use serde::{Deserialize, Serialize};

use crate::certificate::CertificateError;
use crate::octets::Octets;
use crate::pin::Pin;

/// Certificates of authorities, the one that signs first. As text a list of base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Octets>", try_from = "Vec<Octets>")]
pub struct Bundle(Vec<CertificateDer<'static>>);

impl Bundle {
    /// More authorities than ever are at a time: what a peer may send.
    const MOST: usize = 8;

    /// The bundle of these certificates in DER; each must be one.
    pub fn from_der<T: Into<Vec<u8>>>(
        certificates: impl IntoIterator<Item = T>,
    ) -> Result<Self, CertificateError> {
        let certificates: Vec<CertificateDer<'static>> = certificates
            .into_iter()
            .map(|der| CertificateDer::from(der.into()))
            .collect();
        if certificates.is_empty() || certificates.len() > Self::MOST {
            return Err(CertificateError::Malformed);
        }
        let bundle = Self(certificates);
        if bundle.roots().len() == bundle.0.len() {
            Ok(bundle)
        } else {
            Err(CertificateError::Malformed)
        }
    }

    /// The certificates in DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// The pins of its authorities.
    pub fn pins(&self) -> impl Iterator<Item = Pin> {
        self.0
            .iter()
            .filter_map(|certificate| Pin::of_certificate(certificate))
    }

    /// As rustls wants them.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.0.iter().cloned());
        roots
    }
}

impl From<Bundle> for Vec<Octets> {
    fn from(bundle: Bundle) -> Self {
        bundle.certificates().map(|der| Octets(der.to_vec())).collect()
    }
}

impl TryFrom<Vec<Octets>> for Bundle {
    type Error = CertificateError;

    fn try_from(certificates: Vec<Octets>) -> Result<Self, CertificateError> {
        Self::from_der(certificates.into_iter().map(|octets| octets.0))
    }
}
