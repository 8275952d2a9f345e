//! `haul wait`.

use std::time::Duration;

use haul_client::{Client, Follow, FollowEvent, FollowJob, FollowTask, JobDetails};

use super::{find, index_of};
use crate::args::WaitArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::output::Event;
use crate::run;

pub(crate) async fn wait(args: WaitArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let details = find(&client, &args.job).await?;
    let id = details.job.id;
    let limit = args.timeout.unwrap_or(Duration::MAX);
    let waited = tokio::time::timeout(limit, end_of(&client, &details, &args, context)).await;
    match waited {
        Ok(exit) => exit,
        Err(_) => {
            context.output.hint(&format!(
                "job {id} has not ended; `haul show {id}` says what it does"
            ));
            Ok(Exit(exit::GOES_ON))
        }
    }
}

async fn end_of(
    client: &Client,
    details: &JobDetails,
    args: &WaitArgs,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let id = details.job.id;
    if details.spec.array.is_some() && args.job.task.is_none() {
        let mut last = None;
        let mut follow = client.follow_sums(FollowJob { job: id });
        while let Some(event) = next(&mut follow, context).await? {
            if let FollowEvent::Job(job) = event {
                last = Some(job);
            }
        }
        let job = last.ok_or_else(|| Failure::infrastructure(format!("job {id} ended without a word")))?;
        return run::exit_of_array(client, &job, context).await;
    }
    let mut follow = client.follow(FollowTask {
        job: id,
        task: Some(index_of(details, &args.job)?),
        attempt: None,
        positions: Vec::new(),
    });
    let mut last = None;
    while let Some(event) = next(&mut follow, context).await? {
        if let FollowEvent::Task(task) = event {
            last = Some(task);
        }
    }
    let task = last.ok_or_else(|| Failure::infrastructure(format!("job {id} ended without a word")))?;
    let exit = Exit::of(&task);
    context.output.event(&Event::Ended {
        id,
        state: task.state,
        exit_code: exit.0,
    });
    Ok(exit)
}

async fn next(follow: &mut Follow, context: &mut Context) -> Result<Option<FollowEvent>, Failure> {
    let event = follow.next().await?;
    match &event {
        Some(FollowEvent::Lost { why }) => context.output.event(&Event::Lost(why)),
        Some(FollowEvent::Resumed) => context.output.event(&Event::Resumed),
        _ => {}
    }
    Ok(event)
}
