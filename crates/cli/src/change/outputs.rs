//! `haul outputs`.

use std::path::PathBuf;
use std::sync::Arc;

use haul_client::{Client, FetchError, Fetched};
use haul_snapshot::tree::Overwrite;
use haul_types::Digest;

use crate::args::{JobTask, OutputsArgs, OutputsCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{FetchedReport, OutputsReport};
use crate::query::{find, index_of, task_of};

pub(crate) async fn outputs(args: OutputsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    match args.command {
        OutputsCommand::Ls { job } => {
            let Some(snapshot) = left_by(&client, &job, false, context).await? else {
                return Ok(Exit::SUCCESS);
            };
            let manifest = client.manifest(snapshot, &[]).await?;
            context.output.report(&OutputsReport(&manifest));
        }
        OutputsCommand::Get { job, to, force, logs } => {
            let Some(snapshot) = left_by(&client, &job, logs, context).await? else {
                return Ok(Exit::SUCCESS);
            };
            let usual = if logs { "logs" } else { "outputs" };
            let dir = to.unwrap_or_else(|| usual.into());
            let overwrite = if force {
                Overwrite::Replace
            } else {
                Overwrite::Refuse
            };
            let fetched = bring(&client, snapshot, dir.clone(), overwrite).await?;
            context.output.report(&FetchedReport { fetched, dir: &dir });
        }
    }
    Ok(Exit::SUCCESS)
}

/// Writes what a task left into a directory.
pub(crate) async fn bring(
    client: &Client,
    snapshot: Digest,
    dir: PathBuf,
    overwrite: Overwrite,
) -> Result<Fetched, FetchError> {
    let manifest = Arc::new(client.manifest(snapshot, &[]).await?);
    client.fetch(&manifest, dir, overwrite).await
}

/// The snapshot of what a task left, if it left something.
async fn left_by(
    client: &Client,
    name: &JobTask,
    logs: bool,
    context: &mut Context,
) -> Result<Option<Digest>, Failure> {
    let details = find(client, name).await?;
    if let (Some(array), None) = (details.spec.array, name.task) {
        return Err(Failure::usage(format!("job {} has many tasks", details.job.id))
            .help(format!("name one of them: {}.{}", details.job.id, array.first)));
    }
    let index = index_of(&details, name)?;
    let task = task_of(client, &details, index).await?;
    let left = task
        .as_ref()
        .and_then(|task| if logs { task.logs } else { task.outputs });
    if left.is_none() {
        let ended = task.is_some_and(|task| task.state.is_terminal());
        let what = if logs { "./logs" } else { "./outputs" };
        context.output.hint(&if ended {
            format!("it left nothing in {what}")
        } else {
            format!("what it leaves in {what} is collected at its end; `haul wait {name}` waits for that")
        });
    }
    Ok(left)
}
