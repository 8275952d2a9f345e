//! What every daemon of Haul does the same: where it logs, which signals end it, how it words its errors, how it reads
//! its configuration, how many files it may open, that it keeps out of others' state, and as whom root makes what it
//! will read.

mod config;
mod files;
mod owner;

use std::error::Error;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

pub use config::{ConfigError, read_config, read_config_if_there};
pub use files::raise_open_files;
pub use owner::{Acting, OwnerError, become_owner, ensure_own};

/// Logs to standard error, which the daemon's parent has pointed somewhere. `HAUL_LOG` sets how much, in the form of
/// `tracing`'s filters; `info` unless set.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("HAUL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
}

/// A token that is canceled by SIGINT or SIGTERM. Call within a runtime.
pub fn shutdown_on_signals() -> io::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let canceled = shutdown.clone();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    TaskTracker::new().spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = canceled.cancelled() => {}
        }
        canceled.cancel();
    });
    Ok(shutdown)
}

/// An error with its causes, in one line.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |cause| format!("{error}: {}", with_causes(cause)),
    )
}
