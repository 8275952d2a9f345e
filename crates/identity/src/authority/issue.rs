//! What the authority signs: the controller's own certificate, and those of nodes.
//!
//! Each is good for one thing: a node's cannot serve, the controller's cannot pass for a node.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use haul_types::{NodeId, NodeName};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;

use super::{Authorities, Authority};
use crate::address::Host;
use crate::certificate::{NodeCertificate, Validity, node_uri};
use crate::request::{HostKey, KeyError, VerifiedRequest};
use crate::tls::CONTROLLER_NAME;

/// Certificates hold from so long before they were made, because clocks differ a little.
pub const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system has no randomness to give.
    #[error(transparent)]
    Randomness(#[from] crate::token::NoRandomness),
    /// It could not be signed.
    #[error("cannot sign a certificate")]
    Sign(#[from] rcgen::Error),
    /// What was signed cannot be read.
    #[error("cannot read the certificate that was signed")]
    Read(#[from] crate::certificate::CertificateError),
}

/// What the controller shows to whoever connects. Lives in memory only: a controller that starts makes a new one.
#[derive(Debug)]
pub struct ServerCredentials {
    pub(crate) key: HostKey,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// How long it holds.
    pub validity: Validity,
}

/// What a node gets.
#[derive(Clone, Debug)]
pub struct NodeCredentials {
    /// Its certificate, and whatever a peer needs to follow it to an authority, in DER.
    pub chain: Vec<Vec<u8>>,
    /// What the certificate says.
    pub certificate: NodeCertificate,
}

impl Authorities {
    /// A new key and certificate for the controller, which is reached by these hosts.
    pub fn issue_server(
        &self,
        hosts: &[Host],
        life: Duration,
        now: SystemTime,
    ) -> Result<ServerCredentials, IssueError> {
        let key = HostKey::generate()?;
        let mut names = vec![SanType::DnsName(CONTROLLER_NAME.try_into()?)];
        for host in hosts {
            names.push(match host {
                Host::Ip(ip) => SanType::IpAddress(canonical(*ip)),
                Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let request = VerifiedRequest::verify(&key.request()?)
            .map_err(|_| rcgen::Error::CouldNotParseCertificationRequest)?;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let leaf = self.sign(&request, CONTROLLER_NAME, names, usage, life, now)?;
        let validity = Validity::of_certificate(&leaf)?;
        let mut chain = vec![leaf];
        // The authority itself too: who knows only its pin finds it there.
        chain.push(self.rotation.signing().certificate.0.clone().into());
        chain.extend(self.way_from_previous());
        Ok(ServerCredentials { key, chain, validity })
    }

    /// A certificate for a node, for the key that it has proved to hold.
    pub fn issue_node(
        &self,
        request: &VerifiedRequest,
        name: &NodeName,
        id: NodeId,
        life: Duration,
        now: SystemTime,
    ) -> Result<NodeCredentials, IssueError> {
        let names = vec![SanType::URI(node_uri(name, id).try_into()?)];
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let leaf = self.sign(request, name.as_str(), names, usage, life, now)?;
        Ok(NodeCredentials {
            certificate: NodeCertificate::read(&leaf)?,
            chain: vec![leaf.to_vec()],
        })
    }

    fn sign(
        &self,
        request: &VerifiedRequest,
        subject: &str,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        life: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, IssueError> {
        let mut serial = [0; 16];
        SystemRandom::new()
            .fill(&mut serial)
            .map_err(|_| crate::token::NoRandomness)?;
        // Positive, as serial numbers are.
        serial[0] = serial[0] & 0x7f | 0x40;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.subject_alt_names = names;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + life).into();
        let issuer = self.rotation.signing().issuer()?;
        Ok(params.signed_by(&request.key, &issuer)?.into())
    }

    /// While the one before is still trusted: how those who know only that one find the one that signs.
    fn way_from_previous(&self) -> Vec<CertificateDer<'static>> {
        let super::Rotation::Activated { signing, previous } = &self.rotation else {
            return Vec::new();
        };
        let cross = signing.cross_certificate.iter().map(|cross| cross.0.clone());
        let own = |authority: &Authority| authority.certificate.0.clone();
        cross.chain([own(previous)]).map(CertificateDer::from).collect()
    }
}

/// An IPv4 address that is written as IPv6 is IPv4.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
