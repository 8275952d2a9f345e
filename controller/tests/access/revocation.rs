//! Who is revoked is cut off at once, and stays out.

use std::time::Duration;

use haul_proto::{client, v1};
use haul_types::Role;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::session::{Session, step};
use crate::world::{Parcel, World, join};

/// Within this time all that is under way has ended.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How an answer that goes on ends.
async fn end<T>(answer: &mut Streaming<T>) -> Option<Status> {
    let end = async {
        loop {
            match answer.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    };
    tokio::time::timeout(AT_ONCE, end).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_cut_off_and_stays_out() {
    let world = World::start().await;
    let machine = world.enrol("box-a").await;
    let mut session = Session::open(&machine.client, "box-a", &[]).await.unwrap();
    let job = world
        .submit(&world.admin, &Parcel::new("the code"), "box-a")
        .await;
    let attempt = session.assigned().await;
    session.tell(step(attempt, v1::TaskState::Running)).await;
    let (frames, shipped) = mpsc::channel(1);
    let frame = v1::LogFrame {
        stream: v1::StreamKind::Stdout.into(),
        offset: 0,
        data: b"a line\n".as_slice().into(),
    };
    let frame = v1::ShipLogsRequest {
        attempt: Some(attempt.into()),
        frame: Some(frame),
    };
    frames.send(frame).await.unwrap();
    let mut service = client::agent(machine.client.calls());
    let logs = service.ship_logs(ReceiverStream::new(shipped)).await;
    let mut logs = logs.unwrap().into_inner();
    let first = logs.message().await.unwrap().unwrap();
    assert_eq!((first.durable, first.unwanted), (7, false));

    world.revoke_node("box-a").await;
    for ended in [end(&mut session.hear).await, end(&mut logs).await] {
        let status = ended.unwrap();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("was revoked here"), "{status}");
    }
    let (_, task) = world.job(job).await;
    assert_eq!(task.timeline.last().unwrap().reason(), v1::Reason::Lost);

    // With the certificate that it has, over the connection that it has.
    let again = Session::open(&machine.client, "box-a", &[attempt]).await;
    let request = machine.key.request().unwrap();
    let mut service = client::identity(machine.client.calls());
    let renewed = service.renew(v1::RenewRequest { request }).await;
    for status in [again.err().unwrap(), renewed.unwrap_err()] {
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("was revoked here"), "{status}");
    }
    // With the key and the token that it joined with.
    let again = join(&world.nobody(), &machine.token, &machine.key, "box-a").await;
    let status = again.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(
        status.message().contains("ask an admin for another one"),
        "{status}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_what_its_user_follows() {
    let world = World::start().await;
    let job = world
        .submit(&world.admin, &Parcel::new("the code"), crate::world::NOWHERE)
        .await;
    let (token, other) = (
        world.user_token(Role::Viewer, "vera").await,
        world.user_token(Role::Viewer, "otto").await,
    );
    let follow = async |token| {
        let request = v1::FollowJobRequest {
            job_id: job.to_string(),
            summary: true,
            ..v1::FollowJobRequest::default()
        };
        let mut service = client::jobs(world.user(token).calls());
        let mut following = service.follow_job(request).await.unwrap().into_inner();
        assert!(following.message().await.unwrap().is_some());
        following
    };
    let (mut following, mut others) = (follow(&token).await, follow(&other).await);
    world.revoke_token(&token).await;
    let status = end(&mut following).await.unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("revoked"), "{status}");
    // Of another user's nothing ends but with the job.
    crate::calls::cancel(&world.admin, job).await.unwrap();
    assert!(end(&mut others).await.is_none());
    world.end().await;
}
