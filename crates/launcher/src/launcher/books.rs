//! Which ends are not acknowledged, and which supervisor's journal holds them. Plain bookkeeping, no I/O.

use std::collections::{BTreeSet, HashMap};

use haul_types::AttemptId;

/// A supervisor's number; its directory's name.
pub(super) type SupervisorNumber = u32;

/// What one journal holds.
#[derive(Debug, Default)]
struct Account {
    open: BTreeSet<u64>,
    last: u64,
    /// Up to which sequence number the journal is synced, as far as is known.
    synced: u64,
}

/// All journals.
#[derive(Debug, Default)]
pub(super) struct Books {
    accounts: HashMap<SupervisorNumber, Account>,
    attempts: HashMap<AttemptId, (SupervisorNumber, u64)>,
}

impl Books {
    /// Notes an end that a journal holds.
    pub(super) fn enter(&mut self, supervisor: SupervisorNumber, sequence: u64, attempt: AttemptId) {
        let account = self.accounts.entry(supervisor).or_default();
        account.open.insert(sequence);
        account.last = account.last.max(sequence);
        self.attempts.insert(attempt, (supervisor, sequence));
    }

    /// Strikes an end out; tells whose it was.
    pub(super) fn acknowledge(&mut self, attempt: AttemptId) -> Option<SupervisorNumber> {
        let (supervisor, sequence) = self.attempts.remove(&attempt)?;
        if let Some(account) = self.accounts.get_mut(&supervisor) {
            account.open.remove(&sequence);
        }
        Some(supervisor)
    }

    /// Whose journal has to be synced before this end may be told; `None` when none has to be.
    pub(super) fn unsynced(&self, attempt: AttemptId) -> Option<SupervisorNumber> {
        let (supervisor, sequence) = self.attempts.get(&attempt)?;
        let account = self.accounts.get(supervisor)?;
        (*sequence > account.synced).then_some(*supervisor)
    }

    /// The last end of this journal that is known, which is what a sync that begins now covers; `None` when it is
    /// synced already.
    pub(super) fn to_sync(&self, supervisor: SupervisorNumber) -> Option<u64> {
        let account = self.accounts.get(&supervisor)?;
        (account.last > account.synced).then_some(account.last)
    }

    /// The journal is synced up to this sequence number.
    pub(super) fn note_synced(&mut self, supervisor: SupervisorNumber, sequence: u64) {
        if let Some(account) = self.accounts.get_mut(&supervisor) {
            account.synced = account.synced.max(sequence);
        }
    }

    /// How many ends of this journal are open.
    pub(super) fn open(&self, supervisor: SupervisorNumber) -> usize {
        self.accounts
            .get(&supervisor)
            .map_or(0, |account| account.open.len())
    }

    /// Up to which sequence number every end is acknowledged.
    pub(super) fn acknowledged(&self, supervisor: SupervisorNumber) -> u64 {
        self.accounts.get(&supervisor).map_or(0, |account| {
            account.open.first().map_or(account.last, |first| first - 1)
        })
    }

    /// Forgets a journal that is gone.
    pub(super) fn close(&mut self, supervisor: SupervisorNumber) {
        self.accounts.remove(&supervisor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul_types::JobId;

    #[test]
    fn acknowledgements_out_of_order_count_up_to_the_first_gap() {
        let attempt = |index| AttemptId::new(JobId::from_bits(1).unwrap(), index, 1);
        let mut books = Books::default();
        for index in 1..=3u32 {
            books.enter(7, u64::from(index) * 2, attempt(index));
        }
        assert_eq!((books.open(7), books.acknowledged(7)), (3, 1));
        assert_eq!(books.acknowledge(attempt(2)), Some(7));
        assert_eq!(books.acknowledged(7), 1);
        assert_eq!(books.acknowledge(attempt(1)), Some(7));
        assert_eq!(books.acknowledged(7), 5);
        assert_eq!(books.acknowledge(attempt(1)), None);
        assert_eq!(books.acknowledge(attempt(3)), Some(7));
        assert_eq!((books.open(7), books.acknowledged(7)), (0, 6));
    }

    #[test]
    fn a_sync_covers_the_ends_that_were_known_when_it_began() {
        let attempt = |index| AttemptId::new(JobId::from_bits(1).unwrap(), index, 1);
        let mut books = Books::default();
        books.enter(7, 2, attempt(1));
        let covered = books.to_sync(7).unwrap();
        books.enter(7, 4, attempt(2));
        books.note_synced(7, covered);
        assert_eq!(books.unsynced(attempt(1)), None);
        assert_eq!(books.unsynced(attempt(2)), Some(7));
        assert_eq!(books.unsynced(attempt(3)), None, "nothing is written of it");
        assert_eq!(books.to_sync(7), Some(4));
        books.note_synced(7, 4);
        assert_eq!((books.to_sync(7), books.unsynced(attempt(2))), (None, None));
    }
}
