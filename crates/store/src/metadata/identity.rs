//! Tokens and enrolled nodes: their rows, what can be done to them, and why it may be refused.
//!
//! Using a join token is one step of the one writer, a compare-and-swap: of any number of machines that use it at once
//! one is enrolled, and the others are told so. The same machine (the same key, the same name) may say it again.

pub(super) mod apply;
pub(super) mod read;

use std::collections::BTreeMap;

use haul_types::{Digest, NodeId, NodeName, Role, TokenId};

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The hash of its secret.
    pub hash: Digest,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The only target that its user may reach, or that its node is put into.
    pub target: Option<String>,
    /// A join token's: labels that its node gets.
    pub labels: BTreeMap<String, String>,
    /// A join token's: the enrolled node that gives way to the new one, which must have the same name.
    pub replaces: Option<NodeName>,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// From when on it is worth nothing.
    pub expires_unix_ms: Option<u64>,
    /// A join token's: its one use.
    pub used: Option<TokenUse>,
    /// When it was revoked.
    pub revoked_unix_ms: Option<u64>,
}

/// The one use of a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// When.
    pub at_unix_ms: u64,
    /// The node that it made.
    pub by: NodeId,
}

impl TokenRecord {
    /// What lists show of it.
    #[must_use]
    pub fn id(&self) -> TokenId {
        TokenId::of_hash(&self.hash)
    }

    /// Whether it is still worth something: not revoked, not used, and not expired.
    pub fn standing(&self, now_unix_ms: u64) -> Result<(), IdentityRefusal> {
        if self.revoked_unix_ms.is_some() {
            return Err(IdentityRefusal::TokenRevoked);
        }
        if let Some(used) = self.used {
            return Err(IdentityRefusal::TokenUsed(used));
        }
        match self.expires_unix_ms {
            Some(expired_unix_ms) if expired_unix_ms <= now_unix_ms => {
                Err(IdentityRefusal::TokenExpired { expired_unix_ms })
            }
            _ => Ok(()),
        }
    }
}

/// A machine that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledNode {
    /// Its id, which no other ever has.
    pub id: NodeId,
    /// Its name, which no other has while it is enrolled.
    pub name: NodeName,
    /// The target that it was put into.
    pub target: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The SHA-256 of the public key that it joined with.
    pub key: [u8; 32],
    /// When it was let in, in milliseconds since 1970.
    pub enrolled_unix_ms: u64,
    /// When it was shut out again.
    pub revoked_unix_ms: Option<u64>,
    /// The last certificate that it was given.
    pub certificate: Option<CertificateRow>,
}

/// A certificate that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// When it ends, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}

/// A change to tokens and nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityOp {
    /// Adds a token; nothing if it is there.
    PutToken(TokenRecord),
    /// Ends a token; refused if it is unknown, nothing if it has been revoked.
    RevokeToken {
        /// Which.
        id: TokenId,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// Uses a join token and enrols a node by it. Refused unless the token is good for that, and if the name is taken.
    /// Nothing if this key has enrolled a node of this name by this token before: the token then tells its id.
    Enrol {
        /// The token.
        token: Digest,
        /// The node; its target and labels are the caller's to fill in.
        node: EnrolledNode,
    },
    /// Notes the certificate that a node is given; refused if the node is unknown or revoked.
    PutCertificate {
        /// The node.
        node: NodeId,
        /// Its certificate.
        certificate: CertificateRow,
    },
    /// Shuts the enrolled node of this name out; refused if there is none.
    RevokeNode {
        /// Its name.
        name: NodeName,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
    /// Forgets tokens that have been worth nothing since before a time.
    RemoveTokens {
        /// In milliseconds since 1970.
        before_unix_ms: u64,
    },
}

/// Why a change to tokens and nodes was refused, or a token is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityRefusal {
    /// No such token was ever made here, or it has been forgotten.
    #[error("this token is not known here")]
    UnknownToken,
    /// It was revoked.
    #[error("this token was revoked")]
    TokenRevoked,
    /// It was used.
    #[error("this token was used already; a join token lets one machine in")]
    TokenUsed(TokenUse),
    /// It is over.
    #[error("this token has expired")]
    TokenExpired {
        /// When, in milliseconds since 1970.
        expired_unix_ms: u64,
    },
    /// It is a user's.
    #[error("this token is a user's, with the role {0}; a machine joins by a token of the role agent")]
    NotAJoinToken(Role),
    /// It is for a machine of another name.
    #[error("this token is for the machine that takes the place of node {0}")]
    OtherName(NodeName),
    /// There is such a node.
    #[error("a node named {0} is enrolled already")]
    NameTaken(NodeName),
    /// There is no such node, or not any more.
    #[error("no node {0} is enrolled")]
    UnknownNode(String),
}
