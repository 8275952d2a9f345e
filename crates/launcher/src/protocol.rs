//! What an agent and a launcher of its own say to each other, over a Unix socket.

use std::path::PathBuf;

use haul_types::AttemptId;
use serde::{Deserialize, Serialize};

use crate::cgroup::Enforced;
use crate::octets;
use crate::order::{AttemptOrder, ExitRecord, StopReason};

/// The form of what follows. Both sides say it first, and go on only if it is the same: they are installed together.
pub(crate) const VERSION: u32 = 1;

/// From the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ToLauncher {
    /// First.
    Hello { version: u32 },
    /// Start this in that working directory. Said again after a lost connection, until it is answered.
    Start {
        order: Box<AttemptOrder>,
        #[serde(with = "octets::one")]
        workdir: PathBuf,
    },
    /// Stop it, if it runs.
    Stop { attempt: AttemptId, why: StopReason },
    /// Forget its end.
    Acknowledge { attempt: AttemptId },
    /// Make the working directory the agent's again. Said again after a lost connection, until it is answered.
    TakeBack {
        request: u64,
        #[serde(with = "octets::one")]
        workdir: PathBuf,
    },
    /// First, instead of a hello: what is there to see. Answered by a welcome, and the agent that is connected stays.
    Look { version: u32 },
}

/// From the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromLauncher {
    /// First.
    Welcome {
        version: u32,
        /// Attempts that may run at a time: each has a user of its own.
        users: u32,
        enforced: Enforced,
        /// Every attempt that is not acknowledged.
        attempts: Vec<(AttemptId, Standing)>,
    },
    /// Why there is no welcome.
    Refused { why: String },
    /// The answer to a start: it has a supervisor, or never will have one.
    Started {
        attempt: AttemptId,
        refused: Option<String>,
    },
    /// It has ended.
    Ended(ExitRecord),
    /// The answer to a request.
    TakenBack { request: u64, refused: Option<String> },
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Its supervisor has it.
    Running,
    /// It has ended.
    Ended(ExitRecord),
}
