//! What only a user's private controller does: it keeps an agent beside it, and goes when nothing needs it.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::Engine;

/// The exit code of an agent that finds another one in its place: the one that outlived an earlier controller, which
/// will connect to this one by itself.
const AGENT_ALREADY_RUNNING: i32 = 75;

/// The shortest and the longest pause before an agent that ended is started again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Starts the agent, and starts it again whenever it ends or its session does.
pub(crate) fn keep_agent(
    tasks: &TaskTracker,
    engine: Arc<Engine>,
    command: Vec<OsString>,
    shutdown: CancellationToken,
) {
    tasks.spawn(async move {
        let mut pause = PAUSE.0;
        while !shutdown.is_cancelled() {
            if engine.sessions.any_connected() {
                pause = PAUSE.0;
                tokio::select! {
                    () = engine.nodes_changed.notified() => {}
                    () = shutdown.cancelled() => return,
                }
                continue;
            }
            match run_agent(&command, &engine, &shutdown).await {
                Ok(Some(AGENT_ALREADY_RUNNING)) => {
                    tracing::debug!("the agent of an earlier controller is there");
                }
                Ok(code) => tracing::warn!(?code, "the agent ended"),
                Err(error) => tracing::error!(%error, program = ?command.first(), "cannot start the agent"),
            }
            tokio::select! {
                () = engine.nodes_changed.notified() => {}
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
                () = shutdown.cancelled() => return,
            }
        }
    });
}

/// Runs the agent to its end. It is not stopped with the controller: it leaves by itself, once its jobs have ended.
async fn run_agent(
    command: &[OsString],
    engine: &Engine,
    shutdown: &CancellationToken,
) -> std::io::Result<Option<i32>> {
    let [program, arguments @ ..] = command else {
        return Ok(None);
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        // Ours may still be the pipe on which whoever started us waits for our own first word.
        .stdout(std::io::stderr())
        .spawn()?;
    tracing::info!(
        pid = child.id(),
        nodes = engine.nodes().len(),
        "started the agent"
    );
    tokio::select! {
        status = child.wait() => Ok(status?.code()),
        () = shutdown.cancelled() => Ok(None),
    }
}

/// Ends the controller once nothing has needed it for `timeout`.
pub(crate) fn leave_when_idle(
    tasks: &TaskTracker,
    engine: Arc<Engine>,
    timeout: Duration,
    shutdown: CancellationToken,
) {
    tasks.spawn(async move {
        loop {
            let idle = engine.idle_for().unwrap_or_default();
            if idle >= timeout {
                tracing::info!(?timeout, "nothing needs this controller any more");
                shutdown.cancel();
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(timeout - idle) => {}
                () = shutdown.cancelled() => return,
            }
        }
    });
}
