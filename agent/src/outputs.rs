//! What a job leaves in `./outputs` and `./logs`, sent to the controller by content.

use std::path::Path;
use std::sync::Arc;

use haul_client::{Backoff, Client, SendError};
use haul_snapshot::scan::{IgnoreRules, SpecialFiles};
use haul_snapshot::{ScanError, ScanOptions, scan};
use haul_types::Digest;

/// Why what a job left could not be collected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error("what the job left could not be read")]
    Scan(#[source] Box<ScanError>),
    #[error("what the job left could not be sent")]
    Send(#[source] SendError),
}

/// Whether there is anything in `dir`.
pub(crate) fn anything(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// Sends what is in `dir`. Waits for the controller as long as it takes.
pub(crate) async fn collect(client: &Client, dir: &Path) -> Result<(Digest, Vec<String>), CollectError> {
    let mut backoff = Backoff::lasting();
    loop {
        let mut options = ScanOptions::new(dir);
        options.rules = IgnoreRules::None;
        options.special_files = SpecialFiles::Skip;
        let scanned = tokio::task::spawn_blocking(move || scan(&options, &())).await;
        let scanned = scanned.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let scanned = Arc::new(scanned.map_err(|error| CollectError::Scan(Box::new(error)))?);
        let skipped = scanned.skipped.iter().map(ToString::to_string).collect();
        match client.send_snapshot(Arc::clone(&scanned), Arc::new(())).await {
            Ok(_) => return Ok((scanned.id(), skipped)),
            Err(SendError::Call(error)) if error.is_passing() => {
                tracing::info!(%error, "outputs wait for the controller");
                tokio::time::sleep(backoff.next_wait().unwrap_or_default()).await;
            }
            Err(error) => return Err(CollectError::Send(error)),
        }
    }
}
