//! `haul authority`.

use haul_client::RotationStep;

use crate::args::{AuthorityArgs, AuthorityCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::AuthoritiesReport;

pub(crate) async fn authority(args: AuthorityArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let (step, force) = match args.command {
        AuthorityCommand::Show => {
            let authorities = client.authorities().await?;
            context.output.report(&AuthoritiesReport(&authorities));
            return Ok(Exit::SUCCESS);
        }
        AuthorityCommand::Begin => (RotationStep::Begin, false),
        AuthorityCommand::Activate => (RotationStep::Activate, false),
        AuthorityCommand::Finish { force } => (RotationStep::Finish, force),
        AuthorityCommand::RollBack => (RotationStep::RollBack, false),
    };
    let authorities = client.rotate_authority(step, force).await?;
    context.output.report(&AuthoritiesReport(&authorities));
    Ok(Exit::SUCCESS)
}
