//! What somebody has lately been told is here.
//!
//! A client asks which chunks are missing, sends those, and only then names the snapshot: until it does, nothing else
//! keeps the chunks alive that it was told it need not send. They are remembered here for a while, by eight bytes of
//! their digest: two that agree in those keep each other, which costs a little space and loses nothing.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use haul_types::Digest;

/// Two generations: one that is added to, and the one before it.
#[derive(Debug)]
pub(super) struct Promises {
    current: HashSet<u64>,
    previous: HashSet<u64>,
    since: Instant,
}

impl Promises {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            current: HashSet::new(),
            previous: HashSet::new(),
            since: now,
        }
    }

    pub(super) fn add(&mut self, digests: impl IntoIterator<Item = Digest>) {
        self.current.extend(digests.into_iter().map(key));
    }

    pub(super) fn holds(&self, digest: Digest) -> bool {
        let key = key(digest);
        self.current.contains(&key) || self.previous.contains(&key)
    }

    /// Forgets some of what was added more than `grace` ago, and nothing that was added since.
    pub(super) fn forget(&mut self, now: Instant, grace: Duration) {
        if now.saturating_duration_since(self.since) >= grace {
            self.previous = std::mem::take(&mut self.current);
            self.since = now;
        }
    }
}

fn key(digest: Digest) -> u64 {
    let (first, _) = digest
        .as_bytes()
        .split_first_chunk()
        .expect("32 bytes begin with 8");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_for_the_grace_and_forgotten_after_two() {
        let (start, grace) = (Instant::now(), Duration::from_secs(60));
        let digest = Digest::of(b"promised");
        let mut promises = Promises::new(start);
        promises.forget(start + grace / 2, grace);
        promises.add([digest]);
        promises.forget(start + grace, grace);
        assert!(promises.holds(digest), "half the grace has passed");
        promises.forget(start + grace + grace / 2, grace);
        assert!(promises.holds(digest));
        promises.forget(start + grace * 2, grace);
        assert!(!promises.holds(digest));
    }
}
