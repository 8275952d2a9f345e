//! Every call of the contract as each kind of caller makes it.

use haul_client::Client;
use haul_identity::HostKey;
use haul_proto::{Rpc, client, v1};
use haul_types::{AttemptId, JobId, Role};
use tokio::sync::Mutex;
use tonic::{Code, Status, Streaming};

use crate::session::{Session, ship, step};
use crate::world::{Machine, NOWHERE, Parcel, World, join, submit};

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Nobody,
    /// A node that has nothing to do with the attempt.
    OtherNode,
    /// The node of an attempt that has ended.
    EndedAttempt,
    /// The node of an attempt, for the one after it.
    NextAttempt,
    /// The node of an attempt.
    Node,
    RevokedNode,
    Viewer,
    /// A submitter, on a job of somebody else.
    OtherUser,
    /// A submitter, on a job of its own.
    Owner,
    Admin,
    ExpiredToken,
    RevokedToken,
}

impl Caller {
    pub(crate) const ALL: [Self; 12] = [
        Self::Nobody,
        Self::OtherNode,
        Self::EndedAttempt,
        Self::NextAttempt,
        Self::Node,
        Self::RevokedNode,
        Self::Viewer,
        Self::OtherUser,
        Self::Owner,
        Self::Admin,
        Self::ExpiredToken,
        Self::RevokedToken,
    ];
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It was answered, and nothing was changed.
    Ignored,
    Refused(Code),
}

impl From<Result<(), Status>> for Outcome {
    fn from(result: Result<(), Status>) -> Self {
        result.map_or_else(|status| Self::Refused(status.code()), |()| Self::Done)
    }
}

/// Everybody, and what they are about.
pub(crate) struct Cast {
    world: World,
    nobody: Client,
    box_a: Machine,
    box_b: Machine,
    revoked_node: Machine,
    viewer: Client,
    ada: Client,
    grace: Client,
    expired: Client,
    revoked: Client,
    parcel: Parcel,
    live: AttemptId,
    ended: AttemptId,
    /// Of `box_a`, which holds `live`; none only while it is opened anew.
    session: Mutex<Option<Session>>,
}

/// An answer in pieces, to its end.
async fn all<T>(mut answer: Streaming<T>) -> Result<(), Status> {
    while answer.message().await?.is_some() {}
    Ok(())
}

impl Cast {
    pub(crate) async fn new() -> Self {
        let world = World::start().await;
        let (box_a, box_b) = (world.enrol("box-a").await, world.enrol("box-b").await);
        let revoked_node = world.enrol("box-r").await;
        world.revoke_node("box-r").await;
        let user = async |role, name: &str| world.user(&world.user_token(role, name).await);
        let ada = user(Role::Submitter, "ada").await;
        let revoked = world.user_token(Role::Admin, "gone").await;
        world.revoke_token(&revoked).await;
        let order = v1::CreateTokenRequest {
            role: v1::Role::Admin.into(),
            name: "late".to_owned(),
            life_ms: Some(1),
            ..v1::CreateTokenRequest::default()
        };
        let expired = world.token(order).await;
        let parcel = Parcel::new("the code");
        let mut session = Session::open(&box_a.client, "box-a", &[]).await.unwrap();
        world.submit(&ada, &parcel, "box-a").await;
        let ended = session.assigned().await;
        session.finish(step(ended, v1::TaskState::Succeeded)).await;
        world.submit(&ada, &parcel, "box-a").await;
        let live = session.assigned().await;
        Self {
            nobody: world.nobody(),
            viewer: user(Role::Viewer, "vera").await,
            grace: user(Role::Submitter, "grace").await,
            expired: world.user(&expired),
            revoked: world.user(&revoked),
            box_a,
            box_b,
            revoked_node,
            ada,
            parcel,
            live,
            ended,
            session: Mutex::new(Some(session)),
            world,
        }
    }

    pub(crate) async fn end(self) {
        let Self { world, session, .. } = self;
        drop(session);
        world.end().await;
    }

    fn client(&self, caller: Caller) -> &Client {
        match caller {
            Caller::Nobody => &self.nobody,
            Caller::OtherNode => &self.box_b.client,
            Caller::EndedAttempt | Caller::NextAttempt | Caller::Node => &self.box_a.client,
            Caller::RevokedNode => &self.revoked_node.client,
            Caller::Viewer => &self.viewer,
            Caller::OtherUser => &self.grace,
            Caller::Owner => &self.ada,
            Caller::Admin => &self.world.admin,
            Caller::ExpiredToken => &self.expired,
            Caller::RevokedToken => &self.revoked,
        }
    }

    /// The attempt that a caller names.
    fn attempt(&self, caller: Caller) -> AttemptId {
        match caller {
            Caller::EndedAttempt => self.ended,
            Caller::NextAttempt => AttemptId {
                attempt: self.live.attempt + 1,
                ..self.live
            },
            _ => self.live,
        }
    }

    /// A job of ada's that waits.
    async fn waiting(&self) -> JobId {
        self.world.submit(&self.ada, &self.parcel, NOWHERE).await
    }

    /// Makes the call, on something of its own if the call changes something.
    pub(crate) async fn call(&self, rpc: Rpc, caller: Caller) -> Outcome {
        match rpc {
            Rpc::JobSubmitJob
            | Rpc::JobGetJob
            | Rpc::JobListJobs
            | Rpc::JobListTasks
            | Rpc::JobCancelJob
            | Rpc::JobRemoveJob
            | Rpc::JobFollowJob
            | Rpc::JobReadLog => self.job_call(rpc, caller).await.into(),
            Rpc::SnapshotFindMissing | Rpc::SnapshotUpload | Rpc::SnapshotFetch => {
                self.snapshot_call(rpc, caller).await.into()
            }
            Rpc::NodeListNodes
            | Rpc::NodeAdmitNode
            | Rpc::NodeRemoveNode
            | Rpc::NodeListTargets
            | Rpc::NodeCreateTarget
            | Rpc::NodeRemoveTarget
            | Rpc::NodeListEnvironments
            | Rpc::NodeRemoveEnvironment
            | Rpc::NodePruneEnvironments
            | Rpc::NodeGetController
            | Rpc::NodeStopController => self.node_call(rpc, caller).await.into(),
            Rpc::IdentityJoin
            | Rpc::IdentityRenew
            | Rpc::IdentityGetCaller
            | Rpc::IdentityCreateToken
            | Rpc::IdentityListTokens
            | Rpc::IdentityRevokeToken
            | Rpc::IdentityGetAuthorities
            | Rpc::IdentityRotateAuthority
            | Rpc::IdentityRevokeNode => self.identity_call(rpc, caller).await.into(),
            Rpc::AgentSession => self.session_call(caller).await,
            Rpc::AgentShipLogs => match ship(self.client(caller), self.attempt(caller)).await {
                Ok(false) => Outcome::Ignored,
                wanted => wanted.map(drop).into(),
            },
        }
    }

    async fn job_call(&self, rpc: Rpc, caller: Caller) -> Result<(), Status> {
        let client = self.client(caller);
        let mut service = client::jobs(client.calls());
        let live = self.live.task.job.to_string();
        let ended = self.ended.task.job.to_string();
        match rpc {
            Rpc::JobSubmitJob if caller == Caller::OtherUser => {
                submit(client, self.waiting().await, &self.parcel, NOWHERE).await
            }
            Rpc::JobSubmitJob => submit(client, JobId::random(), &self.parcel, NOWHERE).await,
            Rpc::JobGetJob => service.get_job(v1::GetJobRequest { id: live }).await.map(drop),
            Rpc::JobListJobs => service.list_jobs(v1::ListJobsRequest::default()).await.map(drop),
            Rpc::JobListTasks => {
                let request = v1::ListTasksRequest {
                    job_id: live,
                    ..v1::ListTasksRequest::default()
                };
                service.list_tasks(request).await.map(drop)
            }
            Rpc::JobCancelJob => cancel(client, self.waiting().await).await,
            Rpc::JobRemoveJob => {
                let id = self.waiting().await;
                cancel(&self.world.admin, id).await.unwrap();
                let job_id = id.to_string();
                service
                    .remove_job(v1::RemoveJobRequest { job_id })
                    .await
                    .map(drop)
            }
            Rpc::JobFollowJob => {
                let request = v1::FollowJobRequest {
                    job_id: ended,
                    ..v1::FollowJobRequest::default()
                };
                all(service.follow_job(request).await?.into_inner()).await
            }
            _ => {
                let request = v1::ReadLogRequest {
                    job_id: ended,
                    stream: v1::StreamKind::Stdout.into(),
                    ..v1::ReadLogRequest::default()
                };
                all(service.read_log(request).await?.into_inner()).await
            }
        }
    }

    async fn snapshot_call(&self, rpc: Rpc, caller: Caller) -> Result<(), Status> {
        let client = match caller {
            Caller::OtherNode
            | Caller::EndedAttempt
            | Caller::NextAttempt
            | Caller::Node
            | Caller::RevokedNode => self.client(caller).for_attempt(self.attempt(caller)),
            _ => self.client(caller).clone(),
        };
        match rpc {
            Rpc::SnapshotFindMissing => self.parcel.find_missing(&client).await,
            Rpc::SnapshotUpload => self.parcel.upload(&client).await,
            _ => self.parcel.fetch(&client).await,
        }
    }

    async fn node_call(&self, rpc: Rpc, caller: Caller) -> Result<(), Status> {
        let mut service = client::nodes(self.client(caller).calls());
        // Whoever may ask is told that there is no such node, whoever may not is not told.
        let node = "absent".to_owned();
        let target = v1::Target {
            name: format!("target-{}", self.world.number()),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..v1::Target::default()
        };
        let name = target.name.clone();
        let target = v1::CreateTargetRequest { target: Some(target) };
        match rpc {
            Rpc::NodeListNodes => service
                .list_nodes(v1::ListNodesRequest::default())
                .await
                .map(drop),
            Rpc::NodeAdmitNode => {
                let request = v1::AdmitNodeRequest {
                    node: self.box_a.name.clone(),
                    admission: v1::Admission::Open.into(),
                };
                service.admit_node(request).await.map(drop)
            }
            Rpc::NodeRemoveNode => service
                .remove_node(v1::RemoveNodeRequest { node })
                .await
                .map(drop),
            Rpc::NodeListTargets => service.list_targets(v1::ListTargetsRequest {}).await.map(drop),
            Rpc::NodeCreateTarget => service.create_target(target).await.map(drop),
            Rpc::NodeRemoveTarget => {
                let mut admin = client::nodes(self.world.admin.calls());
                admin.create_target(target).await.unwrap();
                service
                    .remove_target(v1::RemoveTargetRequest { name })
                    .await
                    .map(drop)
            }
            Rpc::NodeListEnvironments => {
                let request = v1::ListEnvironmentsRequest { node };
                service.list_environments(request).await.map(drop)
            }
            Rpc::NodeRemoveEnvironment => {
                let key = "0".to_owned();
                let request = v1::RemoveEnvironmentRequest { key, node };
                service.remove_environment(request).await.map(drop)
            }
            Rpc::NodePruneEnvironments => {
                let request = v1::PruneEnvironmentsRequest {
                    node,
                    ..v1::PruneEnvironmentsRequest::default()
                };
                service.prune_environments(request).await.map(drop)
            }
            Rpc::NodeGetController => service
                .get_controller(v1::GetControllerRequest {})
                .await
                .map(drop),
            _ => service
                .stop_controller(v1::StopControllerRequest {})
                .await
                .map(drop),
        }
    }

    async fn identity_call(&self, rpc: Rpc, caller: Caller) -> Result<(), Status> {
        let client = self.client(caller);
        let mut service = client::identity(client.calls());
        let key = HostKey::generate().unwrap();
        match rpc {
            Rpc::IdentityJoin => {
                let token = self.world.user_token(Role::Agent, "").await;
                let name = format!("box-{}", self.world.number());
                join(client, &token, &key, &name).await.map(drop)
            }
            Rpc::IdentityRenew => {
                let request = key.request().unwrap();
                service.renew(v1::RenewRequest { request }).await.map(drop)
            }
            Rpc::IdentityGetCaller => service.get_caller(v1::GetCallerRequest {}).await.map(drop),
            Rpc::IdentityCreateToken => {
                let request = v1::CreateTokenRequest {
                    role: v1::Role::Admin.into(),
                    ..v1::CreateTokenRequest::default()
                };
                service.create_token(request).await.map(drop)
            }
            Rpc::IdentityListTokens => service
                .list_tokens(v1::ListTokensRequest::default())
                .await
                .map(drop),
            Rpc::IdentityRevokeToken => {
                let token = self.world.user_token(Role::Viewer, "brief").await;
                let id = token.secret().id().to_string();
                service
                    .revoke_token(v1::RevokeTokenRequest { id })
                    .await
                    .map(drop)
            }
            Rpc::IdentityGetAuthorities => service
                .get_authorities(v1::GetAuthoritiesRequest {})
                .await
                .map(drop),
            Rpc::IdentityRotateAuthority => {
                let take = |step: v1::RotationStep| v1::RotateAuthorityRequest {
                    step: step.into(),
                    force: false,
                };
                service.rotate_authority(take(v1::RotationStep::Begin)).await?;
                let back = take(v1::RotationStep::RollBack);
                service.rotate_authority(back).await.map(drop)
            }
            _ => {
                let node = format!("box-{}", self.world.number());
                self.world.enrol(&node).await;
                service
                    .revoke_node(v1::RevokeNodeRequest { node })
                    .await
                    .map(drop)
            }
        }
    }

    /// The other node says that it is the first one. For attempts that are not current, their node says that they have
    /// failed.
    async fn session_call(&self, caller: Caller) -> Outcome {
        let node = match caller {
            Caller::RevokedNode => "box-r",
            _ => "box-a",
        };
        let client = self.client(caller);
        let mut place = self.session.lock().await;
        match caller {
            Caller::EndedAttempt | Caller::NextAttempt => {
                let session = place.take().unwrap();
                let before = self.standing().await;
                session
                    .tell(step(self.attempt(caller), v1::TaskState::Failed))
                    .await;
                session.close().await;
                // The welcome comes after all that the session before has changed.
                *place = Some(Session::open(client, node, &[self.live]).await.unwrap());
                if self.standing().await == before {
                    Outcome::Ignored
                } else {
                    Outcome::Done
                }
            }
            Caller::Node => {
                place.take().unwrap().close().await;
                let opened = Session::open(client, node, &[self.live]).await;
                opened.map(|session| *place = Some(session)).into()
            }
            _ => Session::open(client, node, &[]).await.map(drop).into(),
        }
    }

    async fn standing(&self) -> [(v1::Job, v1::Task); 2] {
        let (ended, live) = (self.ended.task.job, self.live.task.job);
        [self.world.job(ended).await, self.world.job(live).await]
    }
}

pub(crate) async fn cancel(client: &Client, id: JobId) -> Result<(), Status> {
    let request = v1::CancelJobRequest {
        job_id: id.to_string(),
        task_index: None,
    };
    client::jobs(client.calls()).cancel_job(request).await.map(drop)
}
