//! Jobs: submit, look up, list, cancel, remove; following is in [`super::follow`].

use std::sync::Arc;

use haul_lifecycle::Event;
use haul_proto::server::JobService;
use haul_proto::{self as proto, v1};
use haul_store::{JobCursor, JobFilter, TaskFilter};
use haul_types::{JobId, JobSpec, TaskId, TaskRecord, TaskState};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status};

use super::{follow, view};
use crate::engine::{Engine, StepError};
use crate::maintenance;
use crate::principal::Principal;
use crate::snapshots::Snapshots;
use crate::status::{IntoStatus, panicked};

/// The name under which the build travels.
const BUILD_METADATA: &str = "haul-build";
/// Entries on a page when the caller does not say, and at most.
const PAGE: (u32, u32) = (100, 1000);

pub(super) struct Jobs {
    pub(super) engine: Arc<Engine>,
    pub(super) snapshots: Arc<Snapshots>,
    /// Sent with each answer to a submission, so that a newer client notices an older private controller.
    pub(super) build: MetadataValue<Ascii>,
}

impl Jobs {
    fn with_build<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        response.metadata_mut().insert(BUILD_METADATA, self.build.clone());
        response
    }

    fn view(&self, task: &TaskRecord) -> v1::Task {
        view::task(task, self.engine.is_unreachable(task))
    }

    /// The answer to a job that is stored already, if this is the same one of the same user.
    fn recognise(
        &self,
        principal: &Principal,
        id: JobId,
        spec: &JobSpec,
    ) -> Result<Option<v1::SubmitJobResponse>, Status> {
        let Some(known) = self.engine.job(id).map_err(IntoStatus::into_status)? else {
            return Ok(None);
        };
        if *known.spec == *spec && known.owner.as_deref() == principal.owner() {
            return Ok(Some(v1::SubmitJobResponse {
                created_unix_ms: known.created_unix_ms,
                unplaceable: self.engine.why_never(id).unwrap_or_default(),
            }));
        }
        Err(Status::already_exists(format!(
            "job {id} is there already, and is another one"
        )))
    }

    /// Whether the caller may change this job. One that is unknown is anybody's to ask for.
    fn ensure_may_change(&self, principal: &Principal, id: JobId) -> Result<(), Status> {
        let job = self.engine.job(id).map_err(IntoStatus::into_status)?;
        job.map_or(Ok(()), |job| principal.may_change(job.owner.as_deref()))
    }

    /// The job that `text` names: an id, a prefix that no other shares, or "last".
    fn resolve(&self, text: &str) -> Result<JobId, Status> {
        let metadata = self.engine.metadata();
        if text == "last" {
            let last = metadata.last_job().map_err(IntoStatus::into_status)?;
            return last.ok_or_else(|| Status::not_found("there is no job yet"));
        }
        match metadata
            .find_by_prefix(text, 2)
            .map_err(IntoStatus::into_status)?
            .as_slice()
        {
            [id] => Ok(*id),
            [] => Err(Status::not_found(format!(
                "no job has an id that begins with {text:?}"
            ))),
            _ => Err(Status::invalid_argument(format!(
                "more than one job has an id that begins with {text:?}"
            ))),
        }
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let _call = self.engine.call();
        let principal = Principal::of(&request);
        let request = request.into_inner();
        let id = proto::job_id(&request.id).map_err(IntoStatus::into_status)?;
        let spec = request
            .spec
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("spec: is missing"))?;
        let spec = Arc::new(JobSpec::try_from(spec).map_err(IntoStatus::into_status)?);
        principal.may_submit_to(spec.scheduling.target.as_ref())?;
        // From here until the job is stored, nothing of its snapshot may be thrown away.
        let _kept = self.snapshots.collecting.read().await;
        if let Some(known) = self.recognise(&principal, id, &spec)? {
            return Ok(self.with_build(known));
        }
        if !self.snapshots.is_known_whole(spec.snapshot) {
            let (snapshots, snapshot) = (Arc::clone(&self.snapshots), spec.snapshot);
            let whole = tokio::task::spawn_blocking(move || snapshots.ensure_whole(snapshot)).await;
            whole.map_err(panicked)?.map_err(IntoStatus::into_status)?;
        }
        let owner = principal.owner().map(str::to_owned);
        match self.engine.submit(id, owner, Arc::clone(&spec)).await {
            Ok(()) | Err(StepError::Refused(haul_lifecycle::Refused::DuplicateJob(_))) => {}
            Err(error) => return Err(error.into_status()),
        }
        // Sent twice at the same time, the other one of the two may still be on its way to the disk.
        let stored = self.recognise(&principal, id, &spec)?;
        let stored = stored.ok_or_else(|| Status::unavailable(format!("job {id} is being stored")))?;
        Ok(self.with_build(stored))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let _call = self.engine.call();
        let id = self.resolve(&request.get_ref().id)?;
        let job = self.engine.job(id).map_err(IntoStatus::into_status)?;
        let job = job.ok_or_else(|| Status::not_found(format!("job {id} was removed")))?;
        let filter = TaskFilter {
            states: Vec::new(),
            from_index: 0,
            limit: PAGE.0 as usize,
        };
        let tasks = self
            .engine
            .metadata()
            .tasks(id, &filter)
            .map_err(IntoStatus::into_status)?;
        Ok(Response::new(v1::GetJobResponse {
            job: Some(view::job(&job)),
            tasks: tasks.iter().map(|task| self.view(task)).collect(),
            waiting_for: self.engine.waiting_for(id).unwrap_or_default(),
        }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let _call = self.engine.call();
        let request = request.into_inner();
        let before = match request.page_token.as_str() {
            "" => None,
            token => {
                let bits = token
                    .parse()
                    .map_err(|_| Status::invalid_argument("page_token: is not one of ours"))?;
                Some(JobCursor::from_bits(bits))
            }
        };
        let limit = page_size(request.page_size);
        let filter = JobFilter {
            states: states(&request.states)?,
            limit,
            before,
        };
        let found = self
            .engine
            .metadata()
            .jobs(&filter)
            .map_err(IntoStatus::into_status)?;
        let next_page_token = match found.last() {
            Some(last) if found.len() == limit => last.cursor.to_bits().to_string(),
            _ => String::new(),
        };
        let jobs = found
            .into_iter()
            .map(|summary| v1::Job {
                id: summary.id.to_string(),
                spec: Some(v1::JobSpec {
                    name: summary.name,
                    ..v1::JobSpec::default()
                }),
                state: summary.state as i32,
                created_unix_ms: summary.created_unix_ms,
                ended_unix_ms: summary.ended_unix_ms.unwrap_or(0),
                counts: summary.counts.0.to_vec(),
                owner: summary.owner.unwrap_or_default(),
            })
            .collect();
        Ok(Response::new(v1::ListJobsResponse {
            jobs,
            next_page_token,
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let _call = self.engine.call();
        let request = request.into_inner();
        let id = proto::job_id(&request.job_id).map_err(IntoStatus::into_status)?;
        let filter = TaskFilter {
            states: states(&request.states)?,
            from_index: request.from_index,
            limit: page_size(request.page_size),
        };
        let tasks = self
            .engine
            .metadata()
            .tasks(id, &filter)
            .map_err(IntoStatus::into_status)?;
        Ok(Response::new(v1::ListTasksResponse {
            tasks: tasks.iter().map(|task| self.view(task)).collect(),
        }))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let _call = self.engine.call();
        let principal = Principal::of(&request);
        let request = request.into_inner();
        let job = proto::job_id(&request.job_id).map_err(IntoStatus::into_status)?;
        self.ensure_may_change(&principal, job)?;
        let outcome = self
            .engine
            .step(Event::Cancel {
                job,
                task: request.task_index,
            })
            .await;
        let refused = match outcome {
            Ok(()) => return Ok(Response::new(v1::CancelJobResponse { had_ended: false })),
            Err(error) => error,
        };
        // Not in progress: either it has ended, or there is no such thing.
        let had_ended = match request.task_index {
            None => self.engine.job(job).map_err(IntoStatus::into_status)?.is_some(),
            Some(index) => self
                .engine
                .task(TaskId { job, index })
                .map_err(IntoStatus::into_status)?
                .is_some(),
        };
        match refused {
            StepError::Refused(_) if had_ended => Ok(Response::new(v1::CancelJobResponse { had_ended })),
            error => Err(error.into_status()),
        }
    }

    async fn remove_job(
        &self,
        request: Request<v1::RemoveJobRequest>,
    ) -> Result<Response<v1::RemoveJobResponse>, Status> {
        let _call = self.engine.call();
        let id = proto::job_id(&request.get_ref().job_id).map_err(IntoStatus::into_status)?;
        let job = self.engine.job(id).map_err(IntoStatus::into_status)?;
        let job = job.ok_or_else(|| Status::not_found(format!("there is no job {id}")))?;
        Principal::of(&request).may_change(job.owner.as_deref())?;
        if !job.state.is_terminal() {
            let problem = format!("job {id} is {}: cancel it first, and wait for its end", job.state);
            return Err(Status::failed_precondition(problem));
        }
        maintenance::remove_job(&self.engine, id)
            .await
            .map_err(IntoStatus::into_status)?;
        Ok(Response::new(v1::RemoveJobResponse {}))
    }

    type FollowJobStream = follow::Stream<v1::FollowJobResponse>;

    async fn follow_job(
        &self,
        request: Request<v1::FollowJobRequest>,
    ) -> Result<Response<Self::FollowJobStream>, Status> {
        follow::follow(&self.engine, request.get_ref()).map(Response::new)
    }

    type ReadLogStream = follow::Stream<v1::ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        follow::read_log(&self.engine, request.get_ref()).map(Response::new)
    }
}

fn page_size(asked: u32) -> usize {
    (if asked == 0 { PAGE.0 } else { asked.min(PAGE.1) }) as usize
}

fn states(numbers: &[i32]) -> Result<Vec<TaskState>, Status> {
    numbers
        .iter()
        .map(|&number| proto::task_state(number).map_err(IntoStatus::into_status))
        .collect()
}
