//! Agents: their sessions, and what their tasks write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use haul_lifecycle::{Event, Held, Hello, Update};
use haul_proto::server::AgentService;
use haul_proto::{self as proto, BadMessage, PROTOCOL_VERSION, v1};
use haul_types::{AttemptId, JobId, NodeName, StreamKind};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::follow::Stream;
use super::named;
use super::session::NameTaken;
use crate::engine::Engine;
use crate::listen::Peer;
use crate::logs::LogError;
use crate::principal::Principal;
use crate::snapshots::Snapshots;
use crate::status::{IntoStatus, panicked};

/// Acknowledgements that wait for an agent; they are sums, so few are enough.
const ACKNOWLEDGEMENTS_AHEAD: usize = 64;

pub(super) struct Agents {
    pub(super) engine: Arc<Engine>,
    pub(super) snapshots: Arc<Snapshots>,
}

fn bad(error: BadMessage) -> Status {
    error.into_status()
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = Stream<v1::SessionResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let principal = Principal::of(&request);
        let peer = request.extensions().get::<Peer>().map(ToString::to_string);
        let mut incoming = request.into_inner();
        let Some(v1::SessionRequest {
            message: Some(v1::session_request::Message::Hello(hello)),
        }) = incoming.message().await?
        else {
            return Err(Status::invalid_argument("a session begins with a hello"));
        };
        if hello.protocol > PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} of the protocol, and this controller ({}) knows versions up to \
                 {PROTOCOL_VERSION}: update the controller first",
                hello.protocol,
                env!("CARGO_PKG_VERSION")
            )));
        }
        let node = NodeName::try_from(hello.node.clone())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        principal.speaks_for(&node)?;
        let mut inventory = proto::inventory(hello.slots, hello.inventory.as_ref()).map_err(bad)?;
        if let Principal::Node { id, .. } = &principal {
            // What an admin said when the machine was let in counts more than what the machine says.
            let enrolled = self.engine.metadata().enrolled_node(*id);
            let enrolled = enrolled.map_err(IntoStatus::into_status)?;
            inventory
                .labels
                .extend(enrolled.into_iter().flat_map(|node| node.labels));
        }
        let mut held = Vec::new();
        for reference in &hello.held {
            let attempt = AttemptId::try_from(reference).map_err(bad)?;
            let stored = self.engine.task(attempt.task).map_err(IntoStatus::into_status)?;
            let stored_as_ended =
                stored.is_some_and(|task| task.attempt > attempt.attempt || task.state.is_terminal());
            held.push(Held {
                attempt,
                stored_as_ended,
            });
        }
        let session = self.engine.new_session();
        let opened = self
            .engine
            .sessions
            .open(node.clone(), session, hello.version, hello.process);
        let outgoing = opened.map_err(|NameTaken| {
            Status::already_exists(format!(
                "another agent is connected as {node}: give this one another name, or stop the other one"
            ))
        })?;
        tracing::info!(%node, session, peer, slots = hello.slots, held = held.len(), "agent connected");
        let (engine, snapshots) = (Arc::clone(&self.engine), Arc::clone(&self.snapshots));
        self.engine.spawn(async move {
            let connected = Event::Connected(Box::new(Hello {
                node: node.clone(),
                session,
                instance: hello.instance,
                inventory,
                held,
            }));
            let outcome = match engine.step(connected).await {
                Ok(()) => {
                    engine.nodes_changed.notify_waiters();
                    listen(&engine, &snapshots, &node, &mut incoming).await
                }
                Err(error) => {
                    let status = error.into_status();
                    engine.sessions.refuse(&node, session, status.clone());
                    Err(status)
                }
            };
            tracing::info!(%node, session, ?outcome, "agent disconnected");
            engine.sessions.close(&node, session);
            let _ = engine.step(Event::Disconnected { node, session }).await;
            engine.nodes_changed.notify_waiters();
        });
        Ok(Response::new(Stream::new(outgoing)))
    }

    type ShipLogsStream = Stream<v1::ShipLogsResponse>;

    async fn ship_logs(
        &self,
        request: Request<Streaming<v1::ShipLogsRequest>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        let (sender, receiver) = mpsc::channel(ACKNOWLEDGEMENTS_AHEAD);
        let engine = Arc::clone(&self.engine);
        let principal = Principal::of(&request);
        self.engine.spawn(async move {
            if let Err(status) = take_logs(&engine, &principal, request.into_inner(), &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Stream::new(receiver)))
    }
}

/// Takes what an agent says until its session ends.
async fn listen(
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    node: &NodeName,
    incoming: &mut Streaming<v1::SessionRequest>,
) -> Result<(), Status> {
    while let Some(message) = incoming.message().await? {
        match message.message {
            Some(v1::session_request::Message::Updates(updates)) => {
                take_updates(engine, snapshots, node, updates).await?;
            }
            Some(v1::session_request::Message::Environments(answer)) => engine.sessions.answer(node, answer),
            Some(v1::session_request::Message::Hello(_)) => {
                return Err(Status::invalid_argument("a session has one hello"));
            }
            // A newer agent says something that this controller does not know.
            None => {}
        }
    }
    Ok(())
}

/// Takes steps of attempts: first the last bytes of those that ended, made durable, then the states.
async fn take_updates(
    engine: &Arc<Engine>,
    snapshots: &Arc<Snapshots>,
    node: &NodeName,
    message: v1::TaskUpdates,
) -> Result<(), Status> {
    let mut updates = Vec::with_capacity(message.updates.len());
    let mut jobs = BTreeSet::new();
    for update in message.updates {
        let attempt = proto::attempt(update.attempt.as_ref()).map_err(bad)?;
        let state = proto::task_state(update.state).map_err(bad)?;
        let current = engine.is_current(node, attempt);
        if current {
            for frame in &update.tail {
                let kind = frame.kind().map_err(bad)?;
                engine
                    .logs
                    .append(attempt, kind, frame.offset, &frame.data)
                    .map_err(IntoStatus::into_status)?;
                jobs.insert(attempt.task.job);
            }
        }
        let exit = update
            .exit
            .as_ref()
            .map(TryInto::try_into)
            .transpose()
            .map_err(bad)?;
        let stream_lengths = <[u64; 3]>::try_from(update.stream_lengths).unwrap_or_default();
        if current && state.is_terminal() {
            check_lengths(engine, attempt, stream_lengths)?;
        }
        updates.push(Update {
            attempt,
            state,
            reason: proto::reason(update.reason).map_err(bad)?,
            detail: update.detail,
            exit,
            outputs: proto::optional_digest("outputs", &update.outputs)
                .map_err(bad)?
                .filter(|_| current),
            logs: proto::optional_digest("logs", &update.logs)
                .map_err(bad)?
                .filter(|_| current),
            stream_lengths,
            ago_ms: update.ago_us / 1000,
        });
    }
    sync(engine, jobs).await?;
    let updates = named::take_what_is_here(snapshots, updates).await?;
    // Nobody waits for this to be durable: the agent keeps what has ended until it is acknowledged, which the step does.
    engine
        .step_later(Event::Updates {
            node: node.clone(),
            updates,
        })
        .map_err(IntoStatus::into_status)
}

/// The end of a task is taken only with every byte of its streams.
fn check_lengths(engine: &Engine, attempt: AttemptId, lengths: [u64; 3]) -> Result<(), Status> {
    if lengths == [0; 3] {
        return Ok(());
    }
    let spool = engine
        .logs
        .spool(attempt.task.job)
        .map_err(|error| LogError::from(error).into_status())?;
    for (kind, length) in StreamKind::ALL.into_iter().zip(lengths) {
        let key = haul_types::StreamKey {
            task: attempt.task.index,
            attempt: attempt.attempt,
            kind,
        };
        let held = spool.length(key);
        if held != length {
            let problem =
                format!("{attempt} ended with {length} bytes in {kind}, of which {held} have arrived");
            return Err(Status::failed_precondition(problem));
        }
    }
    Ok(())
}

/// Makes what these jobs wrote durable.
async fn sync(engine: &Arc<Engine>, jobs: BTreeSet<JobId>) -> Result<(), Status> {
    if jobs.is_empty() {
        return Ok(());
    }
    let logs = Arc::clone(&engine.logs);
    let synced = tokio::task::spawn_blocking(move || {
        jobs.into_iter()
            .try_for_each(|job| Ok::<_, LogError>(logs.spool(job)?.sync()?))
    });
    synced.await.map_err(panicked)?.map_err(IntoStatus::into_status)
}

/// What has arrived of each stream and is not acknowledged yet.
type Arrived = BTreeMap<(AttemptId, StreamKind), u64>;

/// Takes what tasks write; followers see it at once, the agent hears of it once it is durable.
async fn take_logs(
    engine: &Arc<Engine>,
    principal: &Principal,
    mut incoming: Streaming<v1::ShipLogsRequest>,
    sender: &mpsc::Sender<Result<v1::ShipLogsResponse, Status>>,
) -> Result<(), Status> {
    let mut arrived = Arrived::new();
    let mut syncing: Option<tokio::task::JoinHandle<Result<Arrived, Status>>> = None;
    let mut open = true;
    while open || syncing.is_some() || !arrived.is_empty() {
        if syncing.is_none() && !arrived.is_empty() {
            let batch = std::mem::take(&mut arrived);
            let engine = Arc::clone(engine);
            syncing = Some(engine.clone().spawn(async move {
                sync(
                    &engine,
                    batch.keys().map(|(attempt, _)| attempt.task.job).collect(),
                )
                .await?;
                Ok(batch)
            }));
        }
        tokio::select! {
            message = incoming.message(), if open => match message? {
                Some(message) => take_frame(engine, principal, message, &mut arrived, sender).await?,
                None => open = false,
            },
            synced = async { match &mut syncing { Some(task) => task.await, None => std::future::pending().await } } => {
                syncing = None;
                for ((attempt, kind), durable) in synced.map_err(panicked)?? {
                    let acknowledgement = v1::ShipLogsResponse {
                        attempt: Some(attempt.into()), stream: kind as i32, durable, unwanted: false,
                    };
                    if sender.send(Ok(acknowledgement)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

async fn take_frame(
    engine: &Arc<Engine>,
    principal: &Principal,
    message: v1::ShipLogsRequest,
    arrived: &mut Arrived,
    sender: &mpsc::Sender<Result<v1::ShipLogsResponse, Status>>,
) -> Result<(), Status> {
    let attempt = proto::attempt(message.attempt.as_ref()).map_err(bad)?;
    let frame = message
        .frame
        .ok_or_else(|| Status::invalid_argument("frame: is missing"))?;
    let kind = frame.kind().map_err(bad)?;
    let wanted = match principal {
        Principal::Node { name, .. } => engine.is_current(name, attempt),
        _ => engine.is_live(attempt),
    };
    if !wanted {
        let unwanted = v1::ShipLogsResponse {
            attempt: Some(attempt.into()),
            stream: kind as i32,
            durable: 0,
            unwanted: true,
        };
        let _ = sender.send(Ok(unwanted)).await;
        return Ok(());
    }
    let logs = Arc::clone(&engine.logs);
    let length = tokio::task::block_in_place(|| logs.append(attempt, kind, frame.offset, &frame.data));
    let length = length.map_err(IntoStatus::into_status)?;
    engine.wrote(attempt.task.job);
    arrived.insert((attempt, kind), length);
    Ok(())
}
