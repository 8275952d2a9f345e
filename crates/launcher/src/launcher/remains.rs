//! What a supervisor that is gone leaves: its journal, perhaps processes, its directory.

use std::fs::File;
use std::io;
use std::path::Path;

use haul_types::AttemptId;

use super::AcknowledgeError;
use crate::journal::{FILE_NAME, Reading, Unfinished, read};
use crate::lost::end_processes;
use crate::order::{ExitRecord, Outcome};

/// The record of an attempt without an end, after whatever is left of it was ended.
pub(super) fn lost(attempt: AttemptId, begun: Option<&Unfinished>, directory: &Path) -> ExitRecord {
    let nothing_known = Unfinished {
        attempt,
        intent: None,
        main: None,
    };
    let (boot, killed) = end_processes(begun.unwrap_or(&nothing_known), directory);
    let started = begun
        .and_then(|b| b.intent.as_ref())
        .map_or(0, |intent| intent.started_unix_ms);
    let mut record = ExitRecord::lost(attempt, boot, started);
    record.killed_leftovers = killed;
    // The intent is written before there is a process; a journal without one says that there never was.
    if begun.is_none() && killed == 0 {
        record.outcome = Outcome::NotStarted;
    }
    record
}

/// Reads a supervisor's journal when nobody holds it any more.
pub(super) fn read_when_free(directory: &Path) -> io::Result<Reading> {
    let file = File::open(directory.join(FILE_NAME))?;
    file.lock()?;
    read(&file)
}

pub(super) fn remove_directory(directory: &Path) -> Result<(), AcknowledgeError> {
    match std::fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(AcknowledgeError::Remove {
            path: directory.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
