//! Nodes and targets: few rows, rarely written, read when a controller starts.

use haul_types::{Admission, NodeName, NodeRecord, TargetRecord};
use rusqlite::{Connection, Row, params};

use super::apply::number;
use super::error::CommitError;

pub(super) const NODES: &str =
    "SELECT name, instance, inventory, admission, last_seen_unix_ms FROM node ORDER BY name";
pub(super) const TARGETS: &str = "SELECT name, target FROM target ORDER BY name";
const PUT_NODE: &str = "
    INSERT INTO node (name, instance, inventory, admission, last_seen_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (name) DO UPDATE SET
        instance = excluded.instance, inventory = excluded.inventory, admission = excluded.admission,
        last_seen_unix_ms = excluded.last_seen_unix_ms";
const PUT_TARGET: &str = "
    INSERT INTO target (name, target) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET target = excluded.target";
pub(super) const REMOVE_NODE: &str = "DELETE FROM node WHERE name = ?1";
pub(super) const REMOVE_TARGET: &str = "DELETE FROM target WHERE name = ?1";

/// A row that cannot be read: which, and what is wrong with it.
type Damage = (String, String);

pub(super) fn put_node(connection: &Connection, node: &NodeRecord) -> Result<(), CommitError> {
    let inventory = json(&node.inventory, || format!("node {}", node.name))?;
    connection.prepare_cached(PUT_NODE)?.execute(params![
        node.name.as_str(),
        node.instance,
        inventory,
        node.admission as u8,
        number(node.last_seen_unix_ms),
    ])?;
    Ok(())
}

pub(super) fn put_target(connection: &Connection, target: &TargetRecord) -> Result<(), CommitError> {
    let json = json(target, || format!("target {}", target.name))?;
    connection
        .prepare_cached(PUT_TARGET)?
        .execute(params![target.name.as_str(), json])?;
    Ok(())
}

fn json(value: &impl serde::Serialize, what: impl Fn() -> String) -> Result<String, CommitError> {
    serde_json::to_string(value).map_err(|source| CommitError::UnstorableFleet {
        what: what(),
        source: source.into(),
    })
}

pub(super) fn node(row: &Row<'_>) -> rusqlite::Result<Result<NodeRecord, Damage>> {
    let (name, inventory): (String, String) = (row.get(0)?, row.get(2)?);
    let (instance, admission): (String, u8) = (row.get(1)?, row.get(3)?);
    let last_seen: i64 = row.get(4)?;
    let bad = |problem: String| (format!("node {name}"), problem);
    let read = || {
        Ok(NodeRecord {
            name: NodeName::try_from(name.clone()).map_err(|error| bad(error.to_string()))?,
            instance,
            inventory: serde_json::from_str(&inventory)
                .map_err(|error| bad(format!("its inventory: {error}")))?,
            admission: Admission::ALL
                .into_iter()
                .find(|&known| known as u8 == admission)
                .ok_or_else(|| bad(format!("unknown admission {admission}")))?,
            last_seen_unix_ms: last_seen.cast_unsigned(),
        })
    };
    Ok(read())
}

pub(super) fn target(row: &Row<'_>) -> rusqlite::Result<Result<TargetRecord, Damage>> {
    let (name, target): (String, String) = (row.get(0)?, row.get(1)?);
    Ok(serde_json::from_str(&target).map_err(|error| (format!("target {name}"), error.to_string())))
}
