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
}
