//! Keys of hosts, and the requests for certificates that are made with them. A key never leaves its host.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// No request of ours is nearly as long.
const LONGEST_REQUEST: usize = 4 << 10;

/// A host's own key: ECDSA on P-256.
pub struct HostKey(KeyPair);

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} the key")]
pub struct KeyError {
    attempt: &'static str,
    #[source]
    source: rcgen::Error,
}

impl HostKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|source| KeyError {
                attempt: "generate",
                source,
            })
    }

    /// The key of what [`Self::to_pkcs8`] gave.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(der);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|source| KeyError {
                attempt: "read",
                source,
            })
    }

    /// The key in PKCS #8, to be kept on this host.
    #[must_use]
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// A request for a certificate (PKCS #10, DER), signed with the key. It names nothing: who it is for is said beside
    /// it, and decided by whoever signs.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .serialize_request(&self.0)
            .map(|request| request.der().to_vec())
            .map_err(|source| KeyError {
                attempt: "make a certificate request with",
                source,
            })
    }

    pub(crate) fn to_private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostKey(…)")
    }
}

/// A request whose maker has proved to hold the key. Whatever names it contains are ignored.
#[derive(Debug)]
pub struct VerifiedRequest {
    pub(crate) key: rcgen::PublicKey,
}

/// Bytes that are no request to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Too long, or not a request.
    #[error("this is no certificate request")]
    Malformed,
    /// Signed with another key than it names.
    #[error("the certificate request is not signed with its own key")]
    Unproven,
    /// A key of another kind.
    #[error("the certificate request has a key of another kind than ECDSA on P-256")]
    OtherKey,
}

impl VerifiedRequest {
    /// Verifies a request in DER: that it is one, and that its maker holds the key.
    pub fn verify(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > LONGEST_REQUEST {
            return Err(RequestError::Malformed);
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|error| match error {
                rcgen::Error::InvalidCertificationRequestSignature => RequestError::Unproven,
                rcgen::Error::UnsupportedSignatureAlgorithm => RequestError::OtherKey,
                _ => RequestError::Malformed,
            })?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::OtherKey);
        }
        Ok(Self {
            key: request.public_key,
        })
    }

    /// What tells its key from every other: the SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn key_digest(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.key.subject_public_key_info());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_its_key() {
        let key = HostKey::generate().unwrap();
        let again = HostKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        let [one, other] =
            [&key, &again].map(|key| VerifiedRequest::verify(&key.request().unwrap()).unwrap());
        assert_eq!(one.key_digest(), other.key_digest());
        let another = HostKey::generate().unwrap().request().unwrap();
        assert_ne!(
            one.key_digest(),
            VerifiedRequest::verify(&another).unwrap().key_digest()
        );
    }

    #[test]
    fn a_request_with_another_key_put_in_is_refused() {
        let (mine, theirs) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
        let mut request = theirs.request().unwrap();
        let (from, to) = (theirs.0.public_key_raw(), mine.0.public_key_raw());
        let place = request
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        request[place..place + to.len()].copy_from_slice(to);
        assert_eq!(
            VerifiedRequest::verify(&request).unwrap_err(),
            RequestError::Unproven
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(VerifiedRequest::verify(b"").unwrap_err(), RequestError::Malformed);
        assert_eq!(
            VerifiedRequest::verify(&[0x30; 9000]).unwrap_err(),
            RequestError::Malformed
        );
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        assert_eq!(
            VerifiedRequest::verify(request.der()).unwrap_err(),
            RequestError::OtherKey
        );
    }
}
