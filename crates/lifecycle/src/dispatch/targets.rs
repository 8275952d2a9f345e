//! Targets, and which nodes are given work.

use std::collections::BTreeSet;

use haul_types::{Admission, AttemptId, Labels, Loss, NodeName, Placement, TargetName, TargetRecord};

use super::{Changes, Dispatch, FleetChange, Refused};
use crate::clock::Now;
use crate::placement::fleet::NodeKey;

impl Dispatch {
    pub(super) fn on_admit(
        &mut self,
        name: &NodeName,
        admission: Admission,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let key = self
            .fleet
            .key(name)
            .ok_or_else(|| Refused::UnknownNode(name.clone()))?;
        let Some(node) = self.fleet.node_mut(key) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut node.record.admission, admission);
        if before != admission {
            changes.fleet.push(FleetChange::PutNode(node.record.clone()));
            self.fleet.reindex(key);
            self.end_drain(key, changes);
        }
        Ok(())
    }

    /// A node that was to run what it had, and has nothing any more, is cordoned.
    pub(super) fn end_drain(&mut self, key: NodeKey, changes: &mut Changes) {
        if let Some(node) = self.fleet.node_mut(key)
            && node.record.admission == Admission::Draining
            && node.attempts.is_empty()
        {
            node.record.admission = Admission::Cordoned;
            changes.fleet.push(FleetChange::PutNode(node.record.clone()));
        }
    }

    /// Somebody says that a node is gone: what it had is lost with it.
    pub(super) fn on_remove_node(
        &mut self,
        name: &NodeName,
        connected: bool,
        now: Now,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        let key = self
            .fleet
            .key(name)
            .ok_or_else(|| Refused::UnknownNode(name.clone()))?;
        let Some(node) = self.fleet.node(key) else {
            return Ok(());
        };
        if node.session.is_some() && !connected {
            return Err(Refused::NodeConnected(name.clone()));
        }
        let attempts: Vec<AttemptId> = node.attempts.iter().copied().collect();
        if let Some(node) = self.fleet.node_mut(key) {
            node.session = None;
        }
        self.fleet.reindex(key);
        let detail = format!("node {name} was removed; how far it came is unknown");
        for attempt in attempts {
            self.release(key, attempt, changes);
            self.lose(attempt, Loss::Lost, &detail, now, changes);
        }
        self.fleet.remove(key);
        changes.fleet.push(FleetChange::RemoveNode(name.clone()));
        Ok(())
    }

    pub(super) fn on_put_target(
        &mut self,
        target: TargetRecord,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        match self.fleet.targets().get(&target.name) {
            Some(known) if *known == target => return Ok(()),
            Some(_) => return Err(Refused::DuplicateTarget(target.name)),
            None => {}
        }
        self.fleet.put_target(target.clone());
        changes.fleet.push(FleetChange::PutTarget(target));
        Ok(())
    }

    /// The node belongs to the target from now on; one that is not declared yet is declared by it.
    pub(super) fn on_enlist(&mut self, name: TargetName, node: NodeName, changes: &mut Changes) {
        let known = self.fleet.targets().get(&name).cloned();
        let mut target = known.unwrap_or_else(|| TargetRecord {
            name,
            nodes: BTreeSet::new(),
            labels: Labels::default(),
            placement: Placement::default(),
        });
        if target.nodes.insert(node) {
            self.fleet.put_target(target.clone());
            changes.fleet.push(FleetChange::PutTarget(target));
        }
    }

    pub(super) fn on_remove_target(
        &mut self,
        name: TargetName,
        changes: &mut Changes,
    ) -> Result<(), Refused> {
        if !self.fleet.remove_target(&name) {
            let known = self.fleet.targets().keys().map(ToString::to_string).collect();
            return Err(Refused::UnknownTarget { target: name, known });
        }
        changes.fleet.push(FleetChange::RemoveTarget(name));
        Ok(())
    }

    /// Whether a target of this name is declared.
    #[must_use]
    pub fn has_target(&self, name: &TargetName) -> bool {
        self.fleet.targets().contains_key(name)
    }

    /// The declared targets, in order of name, each with the names of its nodes.
    pub fn targets(&self) -> impl Iterator<Item = (TargetRecord, Vec<NodeName>)> + '_ {
        self.fleet.targets().values().map(|target| {
            let nodes = self.fleet.nodes().map(|node| &node.record);
            let members = nodes.filter(|node| target.has(&node.name, &node.inventory.labels));
            (target.clone(), members.map(|node| node.name.clone()).collect())
        })
    }

    /// Refuses a target that nobody knows.
    pub(super) fn ensure_target_known(&self, name: Option<&TargetName>) -> Result<(), Refused> {
        let Some(name) = name.filter(|name| !self.fleet.is_known(name)) else {
            return Ok(());
        };
        let targets = self.fleet.targets().keys().map(ToString::to_string);
        let nodes = self.fleet.nodes().map(|node| node.record.name.to_string());
        let mut known: Vec<String> = targets.chain(nodes).collect();
        known.sort_unstable();
        known.dedup();
        Err(Refused::UnknownTarget {
            target: name.clone(),
            known,
        })
    }
}
