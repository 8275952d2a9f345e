//! `haul nodes`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::NodesReport;

pub(crate) async fn nodes(context: &mut Context) -> Result<Exit, Failure> {
    let nodes = context.client().await?.nodes().await?;
    context.output.report(&NodesReport(&nodes));
    Ok(Exit::SUCCESS)
}
