//! Following an array: sums, not bytes.

use std::time::{Duration, Instant};

use haul_client::{Client, FollowEvent, FollowJob, Job};
use haul_types::{JobId, TaskCounts, TaskState};

use crate::context::Context;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::{Event, Mode, sums};

/// Plain lines come at most so often.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Follows an array to its end. 0 if all succeeded, else as the first task that did not.
pub(super) async fn follow(client: &Client, id: JobId, context: &mut Context) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()
        .map_err(|error| Failure::infrastructure("cannot listen for signals").because(&error))?;
    let mut follow = client.follow_sums(FollowJob { job: id });
    let bar = context.may_draw().then(super::progress::spinner);
    let mut told: Option<Instant> = None;
    let mut told_of: Option<TaskCounts> = None;
    let mut last: Option<Box<Job>> = None;
    let mut asked_to_stop = false;
    loop {
        // What came too soon after a line is told when its time has come: nothing else may follow for hours.
        let untold = last
            .as_deref()
            .filter(|job| bar.is_none() && told_of != Some(job.counts));
        let until_line = told.map_or(Duration::ZERO, |at| LINE_EVERY.saturating_sub(at.elapsed()));
        tokio::select! {
            biased;
            interrupt = interrupts.next() => {
                let hung_up = interrupt == Interrupt::HangUp;
                if hung_up || asked_to_stop {
                    context.output.event(&Event::Detached(id));
                    return Ok(Exit(exit::GOES_ON));
                }
                let Some(stops) = super::attached::wish(interrupt, &mut interrupts).await else {
                    continue;
                };
                if !stops {
                    context.output.event(&Event::Detached(id));
                    return Ok(Exit(exit::GOES_ON));
                }
                asked_to_stop = true;
                client.cancel(id, None).await?;
            }
            event = follow.next() => match event? {
                None => break,
                Some(FollowEvent::Job(job)) => {
                    if let Some(bar) = &bar {
                        bar.set_message(sums(&job.counts));
                        bar.tick();
                    } else if context.mode == Mode::Json || told.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
                        context.output.event(&Event::Sums(&job));
                        told = Some(Instant::now());
                        told_of = Some(job.counts);
                    }
                    last = Some(job);
                }
                Some(FollowEvent::Lost { why }) => context.output.event(&Event::Lost(&why)),
                Some(FollowEvent::Resumed) => context.output.event(&Event::Resumed),
                Some(_) => {}
            },
            () = tokio::time::sleep(until_line), if untold.is_some() => {
                if let Some(job) = untold {
                    context.output.event(&Event::Sums(job));
                    told = Some(Instant::now());
                    told_of = Some(job.counts);
                }
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let Some(job) = last else {
        return Err(Failure::infrastructure(
            "the controller ended the stream without saying how the job ended",
        ));
    };
    if told_of != Some(job.counts) {
        context.output.event(&Event::Sums(&job));
    }
    let exit = exit_of(client, &job, context).await?;
    context.output.event(&Event::Ended {
        id,
        state: job.state,
        exit_code: exit.0,
    });
    Ok(exit)
}

/// How a command that waited for an array exits.
pub(crate) async fn exit_of(client: &Client, job: &Job, context: &mut Context) -> Result<Exit, Failure> {
    if job.state == TaskState::Succeeded {
        return Ok(Exit::SUCCESS);
    }
    for state in [TaskState::Failed, TaskState::Canceled] {
        if let Some(task) = client.tasks(job.id, &[state], 0, 1).await?.first() {
            context.output.hint(&format!(
                "task {} {state}: `haul logs {}.{}` shows what it wrote, `haul show {}` the others",
                task.index, job.id, task.index, job.id
            ));
            return Ok(Exit::of(task));
        }
    }
    // Canceled before any task began.
    Ok(Exit(exit::CANCELED))
}
