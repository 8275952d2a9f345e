//! `haul show`.

use haul_types::TaskState;

use super::{find, index_of, task_of};
use crate::args::ShowArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::JobReport;

pub(crate) async fn show(args: ShowArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let mut details = find(&client, &args.job).await?;
    let task = match args.job.task {
        None => None,
        Some(_) => {
            let index = index_of(&details, &args.job)?;
            let task = task_of(&client, &details, index).await?;
            Some(task.ok_or_else(|| {
                Failure::usage(format!(
                    "nothing has happened to task {index} of job {} yet",
                    details.job.id
                ))
            })?)
        }
    };
    // Those that failed are what people look for; among many tasks they may not be the first hundred.
    let failed = details.job.counts.of(TaskState::Failed);
    if task.is_none() && failed > 0 && details.job.counts.total() as usize > details.tasks.len() {
        for task in client.tasks(details.job.id, &[TaskState::Failed], 0, 10).await? {
            if !details.tasks.iter().any(|known| known.index == task.index) {
                details.tasks.push(task);
            }
        }
    }
    context.output.report(&JobReport {
        details: &details,
        task: task.as_ref(),
    });
    let id = details.job.id;
    if !details.job.state.is_terminal() {
        context.output.hint(&format!(
            "`haul logs -f {id}` watches it, `haul cancel {id}` stops it"
        ));
    }
    Ok(Exit::SUCCESS)
}
