//! The one stream to the controller: hello, assignments in, updates out; for ever reconnecting.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_client::{Backoff, CallError};
use haul_proto::{self as proto, v1};
use haul_types::{AttemptId, JobSpec};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::held::Forgotten;
use crate::{Agent, attempt, environments};

/// Messages that wait to be sent; updates are gathered while they do.
const AHEAD: usize = 4;
/// News that nobody waits for are gathered for so long.
const GATHERING: Duration = Duration::from_millis(2);
/// A private agent without controller and without anything to do leaves after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A private controller that is gone is started again after so long, if jobs are left.
const BEFORE_RESTART: Duration = Duration::from_millis(500);

/// Why a session ended.
enum End {
    Farewell,
    Broken(Status),
}

/// Keeps a session until `shutdown`, or until a private agent is of no more use.
pub(crate) async fn run(agent: &Arc<Agent>, shutdown: &CancellationToken) {
    let mut backoff = Backoff::lasting();
    let mut lost = Instant::now();
    let mut farewell = false;
    let mut told = String::new();
    loop {
        tokio::select! {
            end = session(agent) => match end {
                Ok((End::Farewell, _)) => {
                    farewell = true;
                    lost = Instant::now();
                }
                Ok((End::Broken(status), _)) => {
                    tracing::info!(%status, "the session broke");
                    told.clear();
                    farewell = false;
                    lost = Instant::now();
                    backoff = Backoff::lasting();
                }
                Err(status) if is_refusal(&status) => {
                    let revoked = status.code() == Code::PermissionDenied;
                    tell("the controller does not take this agent", status.message(), &mut told);
                    if revoked {
                        // Its jobs are given up for lost, and no process outlives its job.
                        agent.held.stop_all();
                    }
                }
                Err(status) => {
                    let reason = haul_daemon::with_causes(&CallError::from(status));
                    tell("no session with the controller; trying again", &reason, &mut told);
                }
            },
            () = shutdown.cancelled() => return,
        }
        if agent.config.private {
            if agent.held.is_empty() && (farewell || lost.elapsed() > PATIENCE) {
                tracing::info!("the controller has gone, and nothing is left to do");
                return;
            }
            if !agent.held.is_empty() && lost.elapsed() > BEFORE_RESTART {
                restart_controller(agent).await;
            }
        }
        let wait = backoff.next_wait().unwrap_or(PATIENCE);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Whether a controller answered, and does not want this agent: somebody has to do something about it.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::AlreadyExists | Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied
    )
}

/// Says why there is no session, once for each reason in a row.
fn tell(what: &str, reason: &str, told: &mut String) {
    if *told != reason {
        tracing::warn!(reason, "{what}");
        reason.clone_into(told);
    }
}

/// Starts the private controller again; it waits for a while itself if another one is being started.
async fn restart_controller(agent: &Agent) {
    let Some([program, arguments @ ..]) = agent.config.restart_controller.as_deref() else {
        return;
    };
    tracing::info!("jobs are left: starting the controller again");
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .await;
    if let Err(error) = status {
        tracing::error!(%error, ?program, "cannot start the controller");
    }
}

/// One session. An error: there never was one.
async fn session(agent: &Arc<Agent>) -> Result<(End, ()), Status> {
    let held = agent.held.again();
    let hello = v1::AgentHello {
        node: agent.config.node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: agent.config.slots,
        held: held.into_iter().map(Into::into).collect(),
        protocol: proto::PROTOCOL_VERSION,
        inventory: Some((&crate::inventory::inventory(&agent.config)).into()),
        instance: agent.identity.instance.clone(),
        process: agent.identity.process.clone(),
    };
    let (sender, outgoing) = mpsc::channel(AHEAD);
    let hello = v1::SessionRequest {
        message: Some(v1::session_request::Message::Hello(hello)),
    };
    let _ = sender.try_send(hello);
    let call = proto::client::agent(agent.client.calls())
        .session(ReceiverStream::new(outgoing))
        .await?;
    let mut incoming = call.into_inner();
    // The welcome comes first; until then the controller may still refuse.
    match incoming.message().await? {
        Some(v1::SessionResponse {
            message: Some(v1::session_response::Message::Welcome(welcome)),
        }) => {
            tracing::info!(
                version = welcome.version,
                unwanted = welcome.unwanted.len(),
                "connected"
            );
            for reference in &welcome.unwanted {
                forget(agent, reference).await?;
            }
        }
        _ => return Err(Status::internal("the controller did not answer the hello")),
    }
    agent.shipper.connected(agent.client.clone()).await;
    // Whatever was said before goes with the first batch.
    agent.held.now.notify_one();
    Ok(tokio::select! {
        status = listen(agent, &mut incoming, &sender) => (status, ()),
        () = speak(agent, &sender) => (End::Broken(Status::unavailable("the stream closed")), ()),
    })
}

/// Sends updates, as many at once as have gathered.
async fn speak(agent: &Agent, sender: &mpsc::Sender<v1::SessionRequest>) {
    loop {
        tokio::select! {
            () = agent.held.now.notified() => {}
            () = agent.held.soon.notified() => {
                let _ = tokio::time::timeout(GATHERING, agent.held.now.notified()).await;
            }
        }
        let Ok(permit) = sender.reserve().await else {
            return;
        };
        let updates = agent.held.unsent();
        if !updates.is_empty() {
            let updates = v1::TaskUpdates { updates };
            permit.send(v1::SessionRequest {
                message: Some(v1::session_request::Message::Updates(updates)),
            });
        }
    }
}

async fn listen(
    agent: &Arc<Agent>,
    incoming: &mut tonic::Streaming<v1::SessionResponse>,
    sender: &mpsc::Sender<v1::SessionRequest>,
) -> End {
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return End::Broken(Status::unavailable("the controller closed the session")),
            Err(status) => return End::Broken(status),
        };
        match take(agent, message, sender).await {
            Ok(true) => {}
            Ok(false) => return End::Farewell,
            Err(status) => return End::Broken(status),
        }
    }
}

/// Takes one message; whether the session goes on.
async fn take(
    agent: &Arc<Agent>,
    message: v1::SessionResponse,
    sender: &mpsc::Sender<v1::SessionRequest>,
) -> Result<bool, Status> {
    use v1::session_response::Message as In;
    match message.message {
        Some(In::Assignments(assignments)) => {
            for assignment in &assignments.assignments {
                assign(agent, assignment)?;
            }
        }
        Some(In::Stop(stop)) => agent
            .held
            .stop(proto::attempt(stop.attempt.as_ref()).map_err(broken)?),
        Some(In::Acknowledged(acknowledged)) => {
            for reference in &acknowledged.attempts {
                forget(agent, reference).await?;
            }
        }
        Some(In::Environments(query)) => {
            let (agent, sender) = (Arc::clone(agent), sender.clone());
            agent.clone().tasks.spawn(async move {
                // Not in use any more, whatever may come.
                agent.jobs.let_go_of_idle(|job| agent.held.holds_job(job));
                let answer = environments::answer(&agent.environments, query).await;
                let message = Some(v1::session_request::Message::Environments(answer));
                let _ = sender.send(v1::SessionRequest { message }).await;
            });
        }
        Some(In::Farewell(_)) => return Ok(false),
        // A newer controller says something that this agent does not know; or a second welcome.
        Some(In::Welcome(_)) | None => {}
    }
    Ok(true)
}

#[allow(clippy::needless_pass_by_value, reason = "the form that `map_err` calls")]
fn broken(error: proto::BadMessage) -> Status {
    Status::internal(format!("the controller sent a malformed message: {error}"))
}

fn assign(agent: &Arc<Agent>, assignment: &v1::Assignment) -> Result<(), Status> {
    let job = proto::job_id(&assignment.job_id).map_err(broken)?;
    let spec = assignment
        .spec
        .as_ref()
        .ok_or_else(|| Status::internal("an assignment without a spec"))?;
    let spec = JobSpec::try_from(spec).map_err(broken)?;
    let context = agent.jobs.enter(job, spec);
    for task in &assignment.tasks {
        let id = AttemptId::new(job, task.task_index, task.attempt);
        if let Some(stop) = agent.held.take(id) {
            agent
                .tasks
                .spawn(attempt::run(Arc::clone(agent), Arc::clone(&context), id, stop));
        }
    }
    Ok(())
}

/// The controller has stored an attempt's end, or does not want it: all that it left can go.
async fn forget(agent: &Arc<Agent>, reference: &v1::AttemptRef) -> Result<(), Status> {
    let attempt = AttemptId::try_from(reference).map_err(broken)?;
    if agent.held.forget(attempt) == Forgotten::Ended {
        agent.discard(attempt).await;
    }
    Ok(())
}

impl Agent {
    /// Throws away what is left of an attempt whose end is stored.
    pub(crate) async fn discard(self: &Arc<Self>, attempt: AttemptId) {
        self.shipper.forget(attempt).await;
        if let Err(error) = self.launcher.acknowledge(attempt) {
            tracing::warn!(%attempt, %error, "cannot give the exit record up");
        }
        self.jobs.discard(attempt);
        if !self.held.holds_job(attempt.task.job) {
            self.jobs.leave_later(self, attempt.task.job);
        }
    }
}
