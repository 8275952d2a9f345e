//! `haul local`.

use crate::args::{LocalArgs, LocalCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::LocalReport;

pub(crate) async fn local(args: LocalArgs, context: &mut Context) -> Result<Exit, Failure> {
    let local = context.local()?;
    let client = local.connect_if_running().await?;
    match (args.command, client) {
        (LocalCommand::Status, client) => {
            let controller = match client {
                Some(client) => Some(client.controller().await?),
                None => None,
            };
            context.output.report(&LocalReport {
                local: &local,
                controller: controller.as_ref(),
            });
        }
        (LocalCommand::Stop, Some(client)) => {
            client.stop_controller().await?;
            context.output.hint("the controller goes; jobs that run go on");
        }
        (LocalCommand::Stop, None) => context.output.hint("the controller does not run"),
    }
    Ok(Exit::SUCCESS)
}
