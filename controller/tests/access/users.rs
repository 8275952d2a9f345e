//! Users: whose a job is, and what a token is for.

use haul_proto::{client, v1};
use haul_types::{JobId, Role};
use tonic::Code;

use crate::calls::cancel;
use crate::world::{NOWHERE, Parcel, World, submit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_its_submitters() {
    let world = World::start().await;
    let user = async |name: &str| world.user(&world.user_token(Role::Submitter, name).await);
    let (ada, grace) = (user("ada").await, user("grace").await);
    let parcel = Parcel::new("the code");
    let job = world.submit(&ada, &parcel, NOWHERE).await;
    assert_eq!(world.job(job).await.0.owner, "ada");
    let listed = client::jobs(grace.calls())
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.into_inner().jobs[0].owner, "ada");

    // Said again by the same user it is the same job; by another, not even an admin, it is not.
    submit(&ada, job, &parcel, NOWHERE).await.unwrap();
    for other in [&grace, &world.admin] {
        let status = submit(other, job, &parcel, NOWHERE).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists);
    }
    let status = cancel(&grace, job).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "the job is ada's: only ada or an admin may change it"
    );
    // Of the same name, by another token: a lost token is replaced.
    cancel(&user("ada").await, job).await.unwrap();
    let job_id = job.to_string();
    let request = v1::RemoveJobRequest { job_id };
    let status = client::jobs(grace.calls()).remove_job(request.clone()).await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
    client::jobs(world.admin.calls())
        .remove_job(request)
        .await
        .unwrap();
    world.end().await;
}

/// Both are answered only when the job is stored, and as the one job that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_job_from_two_users_at_once_is_one_users() {
    let world = World::start().await;
    let user = async |name: &str| world.user(&world.user_token(Role::Submitter, name).await);
    let (ada, grace) = (user("ada").await, user("grace").await);
    let parcel = Parcel::new("the code");
    parcel.upload(&world.admin).await.unwrap();
    for _ in 0..20 {
        let id = JobId::random();
        let outcomes = tokio::join!(
            submit(&ada, id, &parcel, NOWHERE),
            submit(&grace, id, &parcel, NOWHERE)
        );
        let (name, lost) = match outcomes {
            (Ok(()), Err(status)) => ("ada", status),
            (Err(status), Ok(())) => ("grace", status),
            other => panic!("{other:?}"),
        };
        assert_eq!(world.job(id).await.0.owner, name);
        let codes = [Code::AlreadyExists, Code::Unavailable];
        assert!(codes.contains(&lost.code()), "{lost}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_a_target_submits_to_that_target_alone() {
    let world = World::start().await;
    let order = v1::CreateTokenRequest {
        role: v1::Role::Submitter.into(),
        name: "ada".to_owned(),
        target: NOWHERE.to_owned(),
        ..v1::CreateTokenRequest::default()
    };
    let ada = world.user(&world.token(order).await);
    let parcel = Parcel::new("the code");
    let job = world.submit(&ada, &parcel, NOWHERE).await;
    let mut refusals = Vec::new();
    for target in ["", "elsewhere"] {
        let status = submit(&ada, JobId::random(), &parcel, target).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        refusals.push(status.message().to_owned());
    }
    insta::assert_snapshot!(refusals.join("\n"), @r"
    the token of ada is for target nowhere alone, and this job names no target: submit it with `--target nowhere`
    the token of ada is for target nowhere alone, and this job names target elsewhere: submit it with `--target nowhere`
    ");
    // It sees what others have, all the same.
    let other = world.submit(&world.admin, &parcel, "").await;
    for id in [job, other].map(|id| id.to_string()) {
        client::jobs(ada.calls())
            .get_job(v1::GetJobRequest { id })
            .await
            .unwrap();
    }
    world.end().await;
}
