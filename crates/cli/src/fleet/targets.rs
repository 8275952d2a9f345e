//! `haul target`.

use haul_types::TargetRecord;

use super::{named, unknown};
use crate::args::{TargetArgs, TargetCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{TargetReport, TargetsReport};

pub(crate) async fn target(args: TargetArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    match args.command {
        TargetCommand::Ls => context.output.report(&TargetsReport(&client.targets().await?)),
        TargetCommand::Show { target } => {
            let targets = client.targets().await?;
            match targets.iter().find(|known| known.record.name == target) {
                Some(target) => context.output.report(&TargetReport(target)),
                None => {
                    let known = targets.iter().map(|target| target.record.name.to_string());
                    return Err(unknown("target", target.as_str(), &known.collect::<Vec<_>>()));
                }
            }
        }
        TargetCommand::Create {
            target,
            nodes,
            labels,
            placement,
        } => {
            if nodes.is_empty() && labels.is_empty() {
                return Err(Failure::usage(format!("target {target} would never have a node"))
                    .help("name its nodes by --node, or what they have in common by --label"));
            }
            let record = TargetRecord {
                name: target,
                nodes: nodes.into_iter().collect(),
                labels: labels.into_iter().collect(),
                placement: placement.into(),
            };
            let created = client.create_target(&record).await;
            created.map_err(|error| named(error, "`haul target show` shows the one that is there"))?;
        }
        TargetCommand::Rm { targets } => {
            for target in targets {
                let removed = client.remove_target(&target).await;
                removed.map_err(|error| named(error, "`haul target ls` lists the targets"))?;
            }
        }
    }
    Ok(Exit::SUCCESS)
}
