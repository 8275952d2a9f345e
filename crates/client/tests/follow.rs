//! Following across lost connections, against a controller that is as unreliable as the test wants.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use haul_client::{CallError, Client, FollowError, FollowEvent, FollowTask, UnixSocket};
use haul_proto::server::{self, JobService};
use haul_proto::v1;
use haul_types::{JobId, StreamKind, TaskState};
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Script = dyn Fn(usize, v1::FollowJobRequest) -> Vec<Result<v1::FollowJobResponse, Status>> + Send + Sync;

/// Answers each FollowJob as the script says, which is told which call it is.
struct Fake {
    calls: AtomicUsize,
    script: Box<Script>,
}

#[tonic::async_trait]
impl JobService for Fake {
    type FollowJobStream = Answers<v1::FollowJobResponse>;
    type ReadLogStream = Answers<v1::ReadLogResponse>;

    async fn follow_job(
        &self,
        request: Request<v1::FollowJobRequest>,
    ) -> Result<Response<Self::FollowJobStream>, Status> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let answers = (self.script)(call, request.into_inner());
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn submit_job(
        &self,
        _: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        Err(Status::failed_precondition("the snapshot is not complete"))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        // Busy the first time.
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Status::unavailable("busy")),
            _ => Err(Status::not_found(format!("no job {}", request.into_inner().id))),
        }
    }

    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_tasks(
        &self,
        _: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_job(
        &self,
        _: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn remove_job(
        &self,
        _: Request<v1::RemoveJobRequest>,
    ) -> Result<Response<v1::RemoveJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn read_log(
        &self,
        _: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// A client of a controller with this script; the directory holds its socket.
async fn client(
    script: impl Fn(usize, v1::FollowJobRequest) -> Vec<Result<v1::FollowJobResponse, Status>>
    + Send
    + Sync
    + 'static,
) -> (Client, tempfile::TempDir, tokio::task::JoinSet<()>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("s");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).expect("a free path"));
    let fake = Fake {
        calls: AtomicUsize::new(0),
        script: Box::new(script),
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let router = tonic::transport::Server::builder().add_service(server::jobs(fake));
        router.serve_with_incoming(incoming).await.expect("it serves");
    });
    let client = Client::connect(Arc::new(UnixSocket::new(path)))
        .await
        .expect("it serves");
    (client, dir, tasks)
}

fn frame(offset: usize, data: &[u8]) -> Result<v1::FollowJobResponse, Status> {
    Ok(v1::FollowJobResponse {
        event: Some(v1::follow_job_response::Event::Log(v1::LogFrame {
            stream: v1::StreamKind::Stdout as i32,
            offset: offset as u64,
            data: data.to_vec().into(),
        })),
    })
}

fn state(state: TaskState) -> Result<v1::FollowJobResponse, Status> {
    Ok(v1::FollowJobResponse {
        event: Some(v1::follow_job_response::Event::Task(v1::Task {
            state: state as i32,
            attempt: 1,
            ..v1::Task::default()
        })),
    })
}

fn what() -> FollowTask {
    FollowTask {
        job: JobId::random(),
        task: None,
        attempt: None,
        positions: vec![(StreamKind::Stdout, 0)],
    }
}

#[tokio::test(start_paused = true)]
async fn no_byte_is_lost_or_repeated_when_connections_break() {
    let content: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
    let expected = content.clone();
    let (client, _dir, _tasks) = client(move |call, request| {
        let asked = request.positions[0].offset as usize;
        // Each call repeats a little, sends some, and breaks; every third ends in peace instead, too early.
        let from = asked.saturating_sub(7);
        let until = (asked + 1_500).min(content.len());
        let mut answers = vec![state(TaskState::Running), frame(from, &content[from..until])];
        if until == content.len() {
            answers.push(state(TaskState::Succeeded));
        } else if call % 3 != 2 {
            answers.push(Err(Status::unavailable("going away")));
        }
        answers
    })
    .await;
    let mut follow = client.follow(what());
    let (mut got, mut lost, mut resumed) = (Vec::new(), 0, 0);
    while let Some(event) = follow.next().await.unwrap() {
        match event {
            FollowEvent::Log { offset, data, .. } => {
                assert_eq!(offset, got.len() as u64);
                got.extend_from_slice(&data);
            }
            FollowEvent::Lost { .. } => lost += 1,
            FollowEvent::Resumed => resumed += 1,
            _ => {}
        }
    }
    assert!(got == expected, "{} bytes came", got.len());
    assert_eq!((lost, resumed), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn a_new_attempt_begins_at_zero() {
    let (client, _dir, _tasks) = client(|call, request| {
        let offset = request.positions[0].offset;
        match call {
            0 => vec![
                state(TaskState::Running),
                frame(0, b"first"),
                Err(Status::unavailable("x")),
            ],
            _ => {
                assert_eq!((request.attempt, offset), (1, 5));
                let attempt = v1::follow_job_response::Event::Attempt(2);
                vec![
                    Ok(v1::FollowJobResponse { event: Some(attempt) }),
                    frame(0, b"second"),
                    state(TaskState::Succeeded),
                ]
            }
        }
    })
    .await;
    let mut follow = client.follow(what());
    let mut got = Vec::new();
    while let Some(event) = follow.next().await.unwrap() {
        match event {
            FollowEvent::Log { data, .. } => got.extend_from_slice(&data),
            FollowEvent::Attempt(2) => got.push(b'|'),
            _ => {}
        }
    }
    assert_eq!(got, b"first|second");
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_leaves_bytes_out_is_not_believed() {
    let (client, _dir, _tasks) =
        client(|_, _| vec![frame(0, b"ab"), frame(5, b"xy"), state(TaskState::Succeeded)]).await;
    let mut follow = client.follow(what());
    let error = loop {
        match follow.next().await {
            Ok(event) => assert!(event.is_some(), "it ended as if nothing were wrong"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            FollowError::Gap {
                wanted: 2,
                sent: 5,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_controller_is_asked_again_and_an_unknown_job_is_not() {
    let (client, _dir, _tasks) = client(|_, _| Vec::new()).await;
    let error = client.job("4f").await.unwrap_err();
    assert!(
        matches!(&error, CallError::NotFound(text) if text == "no job 4f"),
        "{error}"
    );
}
