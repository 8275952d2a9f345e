//! The sides that dial: agents with a certificate, users and joining hosts without.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::{Current, HTTP2, provider};
use crate::bundle::Bundle;
use crate::certificate::NodeCertificate;
use crate::pin::Pin;
use crate::problem::WrongPin;
use crate::request::HostKey;

/// How a client knows the controller.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By its authorities.
    Bundle(Bundle),
    /// By the public key of its authority, which it shows; for the first connection, when nothing else is known.
    Pin(Pin),
}

/// What an agent is to its controller, and whom it trusts.
#[derive(Debug)]
pub struct HostIdentity {
    key: Arc<CertifiedKey>,
    verifier: Arc<WebPkiServerVerifier>,
    certificate: NodeCertificate,
}

/// Keys, certificates or authorities that make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key does not fit the certificate, or is damaged.
    #[error("the key and the certificate do not belong together")]
    Key(#[source] Error),
    /// Nobody could be verified with these authorities.
    #[error("the authorities to trust cannot be used")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// It is no certificate of a node.
    #[error(transparent)]
    Certificate(#[from] crate::certificate::CertificateError),
}

impl HostIdentity {
    /// Of the key that stayed on this host, the chain that the controller gave for it, and the authorities to trust.
    pub fn new(key: &HostKey, chain: &[Vec<u8>], trusted: &Bundle) -> Result<Self, IdentityError> {
        let leaf = chain.first().map_or(&[][..], Vec::as_slice);
        let certificate = NodeCertificate::read(leaf)?;
        let chain = chain
            .iter()
            .map(|der| CertificateDer::from(der.clone()))
            .collect();
        let key =
            CertifiedKey::from_der(chain, key.to_private_key(), &provider()).map_err(IdentityError::Key)?;
        Ok(Self {
            key: Arc::new(key),
            verifier: verifier(trusted.roots()).map_err(IdentityError::Verifier)?,
            certificate,
        })
    }

    /// What its certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &NodeCertificate {
        &self.certificate
    }
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
}

/// An agent's configuration. Renewed by [`Current::set`].
#[must_use]
pub fn agent_config(identity: Arc<Current<HostIdentity>>) -> ClientConfig {
    let shared = Arc::new(Shared(identity));
    dialing(Arc::clone(&shared) as Arc<dyn ServerCertVerifier>, Some(shared))
}

/// The configuration of who has no certificate: a user, or a host that joins.
pub fn client_config(trust: Trust) -> Result<ClientConfig, IdentityError> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Bundle(bundle) => verifier(bundle.roots()).map_err(IdentityError::Verifier)?,
        Trust::Pin(pin) => Arc::new(Pinned(pin)),
    };
    Ok(dialing(verifier, None))
}

fn dialing(verifier: Arc<dyn ServerCertVerifier>, own: Option<Arc<dyn ResolvesClientCert>>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct Shared(Arc<Current<HostIdentity>>);

impl ResolvesClientCert for Shared {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.get().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Shared {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let identity = self.0.get();
        identity
            .verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.get().verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.get().verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().verifier.supported_verify_schemes()
    }
}

/// Believes a controller that shows an authority with this public key, and a certificate that the authority signed.
#[derive(Debug)]
struct Pinned(Pin);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pins: Vec<_> = intermediates
            .iter()
            .filter_map(|shown| Pin::of_certificate(shown))
            .collect();
        let authority = intermediates
            .iter()
            .find(|shown| Pin::of_certificate(shown) == Some(self.0))
            .ok_or_else(|| {
                let wrong = WrongPin {
                    expected: self.0,
                    found: pins.first().copied(),
                };
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
            })?;
        // Only its name and its key matter from here on; what it says besides, anybody may have written.
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verifier(roots)
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
