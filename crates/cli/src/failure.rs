//! Errors as users see them: what went wrong, where, and what to do next.

use std::error::Error;
use std::fmt;

use haul_client::{CallError, FetchError, FollowError, SendError, SubmitError};
use haul_identity::TlsProblem;
use haul_snapshot::ScanError;
use haul_snapshot::scan::BundleError;
use haul_snapshot::tree::UnpackError;

use crate::contexts::{ContextError, StoreError};
use crate::exit;
use crate::local::LocalError;

/// Why a command did not do what was asked. Printed as `error: what`, the places below it, and `help: what next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    what: String,
    places: Vec<String>,
    help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The user can mend it by saying something else.
    Usage,
    /// Haul, or what it stands on, failed.
    Infrastructure,
}

impl Failure {
    /// Something in what was asked is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what.into())
    }

    /// Haul failed, or something it stands on.
    pub fn infrastructure(what: impl Into<String>) -> Self {
        Self::new(Kind::Infrastructure, what.into())
    }

    fn new(kind: Kind, what: String) -> Self {
        Self {
            kind,
            what,
            places: Vec::new(),
            help: None,
        }
    }

    /// Adds where it happened, or why.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.places.push(place.to_string());
        self
    }

    /// Adds the sources of an error, each on a line of its own.
    #[must_use]
    pub fn because(mut self, error: &dyn Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.places.push(error.to_string());
            cause = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, told when there is a job already: no longer something that the user got wrong.
    #[must_use]
    pub fn after_the_job(mut self) -> Self {
        self.kind = Kind::Infrastructure;
        self
    }

    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => exit::USAGE,
            Kind::Infrastructure => exit::INFRASTRUCTURE,
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Where, and why.
    #[must_use]
    pub fn places(&self) -> &[String] {
        &self.places
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn of(kind: Kind, error: &dyn Error) -> Self {
        let failure = Self::new(kind, error.to_string());
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let kind = match error {
            // A full disk, too: nothing was done, and the user is the one to make room.
            CallError::NotFound(_)
            | CallError::Invalid(_)
            | CallError::Precondition(_)
            | CallError::Denied(_)
            | CallError::Full(_) => Kind::Usage,
            _ => Kind::Infrastructure,
        };
        if let CallError::Hopeless(why) = &error
            && let Some(local) = why.downcast_ref::<LocalError>()
        {
            return local.into();
        }
        if let CallError::Hopeless(why) = &error
            && why.downcast_ref::<TlsProblem>().is_some()
        {
            return Self::usage("this is not a controller that can be talked to").because(&**why);
        }
        let failure = Self::of(kind, &error);
        match &error {
            CallError::NotFound(_) => failure.help("`haul jobs` lists the jobs that are there"),
            CallError::Full(_) => failure.help("free some space: `haul rm JOB`, `haul env prune`"),
            CallError::Unreachable(_) | CallError::Dial(_) => {
                failure.help("`haul doctor` looks for what is wrong; a job that runs is not harmed")
            }
            CallError::Internal(_) => failure.help("`haul local status` names the controller's log"),
            _ => failure,
        }
    }
}

impl From<&LocalError> for Failure {
    fn from(error: &LocalError) -> Self {
        let kind = if error.is_users_to_mend() {
            Kind::Usage
        } else {
            Kind::Infrastructure
        };
        let failure = Self::of(kind, error);
        match error.advice() {
            Some(advice) => failure.help(advice),
            None => failure,
        }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        (&error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::of(Kind::Usage, &error);
        match error {
            StoreError::Malformed { .. } => failure.help("mend it, or remove it and log in again"),
            StoreError::Io { .. } | StoreError::Unwritable(_) => failure,
        }
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        match error {
            ContextError::Store(error) => error.into(),
            ContextError::Unknown { ref known, .. } => Self::usage(error.to_string())
                .help(format!("there are {}; `haul login` adds one", known.join(", "))),
            ContextError::Credential { .. } => Self::of(Kind::Usage, &error).help("log in again: haul login"),
            ContextError::Variable(_) => Self::of(Kind::Usage, &error),
        }
    }
}

impl From<&ScanError> for Failure {
    fn from(error: &ScanError) -> Self {
        let text = error.to_string();
        let mut lines = text.lines();
        let mut failure = Self::usage(lines.next().unwrap_or_default());
        for line in lines {
            failure = failure.at(line.trim_start());
        }
        if let Some(source) = error.source() {
            failure = failure.because(source);
        }
        match error {
            ScanError::Refused { .. } => {
                failure.help("name what should not be sent in a .haulignore file in that directory")
            }
            ScanError::TooLarge { .. } => {
                failure.help("leave files out by a .haulignore file, or raise --max-snapshot")
            }
            ScanError::Root { .. } => failure.help("name a directory that can be read, by --dir"),
            _ => failure,
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Call(error) => error.into(),
            SubmitError::Send(SendError::Scan(error)) => (&*error).into(),
            SubmitError::Send(SendError::Call(error)) => error.into(),
            SubmitError::Send(SendError::Read(BundleError::Changed { path })) => {
                Self::usage(format!("{path} keeps changing while it is sent"))
                    .help("stop what writes to it, or name it in a .haulignore file")
            }
            SubmitError::Send(error) => Self::of(Kind::Infrastructure, &error),
            SubmitError::SnapshotMissing => Self::of(Kind::Infrastructure, &error),
        }
    }
}

impl From<FollowError> for Failure {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Call(error) => error.into(),
            error => Self::of(Kind::Infrastructure, &error),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Call(error) => error.into(),
            FetchError::Unpack(error @ UnpackError::Exists { .. }) => Self::of(Kind::Usage, &error)
                .help("nothing was written; choose another directory (--to), or replace them (--force)"),
            FetchError::Unpack(error) => Self::of(Kind::Usage, &error),
            error => Self::of(Kind::Infrastructure, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_users_to_mend() {
        let failure = Failure::from(CallError::Full("the disk took no more".to_owned()));
        assert_eq!(failure.exit_code(), exit::USAGE);
        assert!(failure.advice().is_some());
    }
}
