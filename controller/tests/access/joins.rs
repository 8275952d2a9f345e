//! A join token is used once, however many come with it.

use std::sync::Arc;

use haul_identity::HostKey;
use haul_proto::{client, v1};
use haul_types::Role;
use tokio::sync::Barrier;
use tonic::Code;

use crate::world::World;

const CONNECTIONS: usize = 50;
const JOINS_OF_EACH: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_joins_at_once_one_succeeds() {
    let world = World::start().await;
    let token = world.user_token(Role::Agent, "").await;
    // Each connection is open, and each request is made, before the first one is sent.
    let start = Arc::new(Barrier::new(CONNECTIONS * JOINS_OF_EACH));
    let mut joins = Vec::new();
    for connection in 0..CONNECTIONS {
        let nobody = world.nobody();
        let mut service = client::identity(nobody.calls());
        let refused = service.get_caller(v1::GetCallerRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        for place in 0..JOINS_OF_EACH {
            let request = v1::JoinRequest {
                secret: token.secret().reveal(),
                request: HostKey::generate().unwrap().request().unwrap(),
                node: format!("box-{connection}-{place}"),
                ..v1::JoinRequest::default()
            };
            let (mut service, start) = (service.clone(), Arc::clone(&start));
            joins.push(async move {
                start.wait().await;
                service.join(request).await
            });
        }
    }
    let outcomes = futures::future::join_all(joins).await;
    let (joined, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(
        (joined.len(), refused.len()),
        (1, CONNECTIONS * JOINS_OF_EACH - 1)
    );
    for status in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(
            status.message().contains("ask an admin for another one"),
            "{status}"
        );
    }
    world.end().await;
}
