//! Who is who: the controller's certificate authority, the certificates of nodes, tokens, and the TLS configurations
//! that rest on them.
//!
//! | to … | use |
//! |---|---|
//! | make, keep and rotate the authority | [`Authorities`], [`Step`], [`Phase`] |
//! | hand somebody a way in | [`Token`]: address, pin and secret in one word |
//! | ask for a certificate, on a host | [`HostKey::request`]; the key never leaves the host |
//! | grant one, on the controller | [`VerifiedRequest::verify`], [`Authorities::issue_node`] |
//! | keep what was granted, on the host | [`HostRecord`], [`joining_key`] |
//! | know which node calls | [`NodeCertificate::read`] on the certificate that TLS has verified |
//! | speak TLS | [`server_config`], [`agent_config`], [`client_config`] |
//! | say why TLS failed | [`TlsProblem::of`] |
//!
//! # What it does not do
//!
//! It opens no socket and knows no async runtime; it does not know which tokens and nodes there are (the store does) or
//! what a role may do (the controller does). The clock is an argument, except in a handshake, where rustls asks for it.

mod address;
mod authority;
mod bundle;
mod certificate;
mod durable;
mod host;
mod octets;
mod pin;
mod problem;
mod request;
mod tls;
mod token;

pub use address::{Address, Host, NotAnAddress};
pub use authority::{
    Authorities, AuthorityError, AuthorityInfo, BACKDATED, IssueError, NodeCredentials, Phase,
    ServerCredentials, Step, StepRefused,
};
pub use bundle::Bundle;
pub use certificate::{CertificateError, NodeCertificate, Validity, date};
pub use durable::FileError;
pub use host::{HostError, HostRecord, joining_key};
pub use pin::{NotAPin, Pin};
pub use problem::{TlsProblem, WrongPin};
pub use request::{HostKey, KeyError, RequestError, VerifiedRequest};
pub use tls::{
    CONTROLLER_NAME, Current, HostIdentity, IdentityError, ServerIdentity, Trust, agent_config,
    client_config, controller_name, server_config,
};
pub use token::{NoRandomness, NotAToken, Secret, Token};
