//! What agent and supervisor say to each other.

use haul_types::AttemptId;
use serde::{Deserialize, Serialize};

use crate::order::{AttemptOrder, ExitRecord, StopReason};
use crate::user::JobUser;

/// From the agent. An adopted supervisor hears `Stop` alone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSupervisor {
    /// Start this. Said to an idle supervisor only.
    Run {
        /// The journal may forget the ends up to this sequence number.
        acknowledged: u64,
        /// What to start.
        order: Box<AttemptOrder>,
        /// As whom, if not as the supervisor itself.
        user: Option<JobUser>,
    },
    /// Stop this attempt, if it is the one that runs.
    Stop {
        /// Which.
        attempt: AttemptId,
        /// Why.
        why: StopReason,
    },
    /// Nothing more will come. Said to an idle supervisor only.
    Quit {
        /// As in `Run`; when it covers all that the journal holds, the supervisor removes its directory.
        acknowledged: u64,
    },
}

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSupervisor {
    /// The journal is made and locked: orders are welcome.
    Ready,
    /// The main process runs. Held back for a moment, so that the end of a short attempt comes in the same write.
    Started {
        /// Which attempt.
        attempt: AttemptId,
        /// Its main process.
        pid: i32,
    },
    /// The attempt has ended, and the journal says so. It is not synced: the supervisor is free for the next order.
    Ended {
        /// Where in the journal: what `acknowledged` refers to.
        sequence: u64,
        /// The end.
        record: ExitRecord,
    },
}
