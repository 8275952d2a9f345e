//! The controller's own certificate authority: what it signs with, whom everybody is told to trust, and how that
//! changes.
//!
//! Everything is in one file, `authorities.json`, which is replaced whole: a crash at any moment leaves one phase of a
//! rotation or the next, never something between. The controller is the only one that reads or writes it.

mod issue;
mod rotation;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::certificate::Validity;
use crate::durable::{self, FileError, Stage};
use crate::octets::Octets;
use crate::pin::Pin;
use rotation::{Circumstances, Rotation};

pub use issue::{BACKDATED, IssueError, NodeCredentials, ServerCredentials};
pub use rotation::{Phase, Step, StepRefused};

/// The file's name within the directory.
const FILE_NAME: &str = "authorities.json";
/// How long an authority is good for, if nobody replaces it before: ten years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// One authority: its certificate and the key that it signs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Authority {
    /// Its certificate, signed by itself.
    certificate: Octets,
    /// Its certificate, signed by the authority before it: for those who trust only that one as yet.
    cross_certificate: Option<Octets>,
    /// Its key, PKCS #8.
    key: Octets,
    /// Set when it has stopped signing: when the last certificate that it signed expires, in seconds since 1970.
    last_expiry_unix_s: Option<u64>,
}

/// What lists show of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityInfo {
    /// What it is known by.
    pub pin: Pin,
    /// How long it is good for.
    pub validity: Validity,
    /// Whether it is the one that signs.
    pub signs: bool,
}

/// Why the authorities cannot be made, read, changed or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There are some already.
    #[error("{} exists: this controller has its authority already, and all that trust it would be lost with it", .0.display())]
    Exists(PathBuf),
    /// There are none.
    #[error("there is no authority in {}: make one with `haul-controller init`", .0.display())]
    Absent(PathBuf),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The step does not follow, or would lock somebody out.
    #[error(transparent)]
    Refused(#[from] StepRefused),
    /// The cryptography failed.
    #[error("cannot make an authority")]
    Make(#[source] rcgen::Error),
}

/// The controller's authorities. One process has them at a time: the controller, which holds its state directory's lock.
#[derive(Debug)]
pub struct Authorities {
    path: PathBuf,
    rotation: Rotation,
}

impl Authorities {
    /// Makes the first authority in `directory`, which is made too; refuses if one is there.
    pub fn create(directory: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        durable::private_dir(directory)?;
        let path = directory.join(FILE_NAME);
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(AuthorityError::Exists(path));
        }
        let signing = Authority::generate(None, now)?;
        let made = Self {
            path,
            rotation: Rotation::Steady { signing },
        };
        made.save(&made.rotation, &mut |_| Ok(()))?;
        Ok(made)
    }

    /// Reads those in `directory`.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let path = directory.join(FILE_NAME);
        let content = durable::read(&path).map_err(|error| {
            if error.is_absent() {
                AuthorityError::Absent(directory.to_owned())
            } else {
                error.into()
            }
        })?;
        let damaged = |problem: String| FileError::Damaged {
            path: path.clone(),
            problem,
        };
        let rotation: Rotation =
            serde_json::from_slice(&content).map_err(|error| damaged(error.to_string()))?;
        for authority in std::iter::once(rotation.signing()).chain(rotation.other()) {
            authority.issuer().map_err(|error| damaged(error.to_string()))?;
            authority
                .info(false)
                .ok_or_else(|| damaged("a certificate cannot be read".to_owned()))?;
        }
        Ok(Self { path, rotation })
    }

    /// Takes a step of a rotation. It is on the disk when this returns. After an error the phase here is the old one, and
    /// on the disk it is the old one or, if the fault was in the very last sync, the new one; either is whole.
    ///
    /// `longest_life` is the longest that certificates are issued for: for so long an authority that stops signing now
    /// is still needed. `force` drops one that is.
    pub fn step(
        &mut self,
        step: Step,
        force: bool,
        longest_life: Duration,
        now: SystemTime,
    ) -> Result<(), AuthorityError> {
        self.step_staged(step, force, longest_life, now, &mut |_| Ok(()))
    }

    /// As [`Self::step`], and asks before each stage of writing whether to go on.
    fn step_staged(
        &mut self,
        step: Step,
        force: bool,
        longest_life: Duration,
        now: SystemTime,
        before: &mut dyn FnMut(Stage) -> io::Result<()>,
    ) -> Result<(), AuthorityError> {
        let next = self.rotation.after(
            step,
            &mut Circumstances {
                now,
                last_expiry: now + longest_life,
                force,
                fresh: &mut |signing| Authority::generate(Some(signing), now),
            },
        )?;
        self.save(&next, before)?;
        self.rotation = next;
        Ok(())
    }

    /// Where a rotation stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.rotation.phase()
    }

    /// What everybody is to trust.
    #[must_use]
    pub fn bundle(&self) -> Bundle {
        let all = std::iter::once(self.rotation.signing()).chain(self.rotation.other());
        Bundle::from_der(all.map(|authority| authority.certificate.0.clone()))
            .expect("both certificates were read when they were made or opened")
    }

    /// The authority that signs, as new tokens name it.
    #[must_use]
    pub fn pin(&self) -> Pin {
        let signing = self.rotation.signing();
        Pin::of_certificate(&signing.certificate.0)
            .expect("the certificate was read when it was made or opened")
    }

    /// All of them, the one that signs first.
    #[must_use]
    pub fn list(&self) -> Vec<AuthorityInfo> {
        let signing = self.rotation.signing().info(true);
        let other = self.rotation.other().and_then(|authority| authority.info(false));
        signing.into_iter().chain(other).collect()
    }

    fn save(
        &self,
        rotation: &Rotation,
        before: &mut dyn FnMut(Stage) -> io::Result<()>,
    ) -> Result<(), AuthorityError> {
        let content = serde_json::to_vec_pretty(rotation).map_err(|error| FileError::Damaged {
            path: self.path.clone(),
            problem: error.to_string(),
        })?;
        Ok(durable::replace_staged(&self.path, &content, before)?)
    }
}

impl Authority {
    /// A new authority, vouched for by the one that signs until now.
    fn generate(before: Option<&Self>, now: SystemTime) -> Result<Self, AuthorityError> {
        let make = AuthorityError::Make;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // Names must differ: a chain is put together by them.
        let head: String = key.public_key_raw()[1..9]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Haul authority {head}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + AUTHORITY_LIFE).into();
        let certificate = params.self_signed(&key).map_err(make)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let cross_certificate = before
            .map(|before| params.signed_by(&key, &before.issuer()?))
            .transpose()
            .map_err(make)?;
        Ok(Self {
            certificate: Octets(certificate.der().to_vec()),
            cross_certificate: cross_certificate.map(|cross| Octets(cross.der().to_vec())),
            key: Octets(key.serialize_der()),
            last_expiry_unix_s: None,
        })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
        let key = KeyPair::try_from(self.key.0.as_slice())?;
        Issuer::from_ca_cert_der(&CertificateDer::from(self.certificate.0.as_slice()), key)
    }

    fn info(&self, signs: bool) -> Option<AuthorityInfo> {
        Some(AuthorityInfo {
            pin: Pin::of_certificate(&self.certificate.0)?,
            validity: Validity::of_certificate(&self.certificate.0).ok()?,
            signs,
        })
    }

    fn retired(&self, last_expiry: SystemTime) -> Self {
        let since = last_expiry
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            last_expiry_unix_s: Some(since.as_secs()),
            ..self.clone()
        }
    }

    fn last_expiry(&self) -> Option<SystemTime> {
        let seconds = self.last_expiry_unix_s?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests;
