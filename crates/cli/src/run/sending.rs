//! Reads the directory, hands over the job, and sends what the controller lacks.

use std::sync::Arc;

use haul_client::{Client, Submitted};
use haul_snapshot::{ScanError, ScanOptions, scan};
use haul_types::{JobId, JobSpec};

use super::plan::Plan;
use super::progress::{Counts, watched};
use crate::checks::version::BUILD;
use crate::context::Context;
use crate::failure::Failure;
use crate::local::Local;
use crate::output::Event;
use crate::text::printable;

/// Submits the job with its directory.
pub(super) async fn submit(
    client: &Client,
    plan: &Plan,
    local: &Local,
    context: &mut Context,
) -> Result<(JobId, JobSpec), Failure> {
    let options = ScanOptions {
        stat_cache: Some(local.stat_cache(&plan.dir)),
        max_bytes: plan.max_snapshot,
        ..ScanOptions::new(&plan.dir)
    };
    let counts = Arc::new(Counts::default());
    let scanning = {
        let (options, counts) = (options.clone(), counts.clone());
        tokio::task::spawn_blocking(move || scan_or_without_cache(&options, &counts))
    };
    let scanned = watched(context, &counts, scanning)
        .await
        .map_err(|error| Failure::infrastructure("reading the directory failed").because(&error))?
        .map_err(|error| Failure::from(&error))?;
    for bad in &scanned.bad_rules {
        let line = format!(
            "{}:{} is no pattern and was not applied: {}",
            bad.file,
            bad.line,
            printable(&bad.problem)
        );
        context.output.event(&Event::Progress(&line));
    }
    let mut spec = plan.spec(scanned.id());
    let id = JobId::random();
    let rescan = {
        let counts = counts.clone();
        move || scan_or_without_cache(&options, &counts)
    };
    let handing = client.submit_directory(id, &mut spec, Arc::new(scanned), rescan, counts.clone());
    let (submitted, _) = watched(context, &counts, handing).await?;
    if context.is_local()? {
        renew_controller(client, &submitted, context).await;
    }
    tell_unplaceable(&submitted, context);
    Ok((id, spec))
}

/// Says at once that no node could ever run the job; it waits all the same, because nodes may come.
pub(crate) fn tell_unplaceable(submitted: &Submitted, context: &mut Context) {
    if let Some(why) = &submitted.unplaceable {
        let line = format!("job {} waits: {}", submitted.id, printable(why));
        context.output.event(&Event::Progress(&line));
    }
}

/// A cache that cannot be written costs time, not the job.
fn scan_or_without_cache(options: &ScanOptions, counts: &Counts) -> Result<haul_snapshot::Scan, ScanError> {
    match scan(options, counts) {
        Err(ScanError::Cache { .. }) => {
            let options = ScanOptions {
                stat_cache: None,
                ..options.clone()
            };
            scan(&options, counts)
        }
        outcome => outcome,
    }
}

/// A private controller of another build gives way to one of ours. Its jobs go on, this one among them; the next
/// connection starts the new one.
async fn renew_controller(client: &Client, submitted: &Submitted, context: &mut Context) {
    let Some(theirs) = submitted.build.as_deref().filter(|&build| build != BUILD) else {
        return;
    };
    context.output.event(&Event::Progress(&format!(
        "the controller is of another build ({}); starting this one's",
        printable(theirs)
    )));
    if let Err(error) = client.stop_controller().await {
        context.output.hint(&format!("it was not stopped: {error}"));
    }
}
