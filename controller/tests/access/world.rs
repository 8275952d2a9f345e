//! A controller of many machines, users with tokens of each role, and machines that have joined.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use haul_client::{Client, Endpoint};
use haul_controller::{ControllerConfig, IdentityConfig, SharedConfig};
use haul_identity::{
    Current, HostKey, HostRecord, Token, Trust, agent_config, client_config, controller_name,
};
use haul_proto::{client, v1};
use haul_snapshot::bundle::{DEFAULT_LEVEL, FrameBuilder};
use haul_snapshot::{Entry, EntryKind, Manifest};
use haul_transport::{Dialer, Limits, Proxy};
use haul_types::{Digest, JobId, Role};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

/// A target that no node belongs to: what is submitted to it waits.
pub(crate) const NOWHERE: &str = "nowhere";

pub(crate) struct World {
    pub(crate) admin: Client,
    first: Token,
    address: SocketAddr,
    numbers: AtomicU64,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), haul_controller::RunError>>,
    _dir: TempDir,
}

/// A machine that has joined.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) client: Client,
    /// What it joined with.
    pub(crate) token: Token,
    pub(crate) key: HostKey,
}

/// A snapshot of a directory with one thing in it, and a frame that holds all of it.
pub(crate) struct Parcel {
    pub(crate) id: Digest,
    frame: Vec<u8>,
}

impl Parcel {
    pub(crate) fn new(content: &str) -> Self {
        let link = Entry {
            path: b"link".to_vec(),
            kind: EntryKind::Symlink {
                target: content.as_bytes().to_vec(),
            },
        };
        let manifest = Manifest::from_entries(vec![link]).unwrap();
        let mut builder = FrameBuilder::new(DEFAULT_LEVEL);
        for page in manifest.pages() {
            assert!(builder.push(page.digest(), page.encoded()).is_none());
        }
        assert!(builder.push(manifest.id(), manifest.root_object()).is_none());
        Self {
            id: manifest.id(),
            frame: builder.finish().unwrap().bytes,
        }
    }

    pub(crate) async fn upload(&self, client: &Client) -> Result<(), Status> {
        let message = v1::UploadRequest {
            frame: self.frame.clone().into(),
        };
        let mut service = client::snapshots(client.calls());
        service.upload(tokio_stream::once(message)).await.map(drop)
    }

    pub(crate) async fn fetch(&self, client: &Client) -> Result<(), Status> {
        let request = v1::FetchRequest {
            digests: self.id.as_bytes().to_vec(),
        };
        let answer = client::snapshots(client.calls()).fetch(request).await?;
        let mut frames = answer.into_inner();
        while frames.message().await?.is_some() {}
        Ok(())
    }

    pub(crate) async fn find_missing(&self, client: &Client) -> Result<(), Status> {
        let request = v1::FindMissingRequest {
            digests: self.id.as_bytes().to_vec(),
        };
        let mut service = client::snapshots(client.calls());
        service.find_missing(request).await.map(drop)
    }
}

impl World {
    /// A controller at an address of its own: all of 127/8 is this machine. Tests may share a process.
    pub(crate) async fn start() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(10);
        let last = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(127, high, low, last), 7878));
        let state_dir = dir.path().join("state");
        let addresses = vec![address.to_string().parse().unwrap()];
        let first = haul_controller::init(&state_dir, &addresses, SystemTime::now()).unwrap();
        let config = ControllerConfig {
            socket: dir.path().join("socket"),
            shared: Some(SharedConfig {
                identity: IdentityConfig::new(&state_dir, addresses),
                listen: address,
                limits: Limits::default(),
            }),
            state_dir,
            private: None,
            keep_jobs_for: None,
            build: "a build".to_owned(),
        };
        let (say, ready) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let running = TaskTracker::new().spawn(haul_controller::run(
            config,
            Box::new(move || {
                let _ = say.send(());
            }),
            shutdown.clone(),
        ));
        ready.await.unwrap();
        let mut world = Self {
            admin: Client::lazy(dialing(address, &first)),
            first,
            address,
            numbers: AtomicU64::new(1),
            shutdown,
            running,
            _dir: dir,
        };
        world.admin = world.user(&world.first);
        let target = v1::Target {
            name: NOWHERE.to_owned(),
            labels: [("nowhere".to_owned(), "yes".to_owned())].into(),
            ..v1::Target::default()
        };
        let request = v1::CreateTargetRequest { target: Some(target) };
        client::nodes(world.admin.calls())
            .create_target(request)
            .await
            .unwrap();
        world
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// A number that nothing here has had.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Somebody without a token, over a connection of its own.
    pub(crate) fn nobody(&self) -> Client {
        Client::lazy(dialing(self.address, &self.first))
    }

    /// Somebody with this token.
    pub(crate) fn user(&self, token: &Token) -> Client {
        self.nobody().with_token(&token.secret().reveal()).unwrap()
    }

    /// A token as it is ordered from the controller.
    pub(crate) async fn token(&self, order: v1::CreateTokenRequest) -> Token {
        let answer = client::identity(self.admin.calls()).create_token(order).await;
        answer.unwrap().into_inner().token.parse().unwrap()
    }

    pub(crate) async fn user_token(&self, role: Role, name: &str) -> Token {
        let role = match role {
            Role::Agent => v1::Role::Agent,
            Role::Viewer => v1::Role::Viewer,
            Role::Submitter => v1::Role::Submitter,
            Role::Admin => v1::Role::Admin,
        };
        let order = v1::CreateTokenRequest {
            role: role.into(),
            name: name.to_owned(),
            ..v1::CreateTokenRequest::default()
        };
        self.token(order).await
    }

    pub(crate) async fn revoke_token(&self, token: &Token) {
        let id = token.secret().id().to_string();
        let request = v1::RevokeTokenRequest { id };
        let mut service = client::identity(self.admin.calls());
        service.revoke_token(request).await.unwrap();
    }

    /// A machine that joins.
    pub(crate) async fn enrol(&self, name: &str) -> Machine {
        let token = self.user_token(Role::Agent, "").await;
        self.enrol_with(token, name).await
    }

    /// A machine that joins by this token.
    pub(crate) async fn enrol_with(&self, token: Token, name: &str) -> Machine {
        let key = HostKey::generate().unwrap();
        let given = join(&self.nobody(), &token, &key, name).await.unwrap();
        let record = HostRecord::new(token.addresses().to_vec(), &key, given.chain, given.authorities);
        let identity = Current::new(record.unwrap().identity().unwrap());
        let dialer = Dialer::new(
            vec![self.address.to_string().parse().unwrap()],
            Arc::new(agent_config(identity)),
            controller_name(),
            Proxy::none(),
        );
        Machine {
            name: name.to_owned(),
            client: Client::lazy(Endpoint::Remote(dialer).dial()),
            token,
            key,
        }
    }

    pub(crate) async fn revoke_node(&self, node: &str) {
        let request = v1::RevokeNodeRequest {
            node: node.to_owned(),
        };
        let mut service = client::identity(self.admin.calls());
        service.revoke_node(request).await.unwrap();
    }

    /// A job of whoever `client` is, on a target.
    pub(crate) async fn submit(&self, client: &Client, parcel: &Parcel, target: &str) -> JobId {
        parcel.upload(&self.admin).await.unwrap();
        let id = JobId::random();
        submit(client, id, parcel, target).await.unwrap();
        id
    }

    /// A job, as an admin sees it.
    pub(crate) async fn job(&self, id: JobId) -> (v1::Job, v1::Task) {
        let request = v1::GetJobRequest { id: id.to_string() };
        let answer = client::jobs(self.admin.calls()).get_job(request).await.unwrap();
        let v1::GetJobResponse { job, mut tasks, .. } = answer.into_inner();
        (job.unwrap(), tasks.pop().unwrap_or_default())
    }
}

/// Joins with a token.
pub(crate) async fn join(
    client: &Client,
    token: &Token,
    key: &HostKey,
    name: &str,
) -> Result<v1::NodeCredentials, Status> {
    let request = v1::JoinRequest {
        secret: token.secret().reveal(),
        request: key.request().unwrap(),
        node: name.to_owned(),
        ..v1::JoinRequest::default()
    };
    let answer = client::identity(client.calls()).join(request).await?;
    Ok(answer.into_inner().credentials.unwrap())
}

/// Submits a job; anywhere if `target` is empty.
pub(crate) async fn submit(client: &Client, id: JobId, parcel: &Parcel, target: &str) -> Result<(), Status> {
    let spec = v1::JobSpec {
        name: "a job".to_owned(),
        command: vec!["true".to_owned()],
        snapshot: parcel.id.as_bytes().to_vec(),
        scheduling: Some(v1::Scheduling {
            target: target.to_owned(),
            ..v1::Scheduling::default()
        }),
        ..v1::JobSpec::default()
    };
    let request = v1::SubmitJobRequest {
        id: id.to_string(),
        spec: Some(spec),
    };
    client::jobs(client.calls()).submit_job(request).await.map(drop)
}

fn dialing(address: SocketAddr, token: &Token) -> Arc<dyn haul_client::Dial> {
    let tls = Arc::new(client_config(Trust::Pin(token.pin())).unwrap());
    let addresses = vec![address.to_string().parse().unwrap()];
    Endpoint::Remote(Dialer::new(addresses, tls, controller_name(), Proxy::none())).dial()
}
