//! Nodes and attempts: each to its own, and to those that are current.

use haul_proto::v1;
use haul_types::AttemptId;
use tonic::Code;

use crate::session::{Session, end_with, ship, step};
use crate::world::{Parcel, World, join};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reaches_nothing_of_another_nodes_attempt() {
    let world = World::start().await;
    let (a, b) = (world.enrol("box-a").await, world.enrol("box-b").await);
    let mut on_a = Session::open(&a.client, "box-a", &[]).await.unwrap();
    let mut on_b = Session::open(&b.client, "box-b", &[]).await.unwrap();
    let (code, other) = (Parcel::new("the code"), Parcel::new("other code"));
    world.submit(&world.admin, &code, "box-a").await;
    let of_a = on_a.assigned().await;
    world.submit(&world.admin, &other, "box-b").await;
    let of_b = on_b.assigned().await;

    // In its own name it reads its own snapshot, and no other.
    let acting = b.client.for_attempt(of_b);
    other.fetch(&acting).await.unwrap();
    let status = code.fetch(&acting).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("is not part of the attempt's snapshot"),
        "{status}"
    );
    // Without a name, or in another's, nothing.
    let status = other.fetch(&b.client).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let posing = b.client.for_attempt(of_a);
    for refused in [
        code.fetch(&posing).await,
        code.find_missing(&posing).await,
        Parcel::new("poison").upload(&posing).await,
    ] {
        let status = refused.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let expected = format!("attempt {of_a} is not one of node box-b, or not any more");
        assert_eq!(status.message(), expected);
    }
    assert!(!ship(&b.client, of_a).await.unwrap());
    // Nor does it end the attempt, with the last bytes of its log and with outputs, even in a session of its own.
    let frame = v1::LogFrame {
        stream: v1::StreamKind::Stdout.into(),
        offset: 0,
        data: b"forged\n".as_slice().into(),
    };
    let forged = v1::TaskUpdate {
        tail: vec![frame],
        stream_lengths: vec![0, 7, 0],
        ..end_with(of_a, other.id)
    };
    on_b.finish(forged).await;
    on_b.close().await;
    // The welcome comes after all that the session before has changed.
    let reopened = Session::open(&b.client, "box-b", &[of_b]).await.unwrap();
    let (job, task) = world.job(of_a.task.job).await;
    assert_eq!(job.state(), v1::TaskState::Preparing);
    assert_eq!((task.attempt, task.outputs), (1, vec![]));
    // Where the forged bytes would be, the node's own are taken.
    assert!(ship(&a.client, of_a).await.unwrap());
    // A node that says that it holds another's attempt is told that it is not wanted there.
    let holding = Session::open(&b.client, "box-b", &[of_a, of_b]).await.unwrap();
    assert_eq!(world.job(of_a.task.job).await.1.node, "box-a");
    drop((on_a, reopened, holding));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_are_taken_only_if_they_were_sent() {
    let world = World::start().await;
    let a = world.enrol("box-a").await;
    let mut session = Session::open(&a.client, "box-a", &[]).await.unwrap();
    let code = Parcel::new("the code");
    let mut ends = Vec::new();
    for (sent, outputs) in [
        (true, Parcel::new("a result")),
        (false, Parcel::new("never sent")),
    ] {
        world.submit(&world.admin, &code, "box-a").await;
        let attempt = session.assigned().await;
        if sent {
            outputs.upload(&a.client.for_attempt(attempt)).await.unwrap();
        }
        session.tell(step(attempt, v1::TaskState::Running)).await;
        session.finish(end_with(attempt, outputs.id)).await;
        let (_, task) = world.job(attempt.task.job).await;
        let last = task.timeline.last().unwrap();
        ends.push((task.state(), last.reason(), task.outputs == outputs.id.as_bytes()));
        // It has ended: nothing more is taken for it.
        let acting = a.client.for_attempt(attempt);
        assert_eq!(
            outputs.upload(&acting).await.unwrap_err().code(),
            Code::PermissionDenied
        );
        assert!(!ship(&a.client, attempt).await.unwrap());
    }
    let expected = [
        (v1::TaskState::Succeeded, v1::Reason::Exited, true),
        (v1::TaskState::Failed, v1::Reason::OutputsFailed, false),
    ];
    assert_eq!(ends, expected);
    drop(session);
    world.end().await;
}

/// A machine that takes another's place takes its name, not what ran there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_nodes_place_does_not_take_its_attempts() {
    let world = World::start().await;
    let old = world.enrol("box-a").await;
    let mut session = Session::open(&old.client, "box-a", &[]).await.unwrap();
    let code = Parcel::new("the code");
    world.submit(&world.admin, &code, "box-a").await;
    let attempt: AttemptId = session.assigned().await;

    let order = v1::CreateTokenRequest {
        role: v1::Role::Agent.into(),
        replaces: "box-a".to_owned(),
        ..v1::CreateTokenRequest::default()
    };
    let token = world.token(order).await;
    let new = world.enrol_with(token, "box-a").await;
    let posing = new.client.for_attempt(attempt);
    assert_eq!(
        code.fetch(&posing).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert!(!ship(&new.client, attempt).await.unwrap());
    let (_, task) = world.job(attempt.task.job).await;
    assert_eq!(task.timeline.last().unwrap().reason(), v1::Reason::Lost);

    // It says the same again, as after a lost answer: what it has by now stays its own.
    let mut session = Session::open(&new.client, "box-a", &[]).await.unwrap();
    world.submit(&world.admin, &code, "box-a").await;
    let attempt = session.assigned().await;
    join(&world.nobody(), &new.token, &new.key, "box-a")
        .await
        .unwrap();
    assert!(ship(&new.client, attempt).await.unwrap());
    drop(session);
    world.end().await;
}
