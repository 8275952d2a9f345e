//! How one authority takes another's place, so that nobody is locked out at any step and each can be taken back.
//!
//! ```text
//!            begin                      activate                        finish
//!   Steady ─────────► Begun ──────────────────────────► Activated ─────────────► Steady
//!   old signs         old signs, both trusted           new signs, both trusted  new signs
//!      ▲                │   ▲                               │
//!      └── roll back ───┘   └────────── roll back ──────────┘
//! ```
//!
//! - **begin** makes the new authority and has everybody trust it: nodes hear of it as they renew.
//! - **activate** lets it sign. Who has not heard of it yet still finds the way, because the old authority has signed
//!   the new one too.
//! - **finish** drops the old one. An authority is dropped only when the last certificate that it signed has expired, or
//!   by force: when its key is no longer a secret, say.
//! - **roll back** is the way back, one step at a time, under the same rule.
//!
//! Pure: no I/O, no clock.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Authority;
use crate::certificate::date;

/// Where a rotation stands, with the authorities that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Rotation {
    /// There is one.
    Steady {
        /// It signs.
        signing: Authority,
    },
    /// A second one is trusted.
    Begun {
        /// It signs.
        signing: Authority,
        /// It will.
        next: Authority,
    },
    /// The second one signs.
    Activated {
        /// It signs.
        signing: Authority,
        /// It did.
        previous: Authority,
    },
}

/// The same without what it holds, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One authority.
    Steady,
    /// A second one is trusted; the first one signs.
    Begun,
    /// The second one signs; both are trusted.
    Activated,
}

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the next authority and trust it.
    Begin,
    /// Let it sign.
    Activate,
    /// Drop the one before.
    Finish,
    /// Take the last step back.
    RollBack,
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepRefused {
    /// It does not follow from where the rotation stands.
    #[error("cannot {step}: {}", phase.in_words())]
    OutOfOrder {
        /// The step.
        step: Step,
        /// Where it stands.
        phase: Phase,
    },
    /// Certificates of the authority that would be dropped are still good.
    #[error(
        "cannot {step} before {}: until then certificates are in use that only the authority to be dropped vouches \
         for, and their nodes would be locked out; if its key is no longer a secret, use force",
        date(*until)
    )]
    StillInUse {
        /// The step.
        step: Step,
        /// When the last of them expires.
        until: SystemTime,
    },
}

impl Phase {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Steady => "no rotation is under way; begin one first",
            Self::Begun => "a rotation has begun; activate it or roll it back",
            Self::Activated => "the new authority signs; finish the rotation or roll it back",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin => "begin a rotation",
            Self::Activate => "activate the new authority",
            Self::Finish => "finish the rotation",
            Self::RollBack => "roll the rotation back",
        })
    }
}

/// What a step needs to know and to make.
pub(super) struct Circumstances<'a> {
    pub(super) now: SystemTime,
    /// When the last certificate that was signed up to now expires.
    pub(super) last_expiry: SystemTime,
    pub(super) force: bool,
    /// The authority that begins, if one does.
    pub(super) fresh: &'a mut dyn FnMut(&Authority) -> Result<Authority, super::AuthorityError>,
}

impl Rotation {
    pub(super) const fn phase(&self) -> Phase {
        match self {
            Self::Steady { .. } => Phase::Steady,
            Self::Begun { .. } => Phase::Begun,
            Self::Activated { .. } => Phase::Activated,
        }
    }

    pub(super) const fn signing(&self) -> &Authority {
        match self {
            Self::Steady { signing } | Self::Begun { signing, .. } | Self::Activated { signing, .. } => {
                signing
            }
        }
    }

    pub(super) const fn other(&self) -> Option<&Authority> {
        match self {
            Self::Steady { .. } => None,
            Self::Begun { next: other, .. } | Self::Activated { previous: other, .. } => Some(other),
        }
    }

    /// What there is after the step.
    pub(super) fn after(
        &self,
        step: Step,
        with: &mut Circumstances<'_>,
    ) -> Result<Self, super::AuthorityError> {
        let droppable = |authority: &Authority| match authority.last_expiry() {
            Some(until) if until >= with.now && !with.force => Err(StepRefused::StillInUse { step, until }),
            _ => Ok(()),
        };
        Ok(match (self, step) {
            (Self::Steady { signing }, Step::Begin) => Self::Begun {
                next: (with.fresh)(signing)?,
                signing: signing.clone(),
            },
            (Self::Begun { signing, next }, Step::Activate) => Self::Activated {
                signing: next.clone(),
                previous: signing.retired(with.last_expiry),
            },
            (Self::Begun { signing, next }, Step::RollBack) => {
                droppable(next)?;
                Self::Steady {
                    signing: signing.clone(),
                }
            }
            (Self::Activated { signing, previous }, Step::Finish) => {
                droppable(previous)?;
                Self::Steady {
                    signing: signing.clone(),
                }
            }
            (Self::Activated { signing, previous }, Step::RollBack) => Self::Begun {
                signing: previous.clone(),
                next: signing.retired(with.last_expiry),
            },
            _ => {
                let phase = self.phase();
                return Err(StepRefused::OutOfOrder { step, phase }.into());
            }
        })
    }
}
