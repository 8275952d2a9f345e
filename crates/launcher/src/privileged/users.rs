//! As whom jobs run: each attempt as a user that no other has while its directory is that user's.
//!
//! Users of one job and another differ, so the kernel keeps them apart everywhere: files, signals, `/proc`, ptrace.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::{are_ordinary, is_ordinary};

/// The users of jobs, and their group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobUsers {
    uids: RangeInclusive<u32>,
    gid: u32,
}

/// Why these cannot be users of jobs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJobUsers {
    /// Root among them, or an id that stands for nobody.
    #[error("jobs never run as user {0}: name users that exist for jobs alone")]
    Uid(u32),
    /// Root's group, or one that stands for nobody.
    #[error("jobs never run as group {0}: name a group that exists for jobs alone")]
    Gid(u32),
    /// None.
    #[error("there is no user in {0}-{1}")]
    Empty(u32, u32),
    /// The agent's own.
    #[error("user {0} is the agent's own: a job that ran as it could read the agent's key")]
    Agent(u32),
}

impl JobUsers {
    /// The users `uids`, all with the group `gid`; `agent_uid` must not be one of them.
    pub fn new(uids: RangeInclusive<u32>, gid: u32, agent_uid: u32) -> Result<Self, NotJobUsers> {
        if uids.is_empty() {
            return Err(NotJobUsers::Empty(*uids.start(), *uids.end()));
        }
        if !are_ordinary(&uids) {
            return Err(NotJobUsers::Uid(if *uids.start() == 0 { 0 } else { *uids.end() }));
        }
        if !is_ordinary(gid) {
            return Err(NotJobUsers::Gid(gid));
        }
        if uids.contains(&agent_uid) {
            return Err(NotJobUsers::Agent(agent_uid));
        }
        Ok(Self { uids, gid })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.uids.end() - self.uids.start() + 1
    }

    pub(super) const fn gid(&self) -> u32 {
        self.gid
    }

    pub(super) fn uids(&self) -> RangeInclusive<u32> {
        self.uids.clone()
    }

    pub(super) fn contains(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }
}

/// An account of this machine: its user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
}

/// An account that is not there.
#[derive(Debug, thiserror::Error)]
pub enum NoAccount {
    /// Not a user.
    #[error("there is no user {0:?} on this machine")]
    User(String),
    /// Not a group.
    #[error("there is no group {0:?} on this machine")]
    Group(String),
}

impl Account {
    /// The user of that name.
    pub fn named(name: &str) -> Result<Self, NoAccount> {
        let found = nix::unistd::User::from_name(name).ok().flatten();
        let found = found.ok_or_else(|| NoAccount::User(name.to_owned()))?;
        Ok(Self {
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
        })
    }
}

/// The number of the group of that name.
pub fn group_named(name: &str) -> Result<u32, NoAccount> {
    let found = nix::unistd::Group::from_name(name).ok().flatten();
    found
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| NoAccount::Group(name.to_owned()))
}

/// Which user has which working directory.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<u32, PathBuf>);

impl Taken {
    /// Notes a directory that belongs to a user of jobs already.
    pub(super) fn note(&mut self, uid: u32, workdir: PathBuf) {
        self.0.insert(uid, workdir);
    }

    /// A user that has no directory; it has this one from now on.
    pub(super) fn take(&mut self, users: &JobUsers, workdir: &Path) -> Option<u32> {
        let uid = users.uids.clone().find(|uid| !self.0.contains_key(uid))?;
        self.0.insert(uid, workdir.to_owned());
        Some(uid)
    }

    /// The directory is the agent's again.
    pub(super) fn free(&mut self, workdir: &Path) {
        self.0.retain(|_, taken| taken != workdir);
    }

    /// Whose the directory is.
    pub(super) fn holder(&self, workdir: &Path) -> Option<u32> {
        self.0
            .iter()
            .find(|(_, taken)| *taken == workdir)
            .map(|(uid, _)| *uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_runs_jobs_as_root_nor_as_the_agent() {
        let new = |uids, gid| JobUsers::new(uids, gid, 900);
        assert_eq!(new(0..=5, 7), Err(NotJobUsers::Uid(0)));
        assert_eq!(new(65_000..=66_000, 7), Err(NotJobUsers::Uid(66_000)));
        assert_eq!(new(1000..=1001, 0), Err(NotJobUsers::Gid(0)));
        assert_eq!(new(890..=910, 7), Err(NotJobUsers::Agent(900)));
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let reversed = new(9..=8, 7);
        assert_eq!(reversed, Err(NotJobUsers::Empty(9, 8)));
        assert_eq!(new(1000..=1007, 7).unwrap().count(), 8);
    }

    #[test]
    fn no_two_directories_share_a_user() {
        let users = JobUsers::new(1000..=1001, 7, 900).unwrap();
        let mut taken = Taken::default();
        let (a, b) = (Path::new("/w/1"), Path::new("/w/2"));
        assert_eq!(taken.take(&users, a), Some(1000));
        assert_eq!(taken.take(&users, b), Some(1001));
        assert_eq!(taken.take(&users, Path::new("/w/3")), None);
        assert_eq!(taken.holder(b), Some(1001));
        taken.free(a);
        assert_eq!(taken.take(&users, Path::new("/w/3")), Some(1000));
    }
}
