//! Questions about jobs.

pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod show;
pub(crate) mod wait;

use haul_client::{Client, JobDetails, Task};
use haul_types::TaskIndex;

use crate::args::JobTask;
use crate::failure::Failure;

/// The job that somebody named.
pub(crate) async fn find(client: &Client, name: &JobTask) -> Result<JobDetails, Failure> {
    Ok(client.job(&name.job).await?)
}

/// The task that somebody named: one of an array by its index, else the job's only or first one.
pub(crate) fn index_of(details: &JobDetails, name: &JobTask) -> Result<TaskIndex, Failure> {
    match (name.task, details.spec.array) {
        (None, None) | (Some(0), None) => Ok(0),
        (None, Some(array)) => Ok(array.first),
        (Some(index), Some(array)) if (array.first..=array.last).contains(&index) => Ok(index),
        (Some(index), Some(array)) => Err(Failure::usage(format!(
            "job {} has no task {index}",
            details.job.id
        ))
        .at(format!("its tasks are {} to {}", array.first, array.last))),
        (Some(index), None) => Err(
            Failure::usage(format!("job {} has no task {index}", details.job.id))
                .at("it is no array")
                .help(format!("leave the index out: {}", details.job.id)),
        ),
    }
}

/// The task of this index; none when nothing has happened to it yet.
pub(crate) async fn task_of(
    client: &Client,
    details: &JobDetails,
    index: TaskIndex,
) -> Result<Option<Task>, Failure> {
    match details.tasks.iter().find(|task| task.index == index) {
        Some(task) => Ok(Some(task.clone())),
        None => Ok(client.task(details.job.id, index).await?),
    }
}
