//! Verifies everything that is stored.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::PoisonError;

use haul_snapshot::bundle::FrameChunk;
use haul_types::Digest;

use super::error::LoadError;
use super::load::{self, FrameReader};
use super::{Inner, file, index};
use crate::database;

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Chunks that were read and have the content of their name.
    pub sound_chunks: u64,
    /// Chunks that cannot be read.
    pub damaged: Vec<Damage>,
    /// What is wrong with the index itself, in words.
    pub index_problems: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.index_problems.is_empty()
    }
}

/// A chunk that is in the index and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The chunk.
    pub chunk: Digest,
    /// The pack file that should hold it.
    pub pack: PathBuf,
    /// Why it cannot be read.
    pub problem: String,
}

pub(super) fn check(inner: &Inner) -> Result<CheckReport, LoadError> {
    // What a collection moves meanwhile would be read from where it was.
    let _collecting = inner.collecting.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reader = FrameReader::new(inner);
    let mut chunks: HashMap<i64, Vec<FrameChunk>> = HashMap::new();
    let connection = inner.pool.get()?;
    let transaction = connection.unchecked_transaction()?;
    let mut report = CheckReport {
        index_problems: database::integrity_problems(&transaction)?,
        ..CheckReport::default()
    };
    index::for_each_chunk(&transaction, |frame, chunk| {
        chunks.entry(frame).or_default().push(chunk);
    })?;
    let frames = index::frames(&transaction)?;
    // Before the long part: an open transaction keeps the index's log from being started over.
    drop(transaction);
    drop(connection);

    for frame in frames {
        let Some(chunks) = chunks.remove(&frame.id) else {
            continue;
        };
        let decoded = reader.decoded(&frame.place, chunks[0].digest);
        for chunk in chunks {
            let problem = match &decoded {
                Ok(frame) if load::content(frame, &chunk).is_some() => {
                    report.sound_chunks += 1;
                    continue;
                }
                Ok(_) => "the frame does not hold it where the index says".to_owned(),
                Err(error) => causes(error),
            };
            report.damaged.push(Damage {
                chunk: chunk.digest,
                pack: file::path(&inner.directory, frame.place.pack),
                problem,
            });
        }
    }
    let homeless = chunks.into_values().flatten();
    report.index_problems.extend(homeless.map(|chunk| {
        format!(
            "chunk {} is in a frame that the index does not have",
            chunk.digest
        )
    }));
    Ok(report)
}

/// Why a frame cannot be read. The error itself names one chunk, and the frame may hold many.
fn causes(error: &LoadError) -> String {
    match error {
        LoadError::Damaged {
            start, source: None, ..
        } => {
            format!("the frame at byte {start} is not what was written")
        }
        LoadError::Damaged {
            start,
            source: Some(source),
            ..
        } => {
            format!("the frame at byte {start} is damaged: {}", chain(source))
        }
        LoadError::File { source, .. } => chain(source),
        other => chain(other),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
