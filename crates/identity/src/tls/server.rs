//! The controller's side: shows its certificate, and verifies a node's if there is one.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};

use super::{Current, HTTP1, HTTP2, provider};
use crate::authority::ServerCredentials;
use crate::bundle::Bundle;
use crate::certificate::Validity;
use crate::tls::IdentityError;

/// What the controller is to others, and whom it trusts.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    key: Arc<CertifiedKey>,
    nodes: Arc<dyn ClientCertVerifier>,
    grace: Duration,
    validity: Validity,
}

impl ServerIdentity {
    /// Shows these credentials and trusts this bundle.
    ///
    /// A node whose certificate expired no longer than `grace` ago gets through the handshake: it may renew, and nothing
    /// else. Whoever serves its calls must look at [`crate::NodeCertificate::validity`]. Zero lets none through.
    pub fn new(
        credentials: &ServerCredentials,
        trusted: &Bundle,
        grace: Duration,
    ) -> Result<Self, IdentityError> {
        let key = CertifiedKey::from_der(
            credentials.chain.clone(),
            credentials.key.to_private_key(),
            &provider(),
        )
        .map_err(IdentityError::Key)?;
        let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted.roots()), provider())
            .allow_unauthenticated()
            // Names of authorities tell a stranger nothing that helps: a node has one certificate to show.
            .clear_root_hint_subjects()
            .build()
            .map_err(IdentityError::Verifier)?;
        Ok(Self {
            key: Arc::new(key),
            nodes,
            grace,
            validity: credentials.validity,
        })
    }

    /// When its certificate holds: at half life it is time for another.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    fn verify_node(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.nodes.verify_client_cert(certificate, intermediates, now);
        let Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) = &verified
        else {
            return verified;
        };
        if time.as_secs().saturating_sub(not_after.as_secs()) > self.grace.as_secs() {
            return verified;
        }
        // All but the time must be right, as it was at the last moment that it held.
        self.nodes
            .verify_client_cert(certificate, intermediates, *not_after)
    }
}

/// The controller's configuration. Renewed and rotated by [`Current::set`]; connections that are open stay.
#[must_use]
pub fn server_config(identity: Arc<Current<ServerIdentity>>) -> ServerConfig {
    let shared = Arc::new(Shared(identity));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .with_client_cert_verifier(Arc::clone(&shared) as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(shared);
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

#[derive(Debug)]
struct Shared(Arc<Current<ServerIdentity>>);

impl ResolvesServerCert for Shared {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.get().key))
    }
}

impl ClientCertVerifier for Shared {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.get().verify_node(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.get().nodes.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.get().nodes.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().nodes.supported_verify_schemes()
    }
}
