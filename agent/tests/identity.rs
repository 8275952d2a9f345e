//! Joining and renewing, against a controller that has a real authority and is as unreliable as the test wants.

#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use haul_agent::{JoinError, JoinOrder, NodeIdentity, RenewError, join};
use haul_client::{Client, UnixSocket};
use haul_identity::{Authorities, HostError, Pin, Step, Token, VerifiedRequest};
use haul_proto::server::{self, IdentityService};
use haul_proto::v1;
use haul_types::{NodeId, NodeName, Role};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the controller says instead of an answer, once for each.
type Faults = Vec<Status>;

struct Fake {
    authorities: Mutex<Authorities>,
    node: NodeId,
    faults: Mutex<Faults>,
    /// The keys that joined, by their digests.
    keys: Mutex<Vec<[u8; 32]>>,
}

impl Fake {
    fn grant(&self, request: &[u8], node: &str) -> Result<v1::NodeCredentials, Status> {
        let request =
            VerifiedRequest::verify(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.keys.lock().unwrap().push(request.key_digest());
        if let Some(fault) = self.faults.lock().unwrap().pop() {
            return Err(fault);
        }
        let authorities = self.authorities.lock().unwrap();
        let name = NodeName::try_from(node.to_owned()).unwrap();
        let issued = authorities
            .issue_node(&request, &name, self.node, DAY, SystemTime::now())
            .unwrap();
        Ok(v1::NodeCredentials {
            node_id: self.node.to_string(),
            node: node.to_owned(),
            chain: issued.chain,
            authorities: authorities.bundle().certificates().map(<[u8]>::to_vec).collect(),
            expires_unix_ms: 0,
        })
    }
}

/// The service, so that a test can keep the fake.
struct Calls(Arc<Fake>);

#[tonic::async_trait]
impl IdentityService for Calls {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let asked = request.into_inner();
        let credentials = Some(self.0.grant(&asked.request, &asked.node)?);
        Ok(Response::new(v1::JoinResponse { credentials }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let credentials = Some(self.0.grant(&request.get_ref().request, "box")?);
        Ok(Response::new(v1::RenewResponse { credentials }))
    }

    async fn get_caller(
        &self,
        _: Request<v1::GetCallerRequest>,
    ) -> Result<Response<v1::GetCallerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_token(
        &self,
        _: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_tokens(
        &self,
        _: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn revoke_token(
        &self,
        _: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_authorities(
        &self,
        _: Request<v1::GetAuthoritiesRequest>,
    ) -> Result<Response<v1::GetAuthoritiesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn rotate_authority(
        &self,
        _: Request<v1::RotateAuthorityRequest>,
    ) -> Result<Response<v1::RotateAuthorityResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn revoke_node(
        &self,
        _: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Site {
    directory: tempfile::TempDir,
    fake: Arc<Fake>,
    client: Client,
    _tasks: TaskTracker,
}

fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let authorities = Authorities::create(&directory.path().join("ca"), SystemTime::now()).unwrap();
    let fake = Arc::new(Fake {
        authorities: Mutex::new(authorities),
        node: NodeId::random(),
        faults: Mutex::default(),
        keys: Mutex::default(),
    });
    let socket = directory.path().join("socket");
    let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let serving = tonic::transport::Server::builder()
        .add_service(server::identity(Calls(Arc::clone(&fake))))
        .serve_with_incoming(listener);
    let tasks = TaskTracker::new();
    tasks.spawn(serving);
    let client = Client::lazy(Arc::new(UnixSocket::new(socket)));
    Site {
        directory,
        fake,
        client,
        _tasks: tasks,
    }
}

impl Site {
    fn state_dir(&self) -> &Path {
        self.directory.path()
    }

    fn pin(&self) -> Pin {
        self.fake.authorities.lock().unwrap().pin()
    }

    fn order(&self, role: Role, pin: Pin) -> JoinOrder {
        let addresses = vec!["haul.example.org:7070".parse().unwrap()];
        JoinOrder {
            token: Token::new(role, addresses, pin).unwrap(),
            node: NodeName::try_from("box".to_owned()).unwrap(),
            labels: [("gpu".to_owned(), "a100".to_owned())].into(),
            state_dir: self.state_dir().to_owned(),
        }
    }

    async fn join(&self, order: &JoinOrder) -> Result<haul_identity::NodeCertificate, JoinError> {
        join(order.clone(), &self.client).await
    }

    fn fail_once(&self, fault: Status) {
        self.fake.faults.lock().unwrap().push(fault);
    }
}

#[tokio::test]
async fn a_machine_that_did_not_hear_the_answer_asks_again_as_the_same() {
    let site = site();
    let order = site.order(Role::Agent, site.pin());
    site.fail_once(Status::unavailable("the connection is lost"));
    let error = site.join(&order).await.unwrap_err();
    assert!(matches!(error, JoinError::Controller(_)), "{error}");
    assert!(matches!(
        NodeIdentity::open(site.state_dir()),
        Err(HostError::NotJoined(_))
    ));
    let certificate = site.join(&order).await.unwrap();
    assert_eq!(
        (certificate.name.as_str(), certificate.id),
        ("box", site.fake.node)
    );
    let keys = site.fake.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1], "one key");

    let node = NodeIdentity::open(site.state_dir()).unwrap();
    assert_eq!(node.current().get().certificate(), &certificate);
    assert_eq!(node.addresses(), order.token.addresses());
    let again = site.join(&site.order(Role::Agent, site.pin())).await.unwrap_err();
    assert!(again.to_string().contains("has joined already"), "{again}");
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_here() {
    let site = site();
    let error = site
        .join(&site.order(Role::Viewer, site.pin()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("haul login"), "{error}");
    assert!(site.fake.keys.lock().unwrap().is_empty(), "nobody was asked");
    // Whoever answers names other authorities than the token does.
    let error = site
        .join(&site.order(Role::Agent, Pin::from_bytes([1; 32])))
        .await
        .unwrap_err();
    assert!(
        matches!(error, JoinError::Host(HostError::OtherAuthority(_))),
        "{error}"
    );
    assert!(matches!(
        NodeIdentity::open(site.state_dir()),
        Err(HostError::NotJoined(_))
    ));
}

#[tokio::test]
async fn a_renewal_brings_a_new_key_and_new_authorities_and_is_kept() {
    let site = site();
    site.join(&site.order(Role::Agent, site.pin())).await.unwrap();
    let mut node = NodeIdentity::open(site.state_dir()).unwrap();
    let current = node.current();
    let before = current.get();

    site.fail_once(Status::unavailable("busy"));
    let error = node.renew(&site.client).await.unwrap_err();
    assert!(matches!(error, RenewError::Unavailable(_)), "{error}");
    site.fail_once(Status::permission_denied("node box was revoked"));
    let error = node.renew(&site.client).await.unwrap_err();
    assert!(
        matches!(error, RenewError::Refused(_)) && error.to_string().contains("revoked"),
        "{error}"
    );
    assert!(Arc::ptr_eq(&before, &current.get()), "what it had stays");

    let next = {
        let mut authorities = site.fake.authorities.lock().unwrap();
        authorities
            .step(Step::Begin, false, DAY, SystemTime::now())
            .unwrap();
        authorities
            .step(Step::Activate, false, DAY, SystemTime::now())
            .unwrap();
        authorities.pin()
    };
    node.renew(&site.client).await.unwrap();
    assert_ne!(current.get().certificate().serial, before.certificate().serial);
    let keys = site.fake.keys.lock().unwrap().clone();
    assert_ne!(keys.first(), keys.last(), "another key");
    let kept = haul_identity::HostRecord::read(&haul_agent::identity_dir(site.state_dir())).unwrap();
    assert!(kept.trusts(next));
    assert_eq!(
        kept.identity().unwrap().certificate(),
        current.get().certificate()
    );
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_without_being_asked() {
    let site = site();
    // It joined so long ago that its certificate is over.
    let key = haul_identity::joining_key(
        &haul_agent::identity_dir(site.state_dir()),
        site.order(Role::Agent, site.pin()).token.secret().id(),
    )
    .unwrap();
    let request = VerifiedRequest::verify(&key.request().unwrap()).unwrap();
    let (issued, bundle) = {
        let authorities = site.fake.authorities.lock().unwrap();
        let name = NodeName::try_from("box".to_owned()).unwrap();
        let then = SystemTime::now() - 2 * DAY;
        (
            authorities
                .issue_node(&request, &name, site.fake.node, DAY, then)
                .unwrap(),
            authorities.bundle(),
        )
    };
    let trusted = bundle.certificates().map(<[u8]>::to_vec);
    let record = haul_identity::HostRecord::new(vec![], &key, issued.chain, trusted).unwrap();
    record.write(&haul_agent::identity_dir(site.state_dir())).unwrap();

    let node = NodeIdentity::open(site.state_dir()).unwrap();
    let current = node.current();
    assert!(
        current
            .get()
            .certificate()
            .validity
            .has_expired(SystemTime::now())
    );
    let shutdown = tokio_util::sync::CancellationToken::new();
    let renewed = async {
        while current
            .get()
            .certificate()
            .validity
            .has_expired(SystemTime::now())
        {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
    };
    let keeping = node.keep_renewed(site.client.clone(), shutdown.clone());
    let both = futures::future::join(keeping, renewed);
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("it is renewed");
}
