//! Runs jobs on one machine.
