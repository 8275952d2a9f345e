//! `haul rerun`.

use haul_client::SubmitError;
use haul_types::JobId;

use crate::args::RerunArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Event;
use crate::query::find;
use crate::run;

pub(crate) async fn rerun(args: RerunArgs, context: &mut Context) -> Result<Exit, Failure> {
    if args.job.task.is_some() {
        return Err(Failure::usage(format!(
            "{} is a task: jobs are run again as a whole",
            args.job
        )));
    }
    let client = context.client().await?;
    let spec = find(&client, &args.job).await?.spec;
    let id = JobId::random();
    let submitted = client.submit(id, &spec).await.map_err(|error| match error {
        SubmitError::SnapshotMissing => {
            Failure::usage(format!("the directory of job {} is no longer there", args.job))
                .help("run it from your own directory again: haul run")
        }
        error => error.into(),
    })?;
    context.output.event(&Event::Submitted {
        id,
        name: &spec.name,
        detached: args.detach,
    });
    run::tell_unplaceable(&submitted, context);
    if args.detach {
        return Ok(Exit::SUCCESS);
    }
    run::to_its_end(&client, id, &spec, None, context).await
}
