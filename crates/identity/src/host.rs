//! What a machine that has joined keeps: its key, its certificate, whom to trust and where the controller is.
//!
//! One file, `identity.json`, replaced whole: a key and the certificate for it never part. Before a machine has joined,
//! `joining.json` has the key that it asked with, so that asking again after a lost answer asks as the same machine.

use std::path::{Path, PathBuf};

use haul_types::TokenId;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::bundle::Bundle;
use crate::durable::{self, FileError};
use crate::octets::Octets;
use crate::pin::Pin;
use crate::request::{HostKey, KeyError};
use crate::tls::{HostIdentity, IdentityError};

const JOINED: &str = "identity.json";
const JOINING: &str = "joining.json";

/// What a machine that has joined keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    addresses: Vec<Address>,
    key: Octets,
    chain: Vec<Octets>,
    authorities: Bundle,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joining {
    token: TokenId,
    key: Octets,
}

/// Why a machine's identity cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It has not joined.
    #[error("this machine has not joined a controller: `haul-agent join TOKEN` (nothing is in {})", .0.display())]
    NotJoined(PathBuf),
    /// It has joined already.
    #[error(
        "this machine has joined already, as {}: to join again, stop its agent and remove that file", .0.display()
    )]
    Joined(PathBuf),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key cannot be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Key, certificate and authorities do not make an identity.
    #[error("what the controller gave cannot be used")]
    Unusable(#[from] IdentityError),
    /// The controller names other authorities to trust than the one that the token names.
    #[error("the controller does not name the authority that the token names, {0}: it is not trusted")]
    OtherAuthority(Pin),
}

impl HostRecord {
    /// Of the key that stayed here, and of what the controller gave for it; together they must make an identity.
    pub fn new<T: Into<Vec<u8>>>(
        addresses: Vec<Address>,
        key: &HostKey,
        chain: impl IntoIterator<Item = T>,
        authorities: impl IntoIterator<Item = T>,
    ) -> Result<Self, HostError> {
        let octets = |der: T| Octets(der.into());
        let trusted = Bundle::from_der(authorities).map_err(IdentityError::Certificate)?;
        let record = Self {
            addresses,
            key: Octets(key.to_pkcs8()),
            chain: chain.into_iter().map(octets).collect(),
            authorities: trusted,
        };
        record.identity()?;
        Ok(record)
    }

    /// Reads what is kept in `directory`.
    pub fn read(directory: &Path) -> Result<Self, HostError> {
        let path = directory.join(JOINED);
        let content = durable::read(&path).map_err(|error| {
            if error.is_absent() {
                HostError::NotJoined(directory.to_owned())
            } else {
                error.into()
            }
        })?;
        let record: Self = from_json(&path, &content)?;
        record.identity()?;
        Ok(record)
    }

    /// Keeps it in `directory`, in place of what was there.
    pub fn write(&self, directory: &Path) -> Result<(), HostError> {
        durable::private_dir(directory)?;
        durable::replace(&directory.join(JOINED), &to_json(self))?;
        match std::fs::remove_file(directory.join(JOINING)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(FileError::Io {
                attempt: "remove",
                path: directory.join(JOINING),
                source,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Where the controller is, best first.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Whether it trusts this authority.
    #[must_use]
    pub fn trusts(&self, pin: Pin) -> bool {
        self.authorities.pins().any(|trusted| trusted == pin)
    }

    /// As TLS wants it.
    pub fn identity(&self) -> Result<HostIdentity, HostError> {
        let chain: Vec<_> = self
            .chain
            .iter()
            .map(|certificate| certificate.0.clone())
            .collect();
        let key = HostKey::from_pkcs8(&self.key.0)?;
        Ok(HostIdentity::new(&key, &chain, &self.authorities)?)
    }
}

/// The key to join with by this token: the one of an earlier try, or a new one. Refused where a machine has joined.
pub fn joining_key(directory: &Path, token: TokenId) -> Result<HostKey, HostError> {
    durable::private_dir(directory)?;
    let joined = directory.join(JOINED);
    if std::fs::symlink_metadata(&joined).is_ok() {
        return Err(HostError::Joined(joined));
    }
    let path = directory.join(JOINING);
    match durable::read(&path) {
        Ok(content) => {
            let earlier: Joining = from_json(&path, &content)?;
            if earlier.token == token {
                return Ok(HostKey::from_pkcs8(&earlier.key.0)?);
            }
        }
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(error.into()),
    }
    let key = HostKey::generate()?;
    let joining = Joining {
        token,
        key: Octets(key.to_pkcs8()),
    };
    durable::replace(&path, &to_json(&joining))?;
    Ok(key)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("texts and lists of texts are JSON")
}

fn from_json<T: for<'de> Deserialize<'de>>(path: &Path, content: &[u8]) -> Result<T, FileError> {
    serde_json::from_slice(content).map_err(|error| FileError::Damaged {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use haul_types::{Digest, NodeId, NodeName};

    use super::*;
    use crate::authority::Authorities;
    use crate::request::VerifiedRequest;

    fn record(directory: &Path, key: &HostKey) -> (HostRecord, Pin) {
        let now = SystemTime::now();
        let authorities = Authorities::create(directory, now).unwrap();
        let request = VerifiedRequest::verify(&key.request().unwrap()).unwrap();
        let name = NodeName::try_from("box".to_owned()).unwrap();
        let life = Duration::from_secs(3600);
        let issued = authorities
            .issue_node(&request, &name, NodeId::random(), life, now)
            .unwrap();
        let bundle = authorities.bundle();
        let authorities_der = bundle.certificates().map(<[u8]>::to_vec);
        let addresses = vec!["haul.example.org:7070".parse().unwrap()];
        let record = HostRecord::new(addresses, key, issued.chain, authorities_der).unwrap();
        (record, authorities.pin())
    }

    #[test]
    fn what_a_machine_keeps_is_read_back_and_guarded() {
        let (state, authority) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = state.path().join("identity");
        let token = TokenId::of_hash(&Digest::of(b"a"));
        assert!(matches!(
            HostRecord::read(&directory),
            Err(HostError::NotJoined(_))
        ));

        let key = joining_key(&directory, token).unwrap();
        assert_eq!(
            joining_key(&directory, token).unwrap().to_pkcs8(),
            key.to_pkcs8(),
            "the same machine"
        );
        let other = joining_key(&directory, TokenId::of_hash(&Digest::of(b"b"))).unwrap();
        assert_ne!(other.to_pkcs8(), key.to_pkcs8(), "another token, another key");

        let (record, pin) = record(authority.path(), &key);
        assert!(record.trusts(pin) && !record.trusts(Pin::from_bytes([0; 32])));
        record.write(&directory).unwrap();
        assert_eq!(HostRecord::read(&directory).unwrap(), record);
        assert!(!directory.join(JOINING).exists());
        assert!(matches!(
            joining_key(&directory, token),
            Err(HostError::Joined(_))
        ));
        let shown = format!("{record:?}");
        assert!(
            shown.contains(&format!("key: ({} bytes)", key.to_pkcs8().len())),
            "a key is not printed: {shown}"
        );
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let authority = tempfile::tempdir().unwrap();
        let (record, _) = record(authority.path(), &HostKey::generate().unwrap());
        let chain = record.chain.iter().map(|der| der.0.clone());
        let authorities = record.authorities.certificates().map(<[u8]>::to_vec);
        let error = HostRecord::new(vec![], &HostKey::generate().unwrap(), chain, authorities).unwrap_err();
        assert!(
            matches!(error, HostError::Unusable(IdentityError::Key(_))),
            "{error}"
        );
    }
}
