//! The journal of one supervisor: a ring of checksummed records in a file of fixed size.
//!
//! The file is written full of zeros and synced before the first order, so that a record overwrites blocks that the
//! disk has already given: a full disk cannot keep an end from being written down, and a sync costs half of what that of
//! an append does. Three kinds of record, in this order for each attempt:
//!
//! * `Intent`, before the process is made. It is not synced: it is there to tell, after the supervisor was killed,
//!   that there may be a process, and for that the page cache is enough. A power cut loses it together with every
//!   process.
//! * `Running`, when the attempt has lasted for a moment; only a help for finding its processes again.
//! * `Ended`, which the supervisor writes and the agent syncs, with those of other attempts, before it is told outside.
//!   The page cache outlives them both; a supervisor without an agent syncs when it goes.
//!
//! A record that was torn or damaged fails its checksum and counts as absent, so that damage turns an end into
//! "unknown", never into another end. Ends are not overwritten before they are acknowledged; `Intent` carries how far
//! they are, so an acknowledgement that no later order followed is forgotten, and its end is reported again.
//!
//! The supervisor holds an exclusive lock on the file as long as it lives. That, and not its process id, is how
//! others know.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use haul_types::AttemptId;
use serde::{Deserialize, Serialize};

use crate::order::ExitRecord;

#[cfg(test)]
mod tests;

/// The file's name in a supervisor's directory.
pub(crate) const FILE_NAME: &str = "journal";
/// Bytes of a record with its header: a disk's sector, so that a power cut tears no record.
const SLOT_BYTES: usize = 512;
/// Records in the ring.
const SLOTS: u64 = 128;
/// Magic, checksum, sequence number, length.
const HEADER_BYTES: usize = 4 + 4 + 8 + 2;
/// Its digit counts the forms that records have had: one of another form is no record of this one.
const MAGIC: [u8; 4] = *b"HLJ2";
/// Unacknowledged ends that the ring has room for, with the records around them.
pub(crate) const MAX_UNACKNOWLEDGED: usize = 32;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    Intent(Intent),
    Running {
        attempt: AttemptId,
        pid: i32,
        start_ticks: u64,
    },
    Ended(ExitRecord),
}

/// What is known before the process is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) attempt: AttemptId,
    pub(crate) acknowledged: u64,
    pub(crate) supervisor_pid: i32,
    pub(crate) supervisor_start_ticks: u64,
    pub(crate) boot_id: String,
    pub(crate) started_unix_ms: u64,
}

/// A record that cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the record does not fit its {SLOT_BYTES} bytes")]
    TooLarge,
    #[error("the ring is full of ends that nobody has acknowledged")]
    Full,
    #[error("writing the journal")]
    Write(#[source] io::Error),
}

/// The writing side; in the supervisor.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    next: u64,
    acknowledged: u64,
    /// Ends that are not acknowledged, oldest first.
    ends: VecDeque<u64>,
}

impl Journal {
    /// Fills the empty `file` with zeros and syncs it.
    pub(crate) fn create(file: File) -> io::Result<Self> {
        file.write_all_at(&vec![0; SLOT_BYTES * SLOTS as usize], 0)?;
        file.sync_all()?;
        Ok(Self {
            file,
            next: 1,
            acknowledged: 0,
            ends: VecDeque::new(),
        })
    }

    /// Makes room: the ends up to `sequence` are known elsewhere.
    pub(crate) fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence);
        while self.ends.front().is_some_and(|&end| end <= self.acknowledged) {
            self.ends.pop_front();
        }
    }

    /// How far the ends are acknowledged.
    pub(crate) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether no end is left that only this journal knows.
    pub(crate) fn is_settled(&self) -> bool {
        self.ends.is_empty()
    }

    /// Writes a record to the page cache and returns its sequence number.
    pub(crate) fn append(&mut self, record: &Record) -> Result<u64, AppendError> {
        if self.ends.front().is_some_and(|&end| end + SLOTS <= self.next) {
            return Err(AppendError::Full);
        }
        let slot = encode(self.next, record).ok_or(AppendError::TooLarge)?;
        let offset = (self.next % SLOTS) * SLOT_BYTES as u64;
        self.file
            .write_all_at(&slot, offset)
            .map_err(AppendError::Write)?;
        let sequence = self.next;
        self.next += 1;
        if matches!(record, Record::Ended(_)) {
            self.ends.push_back(sequence);
        }
        Ok(sequence)
    }

    /// Makes durable what was appended.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(sequence: u64, record: &Record) -> Option<[u8; SLOT_BYTES]> {
    let mut slot = [0; SLOT_BYTES];
    let length = postcard::to_slice(record, &mut slot[HEADER_BYTES..]).ok()?.len();
    slot[..4].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&sequence.to_le_bytes());
    // Fits: a slot is shorter than 2^16.
    slot[16..18].copy_from_slice(&(length as u16).to_le_bytes());
    let checksum = crc32fast::hash(&slot[8..HEADER_BYTES + length]);
    slot[4..8].copy_from_slice(&checksum.to_le_bytes());
    Some(slot)
}

/// The record of a slot, unless it is empty, torn or damaged.
fn decode(slot: &[u8]) -> Option<(u64, Record)> {
    let (header, body) = slot.split_first_chunk::<HEADER_BYTES>()?;
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (sequence, length) = rest.split_first_chunk::<8>()?;
    let length = u16::from_le_bytes(length.try_into().ok()?) as usize;
    let body = body.get(..length)?;
    let sound =
        *magic == MAGIC && crc32fast::hash(&slot[8..HEADER_BYTES + length]).to_le_bytes() == *checksum;
    sound.then_some(())?;
    Some((u64::from_le_bytes(*sequence), postcard::from_bytes(body).ok()?))
}

/// What a journal says to those who come after its supervisor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Ends that nobody has acknowledged, oldest first.
    pub(crate) ends: Vec<(u64, ExitRecord)>,
    /// The attempt that was begun and has no end.
    pub(crate) unfinished: Option<Unfinished>,
}

/// An attempt without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) attempt: AttemptId,
    /// Absent when its record is damaged.
    pub(crate) intent: Option<Intent>,
    /// The main process and when it was started, in ticks since boot; absent when it ran for a moment only.
    pub(crate) main: Option<(i32, u64)>,
}

/// Reads the whole ring.
pub(crate) fn read(file: &File) -> io::Result<Reading> {
    let mut bytes = vec![0; SLOT_BYTES * SLOTS as usize];
    let mut filled = 0;
    // Shorter when the machine went down while it was made.
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(interpret(&bytes))
}

fn interpret(bytes: &[u8]) -> Reading {
    let mut records: Vec<_> = bytes.chunks(SLOT_BYTES).filter_map(decode).collect();
    records.sort_by_key(|(sequence, _)| *sequence);
    let mut reading = Reading::default();
    let mut acknowledged = 0;
    for (sequence, record) in records {
        match record {
            Record::Intent(intent) => {
                acknowledged = acknowledged.max(intent.acknowledged);
                reading.unfinished = Some(Unfinished {
                    attempt: intent.attempt,
                    intent: Some(intent),
                    main: None,
                });
            }
            Record::Running {
                attempt,
                pid,
                start_ticks,
            } => {
                let intent = reading
                    .unfinished
                    .take()
                    .filter(|u| u.attempt == attempt)
                    .and_then(|u| u.intent);
                reading.unfinished = Some(Unfinished {
                    attempt,
                    intent,
                    main: Some((pid, start_ticks)),
                });
            }
            Record::Ended(end) => {
                reading.unfinished = None;
                reading.ends.push((sequence, end));
            }
        }
    }
    reading.ends.retain(|(sequence, _)| *sequence > acknowledged);
    reading
}
