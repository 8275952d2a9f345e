//! The table, and what the layer does with those that it lets in.

use haul_identity::Secret;
use haul_store::{IdentityOp, Metadata, Op, TokenRecord};
use haul_types::{Digest, NodeId, NodeName};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::*;

fn user(role: Role) -> Principal {
    Principal::User {
        hash: Digest::of(b"secret"),
        name: "somebody".to_owned(),
        role,
        target: None,
    }
}

#[test]
fn what_a_role_may_do_the_next_one_may_too() {
    for rpc in Rpc::ALL {
        let may = |principal: &Principal| rule(rpc).admits(principal).is_ok();
        let users = [Role::Viewer, Role::Submitter, Role::Admin].map(|role| may(&user(role)));
        assert!(users.is_sorted(), "{rpc:?}: {users:?}");
        assert!(may(&Principal::Local), "{rpc:?}");
        let anybody = rule(rpc) == Rule::Anybody;
        assert_eq!(
            may(&user(Role::Agent)),
            anybody,
            "a join token makes no calls: {rpc:?}"
        );
        assert_eq!(may(&Principal::Anonymous), anybody, "{rpc:?}");
    }
}

#[test]
fn nodes_and_users_do_not_share_their_calls() {
    let name = NodeName::try_from("box".to_owned()).unwrap();
    let node = Principal::Node {
        name,
        id: NodeId::random(),
    };
    for rpc in Rpc::ALL {
        let both = rule(rpc).admits(&node).is_ok() && rule(rpc).admits(&user(Role::Admin)).is_ok();
        assert_eq!(
            both,
            matches!(rule(rpc), Rule::NodeOrUser(_) | Rule::Anybody),
            "{rpc:?}"
        );
    }
}

/// Stores a change.
async fn store(metadata: &Metadata, op: IdentityOp) {
    let (told, outcome) = oneshot::channel();
    metadata.commit(vec![Op::Identity(op)], move |outcome| drop(told.send(outcome)));
    outcome.await.unwrap().unwrap();
}

/// A body that never has anything and never ends: of a caller that goes on sending.
struct Endless;

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_request_that_goes_on_ends_when_its_caller_is_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(directory.path()).unwrap();
    let secret = Secret::random().unwrap();
    let token = TokenRecord {
        hash: secret.hash(),
        name: "ada".to_owned(),
        role: Role::Submitter,
        target: None,
        labels: std::collections::BTreeMap::new(),
        replaces: None,
        created_unix_ms: 0,
        expires_unix_ms: None,
        used: None,
        revoked_unix_ms: None,
    };
    let id = token.id();
    store(&metadata, IdentityOp::PutToken(token)).await;
    let callers = Arc::new(Callers::new(metadata.clone()));
    let (say, reading) = oneshot::channel();
    let say = std::sync::Mutex::new(Some(say));
    // Reads all that it is sent, and answers when that has ended.
    let service = tower::service_fn(move |request: Request<Body>| {
        let say = say.lock().unwrap().take();
        async move {
            say.unwrap().send(()).unwrap();
            let status = request.into_body().collect().await.unwrap_err();
            Ok::<_, Infallible>(status.into_http())
        }
    });
    let mut authorized = Authorize(Arc::clone(&callers)).layer(service);
    let request = Request::builder()
        .uri(Rpc::SnapshotUpload.path())
        .header("authorization", format!("Bearer {}", secret.reveal()))
        .body(Body::new(Endless))
        .unwrap();
    let answer = authorized.call(request);
    let revoke = async {
        reading.await.unwrap();
        store(&metadata, IdentityOp::RevokeToken { id, at_unix_ms: 1 }).await;
        callers.on_revoked();
    };
    let (answer, ()) = tokio::join!(answer, revoke);
    let status = Status::from_header_map(answer.unwrap().headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(status.message().contains("revoked"), "{status}");
}
