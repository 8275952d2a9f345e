//! Records as messages.

use haul_proto::v1;
use haul_types::{JobRecord, TaskRecord};

/// A job.
pub(super) fn job(record: &JobRecord) -> v1::Job {
    v1::Job {
        id: record.id.to_string(),
        spec: Some((&*record.spec).into()),
        state: record.state as i32,
        created_unix_ms: record.created_unix_ms,
        ended_unix_ms: record.ended_unix_ms.unwrap_or(0),
        counts: record.counts.0.to_vec(),
    }
}

/// A task.
pub(super) fn task(record: &TaskRecord) -> v1::Task {
    v1::Task {
        index: record.id.index,
        state: record.state as i32,
        attempt: record.attempt,
        node: record.node.clone().unwrap_or_default(),
        exit: record.exit.map(Into::into),
        timeline: record.timeline.iter().map(Into::into).collect(),
        outputs: record
            .outputs
            .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
        logs: record
            .logs
            .map_or_else(Vec::new, |digest| digest.as_bytes().to_vec()),
        stream_lengths: record.stream_lengths.to_vec(),
    }
}
