//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from `first` to `longest`, each shortened at random by up to half, so that clients that lost
/// the same controller do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: Option<u32>,
    made: u32,
}

impl Backoff {
    /// For a call that somebody waits for: six tries within about two seconds.
    #[must_use]
    pub const fn brief() -> Self {
        Self {
            first: Duration::from_millis(25),
            longest: Duration::from_secs(1),
            tries: Some(6),
            made: 0,
        }
    }

    /// For a stream that should go on whatever happens: for ever, at most 5 s apart.
    #[must_use]
    pub const fn lasting() -> Self {
        Self {
            first: Duration::from_millis(25),
            longest: Duration::from_secs(5),
            tries: None,
            made: 0,
        }
    }

    /// The next wait; none when no try is left.
    pub fn next_wait(&mut self) -> Option<Duration> {
        if self.tries.is_some_and(|tries| self.made + 1 >= tries) {
            return None;
        }
        let doubled = self.first.saturating_mul(1u32 << self.made.min(16));
        self.made += 1;
        let full = doubled.min(self.longest);
        Some(full.mul_f64(1.0 - random_unit() / 2.0))
    }

    /// How many tries have failed since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.made
    }

    /// It worked: the next failure is the first again.
    pub const fn reset(&mut self) {
        self.made = 0;
    }
}

/// A number from 0 to below 1. A UUID's random bits are all the randomness that waiting needs.
fn random_unit() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u64_pair().1 & 0xffff_ffff;
    bits as f64 / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_start_again() {
        let mut backoff = Backoff::lasting();
        for place in 0..40u32 {
            let full = Duration::from_millis(25)
                .saturating_mul(1 << place.min(16))
                .min(Duration::from_secs(5));
            let wait = backoff.next_wait().unwrap();
            assert!(wait <= full && wait >= full / 2, "{wait:?} at {place}");
        }
        backoff.reset();
        assert!(backoff.next_wait().unwrap() <= Duration::from_millis(25));
    }

    #[test]
    fn a_brief_one_ends() {
        let mut backoff = Backoff::brief();
        assert_eq!(std::iter::from_fn(|| backoff.next_wait()).count(), 5);
    }
}
