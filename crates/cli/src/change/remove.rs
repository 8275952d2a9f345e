//! `haul rm`.

use crate::args::RemoveArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::query::find;

pub(crate) async fn remove(args: RemoveArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let mut wanted = Vec::new();
    for name in &args.jobs {
        if name.task.is_some() {
            return Err(Failure::usage(format!(
                "{name} is a task: jobs are removed as a whole"
            )));
        }
        let job = find(&client, name).await?.job;
        if !job.state.is_terminal() {
            return Err(Failure::usage(format!("job {} is {}", job.id, job.state))
                .at("nothing was removed")
                .help(format!("stop it first: haul cancel {0} && haul wait {0}", job.id)));
        }
        wanted.push(job.id);
    }
    wanted.dedup();
    for id in wanted {
        client.remove(id).await?;
        context.output.hint(&format!("removed {id}"));
    }
    Ok(Exit::SUCCESS)
}
