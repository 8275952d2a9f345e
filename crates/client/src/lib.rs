//! Talks to a controller: submits jobs, sends and fetches snapshots, follows what jobs write.
//!
//! | to … | use |
//! |---|---|
//! | reach a controller | [`Client::connect`] with a [`Dial`]; [`UnixSocket`] is the plain one, [`Endpoint`] either kind |
//! | submit a job | [`Client::submit`], or [`Client::submit_directory`], which sends what is missing of its snapshot |
//! | watch it | [`Client::follow`]: survives lost connections, no byte lost or repeated |
//! | read what it wrote | [`Client::read_log`] |
//! | bring a snapshot here | [`Client::fetch`] |
//! | ask for the rest | [`Client`]'s other methods, one for each call of the contract |
//!
//! # What it promises
//!
//! * A lost connection is not an error until it has stayed lost: every call here may be repeated, and is, with growing
//!   jittered waits ([`Backoff`]); each new connection is asked of the [`Dial`], which may start a controller first.
//! * What a stream yields is what was written, byte by byte, however often the connection broke.
//! * Memory is bounded: by the windows of one connection, and by a few frames of a bundle on their way.
//!
//! # What it does not do
//!
//! It knows no terminal, prints nothing, starts no process and reads no environment variable.

mod backoff;
mod call;
mod connect;
mod error;
mod fetch;
mod fleet;
mod follow;
mod identity;
mod jobs;
mod log;
mod nodes;
mod send;
mod submit;
mod view;

pub use backoff::Backoff;
pub use connect::{Client, Dial, DialError, Dialing, Endpoint, UnixSocket};
pub use error::CallError;
pub use fetch::{FetchError, Fetched};
pub use fleet::{Node, Target};
pub use follow::{Follow, FollowError, FollowEvent, FollowJob, FollowTask};
pub use haul_proto::client::NotAToken;
pub use haul_transport::ByteStream;
pub use identity::{
    Authorities, Authority, Caller, NewToken, RotationPhase, RotationStep, TokenInfo, TokenLife,
};
pub use jobs::{JobDetails, JobPage};
pub use log::{LogRange, LogReader};
pub use nodes::{Controller, Environment, EnvironmentCache, Environments, Removed};
pub use send::{Gone, SendError, SendProgress, Sent};
pub use submit::{SubmitError, Submitted};
pub use view::{Job, Task};
