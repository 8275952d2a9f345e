//! The time, as whoever drives the machine reads it.

use std::time::Duration;

/// One moment by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in milliseconds since 1970; it may step, and is for display.
    pub unix_ms: u64,
    /// A clock that never runs backwards, from any beginning; limits of time are measured by it.
    pub monotonic: Duration,
}
