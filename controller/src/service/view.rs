//! Records as messages.

use haul_lifecycle::dispatch::NodeStatus;
use haul_proto::v1;
use haul_types::{Inventory, JobRecord, NodeState, TaskRecord};

/// A job.
pub(super) fn job(record: &JobRecord) -> v1::Job {
    v1::Job {
        id: record.id.to_string(),
        spec: Some((&*record.spec).into()),
        state: record.state as i32,
        created_unix_ms: record.created_unix_ms,
        ended_unix_ms: record.ended_unix_ms.unwrap_or(0),
        counts: record.counts.0.to_vec(),
        owner: record.owner.clone().unwrap_or_default(),
    }
}

/// A task, and whether its node can be reached.
pub(super) fn task(record: &TaskRecord, unreachable: bool) -> v1::Task {
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
        unreachable,
    }
}

/// A node. Its tasks are not told.
pub(super) fn node(status: NodeStatus, version: String) -> v1::Node {
    let NodeStatus {
        record,
        state,
        used,
        attempts,
    } = status;
    let Inventory {
        capacity,
        labels,
        gpus,
        enforces,
    } = record.inventory;
    v1::Node {
        name: record.name.into(),
        version,
        slots: capacity.cpus.millis() / 1000,
        busy: attempts,
        connected: state != NodeState::Unreachable,
        state: state as i32,
        cpus_used_milli: used.cpus.millis(),
        memory_bytes: capacity.memory.0,
        memory_used_bytes: used.memory.0,
        labels: labels.into_iter().collect(),
        gpus: gpus.iter().map(Into::into).collect(),
        admission: record.admission as i32,
        last_seen_unix_ms: record.last_seen_unix_ms,
        tasks: Vec::new(),
        enforces_cpus: enforces.cpus,
        enforces_memory: enforces.memory,
    }
}
