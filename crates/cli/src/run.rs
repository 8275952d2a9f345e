//! `haul run`: find out what is meant, send the directory, hand over the job, follow it to its end.

mod array;
pub(crate) mod attached;
mod choice;
mod fetching;
mod plan;
mod program;
mod progress;
mod question;
mod sending;
mod sink;
#[cfg(test)]
mod tests;
mod variables;

use std::path::{Path, PathBuf};

pub(crate) use array::exit_of as exit_of_array;
pub(crate) use program::find_on_path;
pub(crate) use sending::tell_unplaceable;
pub(crate) use sink::Sink;

use haul_client::{Client, Task};
use haul_snapshot::scan::ignored_reason;
use haul_snapshot::tree::Overwrite;
use haul_types::{JobId, JobSpec, TaskState};

use crate::args::RunArgs;
use crate::change::outputs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::fleet;
use crate::output::{Event, Mode};

/// Runs what was asked for.
pub(crate) async fn run(args: Box<RunArgs>, context: &mut Context) -> Result<Exit, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|error| Failure::usage("cannot tell the current directory").because(&error))?;
    let after_dashes = plan::stands_after_dashes(&context.words, args.command.len());
    let plan = plan::plan(&args, after_dashes, &cwd)?;
    let to = args.fetch_outputs.as_ref().map(|dir| cwd.join(dir));
    if let Some(to) = &to {
        fetching::refuse_unusable(to)?;
    }
    let local = context.local()?;
    let client = context.client().await?;
    if let Some(target) = &plan.scheduling.target {
        fleet::ensure_known(&client, target).await?;
    }
    let (id, spec) = sending::submit(&client, &plan, &local, context).await?;
    context.output.event(&Event::Submitted {
        id,
        name: &spec.name,
        detached: args.detach,
    });
    if args.detach {
        context.output.hint(&format!(
            "`haul logs -f {id}` watches it, `haul cancel {id}` stops it"
        ));
        return Ok(Exit::SUCCESS);
    }
    let exit = to_its_end(&client, id, &spec, to.clone(), context).await?;
    if let Some(to) = to.filter(|to| will_be_sent(&plan.dir, to)) {
        let inner = to.strip_prefix(&plan.dir).unwrap_or(&to).display();
        context.output.hint(&format!(
            "{inner} will be sent with the next run; name it in .haulignore if it should not"
        ));
    }
    Ok(exit)
}

/// Follows a job that was just submitted, and exits as it does.
pub(crate) async fn to_its_end(
    client: &Client,
    id: JobId,
    spec: &JobSpec,
    fetch_to: Option<PathBuf>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    if spec.array.is_some() {
        return array::follow(client, id, context).await;
    }
    match attached::follow(client, id, None, context).await? {
        attached::Followed::Left(exit) => Ok(exit),
        attached::Followed::Ended(task) => {
            let exit = Exit::of(&task);
            tell_end(id, &task, exit, context);
            match fetch_to {
                Some(dir) if task.state == TaskState::Succeeded => {
                    bring_outputs(client, id, &task, &dir, context).await?;
                }
                _ if task.outputs.is_some() => {
                    context.output.hint(&format!(
                        "it left outputs: `haul outputs get {id}` brings them here"
                    ));
                }
                _ => {}
            }
            Ok(exit)
        }
    }
}

/// Whether what was brought back lies in the directory that is sent, and no rule leaves it out.
fn will_be_sent(dir: &Path, outputs: &Path) -> bool {
    outputs.is_dir() && outputs.starts_with(dir) && matches!(ignored_reason(dir, outputs), Ok(None))
}

async fn bring_outputs(
    client: &Client,
    id: JobId,
    task: &Task,
    dir: &Path,
    context: &mut Context,
) -> Result<(), Failure> {
    let Some(snapshot) = task.outputs else {
        context.output.hint("it left nothing in ./outputs");
        return Ok(());
    };
    let fetched = outputs::bring(client, snapshot, dir.to_owned(), Overwrite::Replace)
        .await
        .map_err(|failure| {
            Failure::from(failure).after_the_job().help(format!(
                "the job has succeeded: `haul outputs get {id} --to DIR` brings them elsewhere"
            ))
        })?;
    let totals = fetched.totals;
    let text = format!(
        "{} {}, {}, in {}",
        totals.files,
        if totals.files == 1 { "output" } else { "outputs" },
        haul_types::ByteSize(totals.bytes),
        dir.display()
    );
    if context.mode != Mode::Quiet {
        context.output.event(&Event::Progress(&text));
    }
    Ok(())
}

/// Says how it ended, unless the exit code and the job's own words say it all.
fn tell_end(id: JobId, task: &Task, exit: Exit, context: &mut Context) {
    context.output.event(&Event::Ended {
        id,
        state: task.state,
        exit_code: exit.0,
    });
    let Some(last) = task.last().filter(|_| task.state != TaskState::Succeeded) else {
        return;
    };
    let why = match last.detail.as_str() {
        "" => last.reason.as_str().replace('_', " "),
        // The rest is a tool's own words, and in the setup stream.
        detail => {
            let first = detail.lines().next().unwrap_or_default();
            crate::text::printable(first).into_owned()
        }
    };
    let how = task
        .exit
        .map(|exit| exit.to_string())
        .filter(|how| !why.contains(how));
    let how = how.map(|how| format!(", {how}")).unwrap_or_default();
    context.output.hint(&format!(
        "job {id} {}: {why}{how}; `haul show {id}` tells more",
        task.state
    ));
}
