//! `haul jobs`.

use haul_types::TaskState;

use crate::args::JobsArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::JobsReport;

/// The most that one call gives.
const PAGE: u32 = 1000;

pub(crate) async fn list(args: JobsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let states: Vec<TaskState> = args.state.iter().map(|&state| state.into()).collect();
    let mut jobs = Vec::new();
    let mut next = None;
    loop {
        let left = if args.all {
            PAGE
        } else {
            args.limit.saturating_sub(jobs.len() as u32)
        };
        if left == 0 {
            break;
        }
        let page = client.jobs(&states, left.min(PAGE), next.take()).await?;
        jobs.extend(page.jobs);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let more = next.is_some();
    context.output.report(&JobsReport { jobs: &jobs, more });
    if more {
        context.output.hint("there are more: --limit N, or --all");
    }
    Ok(Exit::SUCCESS)
}
