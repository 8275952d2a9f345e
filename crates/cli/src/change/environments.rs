//! `haul env`.

use haul_client::Removed;

use crate::args::{EnvArgs, EnvCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{EnvironmentsReport, RemovedReport};

pub(crate) async fn environments(args: EnvArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    match args.command {
        EnvCommand::Ls => {
            let environments = client.environments(None).await?;
            context.output.report(&EnvironmentsReport(&environments));
        }
        EnvCommand::Rm { keys } => {
            let mut removed = Removed::default();
            for key in keys {
                let some = client
                    .remove_environment(&key)
                    .await
                    .map_err(|error| match error {
                        haul_client::CallError::NotFound(_) => {
                            Failure::usage(format!("there is no environment {key}"))
                                .help("`haul env ls` lists those that are there")
                        }
                        error => error.into(),
                    })?;
                removed.keys.extend(some.keys);
                removed.freed.0 += some.freed.0;
                removed.freed_in_caches.0 += some.freed_in_caches.0;
            }
            context.output.report(&RemovedReport(&removed));
        }
        EnvCommand::Prune { unused_for, keep } => {
            let removed = client
                .prune_environments(unused_for.unwrap_or_default(), keep)
                .await?;
            context.output.report(&RemovedReport(&removed));
        }
    }
    Ok(Exit::SUCCESS)
}
