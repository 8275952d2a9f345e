//! Wishes: what changes something.

pub(crate) mod authority;
pub(crate) mod cancel;
pub(crate) mod contexts;
pub(crate) mod environments;
pub(crate) mod login;
pub(crate) mod outputs;
pub(crate) mod remove;
pub(crate) mod rerun;
pub(crate) mod tokens;
