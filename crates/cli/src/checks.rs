//! The installation itself: is all there, which version is it, and where is the private controller.

pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod local;
mod shared;
pub mod version;
