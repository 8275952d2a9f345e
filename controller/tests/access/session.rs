//! An agent as the controller sees it: what it says, without a job that runs.

use haul_client::Client;
use haul_proto::{PROTOCOL_VERSION, client, v1};
use haul_types::{AttemptId, Digest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use v1::session_request::Message as Say;
use v1::session_response::Message as Heard;

/// A session that was welcomed.
pub(crate) struct Session {
    pub(crate) say: mpsc::Sender<v1::SessionRequest>,
    pub(crate) hear: Streaming<v1::SessionResponse>,
}

fn message(message: Say) -> v1::SessionRequest {
    v1::SessionRequest {
        message: Some(message),
    }
}

/// A step of an attempt.
pub(crate) fn step(attempt: AttemptId, state: v1::TaskState) -> v1::TaskUpdate {
    let reason = match state {
        v1::TaskState::Running => v1::Reason::Started,
        _ => v1::Reason::Exited,
    };
    v1::TaskUpdate {
        attempt: Some(attempt.into()),
        state: state.into(),
        reason: reason.into(),
        ..v1::TaskUpdate::default()
    }
}

/// A successful end that names outputs.
pub(crate) fn end_with(attempt: AttemptId, outputs: Digest) -> v1::TaskUpdate {
    v1::TaskUpdate {
        outputs: outputs.as_bytes().to_vec(),
        ..step(attempt, v1::TaskState::Succeeded)
    }
}

impl Session {
    /// Says hello as `node`, and waits for the welcome.
    pub(crate) async fn open(client: &Client, node: &str, held: &[AttemptId]) -> Result<Self, Status> {
        // A test never has more to say before it listens again.
        let (say, said) = mpsc::channel(16);
        let hello = v1::AgentHello {
            node: node.to_owned(),
            slots: 8,
            held: held.iter().map(|&attempt| attempt.into()).collect(),
            protocol: PROTOCOL_VERSION,
            instance: format!("state of {node}"),
            process: format!("process of {node}"),
            ..v1::AgentHello::default()
        };
        say.send(message(Say::Hello(hello))).await.unwrap();
        let answer = client::agent(client.calls())
            .session(ReceiverStream::new(said))
            .await?;
        let mut session = Self {
            say,
            hear: answer.into_inner(),
        };
        session
            .until(|heard| matches!(heard, Heard::Welcome(_)).then_some(()))
            .await?;
        Ok(session)
    }

    /// Listens until something was said that is looked for.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(Heard) -> Option<T>) -> Result<T, Status> {
        loop {
            let heard = self.hear.message().await?;
            let heard = heard.ok_or_else(|| Status::unavailable("the session has ended"))?;
            if let Some(found) = heard.message.and_then(&mut wanted) {
                return Ok(found);
            }
        }
    }

    /// The next attempt that is assigned.
    pub(crate) async fn assigned(&mut self) -> AttemptId {
        self.until(|heard| match heard {
            Heard::Assignments(assignments) => {
                let assignment = &assignments.assignments[0];
                let task = &assignment.tasks[0];
                Some(format!(
                    "{}.{}.{}",
                    assignment.job_id, task.task_index, task.attempt
                ))
            }
            _ => None,
        })
        .await
        .unwrap()
        .parse()
        .unwrap()
    }

    pub(crate) async fn tell(&self, update: v1::TaskUpdate) {
        let updates = v1::TaskUpdates {
            updates: vec![update],
        };
        self.say.send(message(Say::Updates(updates))).await.unwrap();
    }

    /// Tells of an end, and waits until it is acknowledged.
    pub(crate) async fn finish(&mut self, update: v1::TaskUpdate) {
        let attempt = update.attempt.clone();
        self.tell(update).await;
        self.until(|heard| match heard {
            Heard::Acknowledged(ends) => ends
                .attempts
                .iter()
                .any(|ended| Some(ended) == attempt.as_ref())
                .then_some(()),
            _ => None,
        })
        .await
        .unwrap();
    }

    /// Ends it in good order: all that was said has been taken.
    pub(crate) async fn close(self) {
        let Self { say, mut hear } = self;
        drop(say);
        while let Ok(Some(_)) = hear.message().await {}
    }
}

/// Sends the first bytes of an attempt's standard output; whether they were wanted.
pub(crate) async fn ship(client: &Client, attempt: AttemptId) -> Result<bool, Status> {
    let frame = v1::LogFrame {
        stream: v1::StreamKind::Stdout.into(),
        offset: 0,
        data: b"a line\n".as_slice().into(),
    };
    let request = v1::ShipLogsRequest {
        attempt: Some(attempt.into()),
        frame: Some(frame),
    };
    let answer = client::agent(client.calls())
        .ship_logs(tokio_stream::once(request))
        .await?;
    let mut answers = answer.into_inner();
    let first = answers.message().await?;
    let first = first.ok_or_else(|| Status::unavailable("no answer"))?;
    Ok(!first.unwanted)
}
