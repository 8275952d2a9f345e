//! Questions about jobs, and wishes.

use haul_proto::{client, v1};
use haul_types::{JobId, JobSpec, TaskIndex, TaskState};

use crate::call::repeated;
use crate::view::present;
use crate::{CallError, Client, Job, Task};

/// One job, with the tasks that something has happened to.
#[derive(Clone, Debug)]
pub struct JobDetails {
    /// The job.
    pub job: Job,
    /// What was submitted.
    pub spec: JobSpec,
    /// Its first tasks, at most 100, in order of index.
    pub tasks: Vec<Task>,
    /// Why it waits, while it is queued; may be empty.
    pub waiting_for: String,
}

/// Jobs, newest first.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// For the next page; none after the last.
    pub next: Option<String>,
}

impl Client {
    /// One job, by its id, a prefix that no other job shares, or `last`.
    pub async fn job(&self, id: &str) -> Result<JobDetails, CallError> {
        let request = v1::GetJobRequest { id: id.to_owned() };
        let answer = repeated(|| {
            let (channel, request) = (self.calls(), request.clone());
            async move { client::jobs(channel).get_job(request).await }
        })
        .await?;
        let answer = answer.into_inner();
        let job = present("job", answer.job)?;
        Ok(JobDetails {
            spec: present("spec", job.spec.as_ref())?.try_into()?,
            job: Job::try_from(&job)?,
            tasks: tasks_from(answer.tasks)?,
            waiting_for: answer.waiting_for,
        })
    }

    /// Jobs in these states (all when empty), newest first; a page that `after` names, or the first.
    pub async fn jobs(
        &self,
        states: &[TaskState],
        page_size: u32,
        after: Option<String>,
    ) -> Result<JobPage, CallError> {
        let request = v1::ListJobsRequest {
            states: states.iter().map(|&state| state as i32).collect(),
            page_size,
            page_token: after.unwrap_or_default(),
        };
        let answer = repeated(|| {
            let (channel, request) = (self.calls(), request.clone());
            async move { client::jobs(channel).list_jobs(request).await }
        })
        .await?;
        let answer = answer.into_inner();
        Ok(JobPage {
            jobs: answer.jobs.iter().map(Job::try_from).collect::<Result<_, _>>()?,
            next: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// Tasks of a job in these states (all when empty), from an index on.
    pub async fn tasks(
        &self,
        job: JobId,
        states: &[TaskState],
        from_index: TaskIndex,
        page_size: u32,
    ) -> Result<Vec<Task>, CallError> {
        let request = v1::ListTasksRequest {
            job_id: job.to_string(),
            states: states.iter().map(|&state| state as i32).collect(),
            from_index,
            page_size,
        };
        let answer = repeated(|| {
            let (channel, request) = (self.calls(), request.clone());
            async move { client::jobs(channel).list_tasks(request).await }
        })
        .await?;
        Ok(tasks_from(answer.into_inner().tasks)?)
    }

    /// One task of a job; none when nothing has happened to it yet.
    pub async fn task(&self, job: JobId, index: TaskIndex) -> Result<Option<Task>, CallError> {
        let tasks = self.tasks(job, &[], index, 1).await?;
        Ok(tasks.into_iter().find(|task| task.index == index))
    }

    /// Asks a job, or one task of it, to stop. Whether it had ended already.
    pub async fn cancel(&self, job: JobId, task: Option<TaskIndex>) -> Result<bool, CallError> {
        let request = v1::CancelJobRequest {
            job_id: job.to_string(),
            task_index: task,
        };
        let answer = repeated(|| {
            let (channel, request) = (self.calls(), request.clone());
            async move { client::jobs(channel).cancel_job(request).await }
        })
        .await?;
        Ok(answer.into_inner().had_ended)
    }

    /// Forgets a job that has ended, with its logs and outputs.
    pub async fn remove(&self, job: JobId) -> Result<(), CallError> {
        let request = v1::RemoveJobRequest {
            job_id: job.to_string(),
        };
        repeated(|| {
            let (channel, request) = (self.calls(), request.clone());
            async move { client::jobs(channel).remove_job(request).await }
        })
        .await?;
        Ok(())
    }
}

fn tasks_from(messages: Vec<v1::Task>) -> Result<Vec<Task>, haul_proto::BadMessage> {
    messages.into_iter().map(Task::try_from).collect()
}
