//! What this node has, and who this agent is, as its hello says.

use std::io;
use std::path::Path;

use haul_types::{ByteSize, Cpus, Enforcement, Inventory, Resources};

use crate::AgentConfig;

/// Who an agent is: its state directory for good, and this process of it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Chosen once for the state directory: what runs under it is known by nobody else.
    pub(crate) instance: String,
    /// Chosen for this process.
    pub(crate) process: String,
}

impl Identity {
    /// That of the agent of this directory, in this process.
    pub(crate) fn of(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("instance");
        let known = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let instance = if known.is_empty() {
            let new = random();
            let half = state_dir.join("instance.new");
            std::fs::write(&half, &new)?;
            std::fs::File::open(&half)?.sync_all()?;
            std::fs::rename(&half, &path)?;
            new
        } else {
            known
        };
        Ok(Self {
            instance,
            process: random(),
        })
    }
}

/// 60 random bits are told apart well enough.
fn random() -> String {
    haul_types::JobId::random().to_string()
}

/// What the node has.
pub(crate) fn inventory(config: &AgentConfig) -> Inventory {
    Inventory {
        capacity: Resources {
            cpus: Cpus::whole(config.slots),
            memory: config.memory.unwrap_or_else(memory),
        },
        labels: config.labels.clone(),
        gpus: Vec::new(),
        // Requests decide where a task runs; nothing holds it to them.
        enforces: Enforcement::default(),
    }
}

/// The machine's memory; 0, which says nothing, where it cannot be told.
fn memory() -> ByteSize {
    let info = rustix::system::sysinfo();
    ByteSize(info.totalram.saturating_mul(u64::from(info.mem_unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_outlives_the_process_and_belongs_to_one_directory() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Identity::of(one.path()).unwrap();
        let second = Identity::of(one.path()).unwrap();
        assert_eq!(first.instance, second.instance);
        assert_ne!(first.process, second.process);
        assert_ne!(first.instance, Identity::of(other.path()).unwrap().instance);
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(memory() > ByteSize(1 << 20));
    }
}
