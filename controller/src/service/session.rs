//! The agents that are connected, and what is to be said to them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use haul_lifecycle::Message;
use haul_proto::{PROTOCOL_VERSION, v1};
use haul_types::{AttemptId, NodeName};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::engine::{addressee, lock};

/// Messages that wait for an agent. What an agent may hold is bounded, so this many pile up only if it has stopped
/// reading; it is then cut off, and everything is said again when it comes back.
const AHEAD: usize = 1024;

type Outgoing = Result<v1::SessionResponse, Status>;

struct Session {
    number: u64,
    version: String,
    /// What tells the agent's process from every other; empty if it does not say.
    process: String,
    sender: mpsc::Sender<Outgoing>,
    /// Questions about environments that wait for their answer.
    questions: HashMap<u64, oneshot::Sender<v1::EnvironmentAnswer>>,
}

/// Another agent of the same name is connected.
pub(crate) struct NameTaken;

/// All sessions, one for each node.
#[derive(Default)]
pub(crate) struct Sessions {
    sessions: Mutex<HashMap<NodeName, Session>>,
    next_question: AtomicU64,
}

impl Sessions {
    /// A new session of `node`. One of the same process that is still open is cut off: the process has lost it. One of
    /// another process stays: two agents of one name would take the node from each other for ever, so the second is
    /// refused while the first is there. A connection that is dead without having been closed counts as there until
    /// its pings are missed.
    pub(crate) fn open(
        &self,
        node: NodeName,
        number: u64,
        version: String,
        process: String,
    ) -> Result<mpsc::Receiver<Outgoing>, NameTaken> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let session = Session {
            number,
            version,
            process,
            sender,
            questions: HashMap::new(),
        };
        let mut sessions = lock(&self.sessions);
        if let Some(known) = sessions.get(&node) {
            let told = !known.process.is_empty() && !session.process.is_empty();
            if told && known.process != session.process && !known.sender.is_closed() {
                return Err(NameTaken);
            }
        }
        sessions.insert(node, session);
        Ok(receiver)
    }

    /// Tells an agent why it is not taken, and ends its session.
    pub(crate) fn refuse(&self, node: &NodeName, number: u64, status: Status) {
        let mut sessions = lock(&self.sessions);
        if let Some(session) = sessions.get(node).filter(|session| session.number == number) {
            let _ = session.sender.try_send(Err(status));
            sessions.remove(node);
        }
    }

    /// The session has ended; another one of the same node stays.
    pub(crate) fn close(&self, node: &NodeName, number: u64) {
        let mut sessions = lock(&self.sessions);
        if sessions.get(node).is_some_and(|session| session.number == number) {
            sessions.remove(node);
        }
    }

    /// Whether any agent is connected.
    pub(crate) fn any_connected(&self) -> bool {
        !lock(&self.sessions).is_empty()
    }

    /// The version of a node's agent.
    pub(crate) fn version(&self, node: &NodeName) -> Option<String> {
        lock(&self.sessions)
            .get(node)
            .map(|session| session.version.clone())
    }

    /// Says something to an agent. If it is not there, it will hear of it when it comes back.
    pub(crate) fn send(&self, message: Message) {
        let node = addressee(&message).clone();
        self.push(&node, outgoing(message));
    }

    fn push(&self, node: &NodeName, message: v1::session_response::Message) {
        let mut sessions = lock(&self.sessions);
        let Some(session) = sessions.get(node) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = session.sender.try_send(Ok(v1::SessionResponse {
            message: Some(message),
        })) {
            tracing::warn!(%node, "the agent does not read what it is sent: its session is cut off");
            sessions.remove(node);
        }
    }

    /// Asks an agent about its environments.
    pub(crate) async fn ask(
        &self,
        node: &NodeName,
        query: v1::environment_query::Query,
    ) -> Result<v1::environment_answer::Answer, Status> {
        let id = self.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let gone = || Status::unavailable(format!("node {node} is not connected"));
        lock(&self.sessions)
            .get_mut(node)
            .ok_or_else(gone)?
            .questions
            .insert(id, sender);
        let query = v1::EnvironmentQuery {
            id,
            query: Some(query),
        };
        self.push(node, v1::session_response::Message::Environments(query));
        match receiver.await.ok().and_then(|answer| answer.answer) {
            Some(v1::environment_answer::Answer::Error(error)) => Err(Status::failed_precondition(error)),
            Some(answer) => Ok(answer),
            None => Err(gone()),
        }
    }

    /// An agent answers.
    pub(crate) fn answer(&self, node: &NodeName, answer: v1::EnvironmentAnswer) {
        let question = lock(&self.sessions)
            .get_mut(node)
            .and_then(|session| session.questions.remove(&answer.id));
        if let Some(question) = question {
            let _ = question.send(answer);
        }
    }

    /// Tells every agent that the controller goes, and ends the sessions.
    pub(crate) fn farewell(&self) {
        for (_, session) in lock(&self.sessions).drain() {
            let message = Some(v1::session_response::Message::Farewell(v1::Farewell {}));
            let _ = session.sender.try_send(Ok(v1::SessionResponse { message }));
        }
    }
}

fn references(attempts: Vec<AttemptId>) -> Vec<v1::AttemptRef> {
    attempts.into_iter().map(Into::into).collect()
}

fn outgoing(message: Message) -> v1::session_response::Message {
    use v1::session_response::Message as Out;
    match message {
        Message::Assign { job, spec, tasks, .. } => {
            let tasks = tasks
                .into_iter()
                .map(|(task_index, attempt)| v1::AssignedTask { task_index, attempt })
                .collect();
            let assignment = v1::Assignment {
                job_id: job.to_string(),
                spec: Some((&*spec).into()),
                tasks,
            };
            Out::Assignments(v1::Assignments {
                assignments: vec![assignment],
            })
        }
        Message::Stop { attempt, .. } => Out::Stop(v1::StopAttempt {
            attempt: Some(attempt.into()),
        }),
        Message::Acknowledge { attempts, .. } => Out::Acknowledged(v1::Acknowledged {
            attempts: references(attempts),
        }),
        Message::Welcome { unwanted, .. } => Out::Welcome(v1::Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unwanted: references(unwanted),
            protocol: PROTOCOL_VERSION,
        }),
    }
}
