//! The public gRPC contract: generated code, client and server, and its conversion to and from `haul-types`.
//!
//! This crate alone knows the shapes that tonic generates from `proto/haul/v1`; what it gives out is the messages
//! ([`v1`]), their calls as an enum ([`Rpc`]) and, with the features `client` and `server`, constructors with the limits
//! set ([`client`], [`server`]).

#[cfg(feature = "client")]
pub mod client;
mod convert;
#[cfg(feature = "server")]
pub mod server;

pub use convert::{
    BadMessage, attempt, digests_from_bytes, digests_to_bytes, inventory, job_id, optional_digest, reason,
    task_state,
};

/// The version of the protocol between agents and controllers that this program speaks. A controller takes agents of
/// every version up to its own; so controllers are updated first. 1 had no inventory; 2 has one.
pub const PROTOCOL_VERSION: u32 = 2;

/// The largest message either side takes: a frame of a bundle is at most 8 MiB before compression.
pub const MAX_MESSAGE_BYTES: usize = 10 << 20;

/// The most bytes of a log in one message.
pub const MAX_LOG_FRAME_BYTES: usize = 1 << 20;

/// The metadata in which an agent names the attempt that it makes a call for, as `JOB.TASK.ATTEMPT`.
pub const ATTEMPT_METADATA: &str = "haul-attempt";

/// The calls of the contract, made from it when this crate is built.
mod rpc {
    include!(concat!(env!("OUT_DIR"), "/rpc.rs"));
}
pub use rpc::Rpc;

/// The messages and services of `haul.v1`, as generated.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        reason = "generated; documented in proto/haul/v1"
    )]
    #![allow(
        unused_qualifications,
        clippy::semicolon_if_nothing_returned,
        clippy::needless_pass_by_value,
        reason = "generated"
    )]
    tonic::include_proto!("haul.v1");
}
