//! Many agents in one process. Each has joined by a token of its own, has its own key, certificate and TLS connection,
//! and speaks on `AgentService.Session` as an agent does; only that what it is handed runs nowhere: it says that it runs,
//! and later, when asked to, that it has succeeded.
//!
//! What is counted here is what the test is about: who is connected, what was started, what was started twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _};
use haul_agent::{JoinOrder, NodeIdentity};
use haul_client::{Backoff, Client, Endpoint};
use haul_identity::{Token, agent_config};
use haul_proto::{PROTOCOL_VERSION, client, v1};
use haul_types::{AttemptId, NodeName, Reason, TaskId, TaskState};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::deployment::{Deployment, Outcome, dialer};

/// Machines that join at the same time.
const JOINING: usize = 16;
/// Messages of one agent that wait to be sent.
const AHEAD: usize = 64;

/// The agents, each with a session that is opened again whenever it is lost.
#[derive(Clone)]
pub struct Agents {
    nodes: Arc<Vec<Arc<Node>>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Grows with each thing that happens.
    happened: watch::Sender<u64>,
    /// How often each task was started, by any agent.
    started: Mutex<HashMap<TaskId, u32>>,
    /// Assignments of an attempt that the agent had already.
    repeated: AtomicU32,
    /// Attempts that a controller did not want any more.
    unwanted: AtomicU32,
    /// The stream lengths to end with, once ends are asked for.
    ends: watch::Sender<Option<[u64; 3]>>,
}

/// One agent.
pub struct Node {
    name: NodeName,
    client: Client,
    instance: String,
    held: Mutex<BTreeSet<AttemptId>>,
    connected: AtomicBool,
    sessions: AtomicU32,
}

/// What the agents have, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Agents that are connected.
    pub connected: usize,
    /// The fewest sessions that one of them has had.
    pub sessions: u32,
    /// Attempts that they hold.
    pub held: usize,
    /// Tasks that were started.
    pub started: usize,
    /// Tasks that were started more than once.
    pub started_twice: usize,
    /// Assignments that came again.
    pub repeated: u32,
    /// Attempts that were not wanted any more.
    pub unwanted: u32,
}

impl Agents {
    /// Joins `count` machines, which keep who they are below `scratch`.
    pub async fn join(deployment: &Deployment, scratch: &Path, count: usize) -> Outcome<Self> {
        let admin = deployment.admin()?;
        // A question is repeated until the controller is there; the making of a token is not.
        admin.caller().await?;
        let nodes: Vec<Arc<Node>> = futures::stream::iter(0..count)
            .map(|number| {
                join(
                    deployment,
                    &admin,
                    scratch.join(format!("nodes/{number}")),
                    number,
                )
            })
            .buffered(JOINING)
            .try_collect()
            .await?;
        let shared = Arc::new(Shared {
            happened: watch::Sender::new(0),
            started: Mutex::default(),
            repeated: AtomicU32::new(0),
            unwanted: AtomicU32::new(0),
            ends: watch::Sender::new(None),
        });
        Ok(Self {
            nodes: Arc::new(nodes),
            shared,
        })
    }

    /// Connects them all, for as long as the program runs.
    pub fn connect(&self, tasks: &TaskTracker) {
        for node in self.nodes.iter() {
            let (node, shared) = (Arc::clone(node), Arc::clone(&self.shared));
            tasks.spawn(async move { node.keep_connected(&shared).await });
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// How they stand.
    pub fn tally(&self) -> Tally {
        let started = self.shared.started.lock().unwrap();
        Tally {
            connected: self
                .nodes
                .iter()
                .filter(|node| node.connected.load(Ordering::Acquire))
                .count(),
            sessions: self
                .nodes
                .iter()
                .map(|node| node.sessions.load(Ordering::Acquire))
                .min()
                .unwrap_or(0),
            held: self
                .nodes
                .iter()
                .map(|node| node.held.lock().unwrap().len())
                .sum(),
            started: started.len(),
            started_twice: started.values().filter(|&&times| times > 1).count(),
            repeated: self.shared.repeated.load(Ordering::Acquire),
            unwanted: self.shared.unwanted.load(Ordering::Acquire),
        }
    }

    /// Waits until they stand as wished.
    pub async fn until(&self, wished: impl Fn(&Tally) -> bool) -> Tally {
        let mut happened = self.shared.happened.subscribe();
        loop {
            happened.mark_unchanged();
            let tally = self.tally();
            if wished(&tally) || happened.changed().await.is_err() {
                return tally;
            }
        }
    }

    /// From now on whatever they hold succeeds, having written as much.
    pub fn end_all(&self, stream_lengths: [u64; 3]) {
        self.shared.ends.send_replace(Some(stream_lengths));
    }

    /// What is handed out from now on is held again.
    pub fn hold(&self) {
        self.shared.ends.send_replace(None);
    }

    /// An attempt that is held, and the connection of the agent that has it.
    pub fn any_held(&self) -> Option<(AttemptId, Client)> {
        self.nodes.iter().find_map(|node| {
            let attempt = *node.held.lock().unwrap().first()?;
            Some((attempt, node.client.clone()))
        })
    }
}

async fn join(
    deployment: &Deployment,
    admin: &Client,
    state_dir: PathBuf,
    number: usize,
) -> Outcome<Arc<Node>> {
    let token = deployment.join_token(admin).await?;
    let name = NodeName::try_from(format!("node{number}"))?;
    std::fs::create_dir_all(&state_dir)?;
    let order = JoinOrder {
        token: token.clone(),
        node: name.clone(),
        labels: BTreeMap::new(),
        state_dir: state_dir.clone(),
    };
    // Anybody may make this call; that all make it on one connection saves a handshake each.
    haul_agent::join(order, admin).await?;
    Ok(Arc::new(Node {
        name,
        client: agents_client(&token, &state_dir)?,
        instance: haul_types::JobId::random().to_string(),
        held: Mutex::default(),
        connected: AtomicBool::new(false),
        sessions: AtomicU32::new(0),
    }))
}

fn agents_client(token: &Token, state_dir: &Path) -> Outcome<Client> {
    let identity = NodeIdentity::open(state_dir)?;
    let dialer = dialer(token, Arc::new(agent_config(identity.current())))?;
    Ok(Client::lazy(Endpoint::Remote(dialer).dial()))
}

impl Shared {
    fn tell(&self) {
        self.happened.send_modify(|version| *version += 1);
    }
}

impl Node {
    /// As an agent does: again and again, with its waits.
    async fn keep_connected(&self, shared: &Shared) {
        let mut backoff = Backoff::lasting();
        loop {
            let before = self.sessions.load(Ordering::Acquire);
            if let Err(status) = self.session(shared).await
                && !matches!(status.code(), Code::Unavailable | Code::Unknown)
            {
                // Not that the connection was lost: the controller has something against this agent.
                eprintln!("{}: {}: {}", self.name, status.code(), status.message());
            }
            self.connected.store(false, Ordering::Release);
            shared.tell();
            if self.sessions.load(Ordering::Acquire) > before {
                backoff = Backoff::lasting();
            }
            tokio::time::sleep(backoff.next_wait().expect("it lasts")).await;
        }
    }

    async fn session(&self, shared: &Shared) -> Result<(), Status> {
        use v1::session_response::Message as In;
        let (sender, outgoing) = mpsc::channel(AHEAD);
        let hello = v1::session_request::Message::Hello(self.hello());
        let _ = sender.try_send(v1::SessionRequest { message: Some(hello) });
        let call = client::agent(self.client.calls())
            .session(ReceiverStream::new(outgoing))
            .await?;
        let mut incoming = call.into_inner();
        let mut ends = shared.ends.subscribe();
        loop {
            let message = tokio::select! {
                message = incoming.message() => message?.and_then(|message| message.message),
                _ = ends.changed() => {
                    self.end_if_asked(&mut ends, &sender).await;
                    continue;
                }
            };
            match message {
                Some(In::Welcome(welcome)) => {
                    self.forget(&welcome.unwanted)?;
                    let unwanted = u32::try_from(welcome.unwanted.len()).unwrap_or(u32::MAX);
                    shared.unwanted.fetch_add(unwanted, Ordering::AcqRel);
                    self.sessions.fetch_add(1, Ordering::AcqRel);
                    self.connected.store(true, Ordering::Release);
                    // What was said before may have been lost with the connection.
                    for attempt in self.holds() {
                        say(&sender, attempt, TaskState::Running, Reason::Started, [0; 3]).await;
                    }
                    self.end_if_asked(&mut ends, &sender).await;
                }
                Some(In::Assignments(assignments)) => {
                    self.take(&assignments, shared, &sender).await?;
                    self.end_if_asked(&mut ends, &sender).await;
                }
                Some(In::Acknowledged(acknowledged)) => self.forget(&acknowledged.attempts)?,
                Some(In::Stop(_) | In::Environments(_)) => {}
                Some(In::Farewell(_)) | None => return Ok(()),
            }
            shared.tell();
        }
    }

    fn hello(&self) -> v1::AgentHello {
        v1::AgentHello {
            node: self.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: 1,
            held: self.holds().into_iter().map(Into::into).collect(),
            protocol: PROTOCOL_VERSION,
            inventory: Some(v1::Inventory::default()),
            instance: self.instance.clone(),
            process: self.instance.clone(),
        }
    }

    fn forget(&self, attempts: &[v1::AttemptRef]) -> Result<(), Status> {
        let mut held = self.held.lock().unwrap();
        for reference in attempts {
            held.remove(&haul_proto::attempt(Some(reference)).map_err(malformed)?);
        }
        Ok(())
    }

    async fn take(
        &self,
        assignments: &v1::Assignments,
        shared: &Shared,
        sender: &mpsc::Sender<v1::SessionRequest>,
    ) -> Result<(), Status> {
        for assignment in &assignments.assignments {
            let job = haul_proto::job_id(&assignment.job_id).map_err(malformed)?;
            for task in &assignment.tasks {
                let attempt = AttemptId::new(job, task.task_index, task.attempt);
                if !self.held.lock().unwrap().insert(attempt) {
                    shared.repeated.fetch_add(1, Ordering::AcqRel);
                    continue;
                }
                *shared.started.lock().unwrap().entry(attempt.task).or_insert(0) += 1;
                say(sender, attempt, TaskState::Running, Reason::Started, [0; 3]).await;
            }
        }
        Ok(())
    }

    fn holds(&self) -> Vec<AttemptId> {
        self.held.lock().unwrap().iter().copied().collect()
    }

    /// Says the end of whatever is held, if ends are asked for.
    async fn end_if_asked(
        &self,
        ends: &mut watch::Receiver<Option<[u64; 3]>>,
        sender: &mpsc::Sender<v1::SessionRequest>,
    ) {
        let asked = *ends.borrow_and_update();
        let Some(lengths) = asked else { return };
        for attempt in self.holds() {
            say(sender, attempt, TaskState::Succeeded, Reason::Exited, lengths).await;
        }
    }
}

async fn say(
    sender: &mpsc::Sender<v1::SessionRequest>,
    attempt: AttemptId,
    state: TaskState,
    reason: Reason,
    lengths: [u64; 3],
) {
    let exit = v1::ExitStatus {
        how: Some(v1::exit_status::How::Code(0)),
    };
    let update = v1::TaskUpdate {
        attempt: Some(attempt.into()),
        state: state as i32,
        reason: reason as i32,
        exit: state.is_terminal().then_some(exit),
        stream_lengths: lengths.to_vec(),
        ..v1::TaskUpdate::default()
    };
    let updates = v1::TaskUpdates {
        updates: vec![update],
    };
    let message = Some(v1::session_request::Message::Updates(updates));
    // The session may have ended; the next one begins with what is held.
    let _ = sender.send(v1::SessionRequest { message }).await;
}

#[allow(clippy::needless_pass_by_value, reason = "the form that `map_err` calls")]
fn malformed(error: haul_proto::BadMessage) -> Status {
    Status::internal(error.to_string())
}
