//! State machines without I/O: what a controller decides, apart from how it is carried out.
//!
//! [`Dispatch`] holds every job that has not ended and every node; each event goes through [`Dispatch::step`], which
//! changes the state and says what is to be stored and what is to be sent once that is durable. It reads no clock,
//! opens no file and knows no network, so that whole histories can be tried in a test.
//!
//! A task's life ([`task`]):
//!
//! ```text
//!             Assigned            Started            Exited
//!   queued ────────────► preparing ──────► running ────────► finalizing ──► succeeded | failed | canceled
//!     ▲  │                   │   │            │                                 ▲
//!     │  └── cancel ─────────┼───┼────────────┼─────────────────────────────────┤
//!     ├───── Retried ────────┘   └── cannot be prepared, canceled, lost, … ─────┘
//!     └───── Retried, Replaced ─────────────┘
//! ```

mod clock;
pub mod dispatch;
mod job;
pub mod placement;
pub mod task;

pub use clock::Now;
pub use dispatch::{Dispatch, Effects, Event, FleetChange, Held, Hello, Message, Refused};
pub use task::{Update, UpdateEffect};
