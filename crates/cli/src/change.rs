//! Wishes: what changes something.

pub(crate) mod cancel;
pub(crate) mod environments;
pub(crate) mod outputs;
pub(crate) mod remove;
pub(crate) mod rerun;
