//! Tokens and nodes as rows say.

use std::collections::BTreeMap;

use haul_types::{Digest, NodeId, NodeName, Role};
use rusqlite::{Connection, Row};

use super::{CertificateRow, EnrolledNode, TokenRecord, TokenUse};
use crate::metadata::error::{CommitError, ReadError};
use crate::metadata::read::{Fault, Reader, collect, damaged, digest, find_damage};

/// The columns that [`token_row`] reads.
macro_rules! token_columns {
    () => {
        "SELECT hash, name, role, target, labels, replaces, created_unix_ms, expires_unix_ms, used_unix_ms, used_by, \
         revoked_unix_ms FROM token"
    };
}
/// The columns that [`node_row`] reads.
macro_rules! node_columns {
    () => {
        "SELECT id, name, target, labels, key, enrolled_unix_ms, revoked_unix_ms, certificate_serial, \
         certificate_expires_unix_ms FROM enrolled_node"
    };
}

pub(super) const TOKEN_BY_HASH: &str = concat!(token_columns!(), " WHERE hash = ?1");
pub(super) const NODE_BY_ID: &str = concat!(node_columns!(), " WHERE id = ?1");
const TOKENS: &str = concat!(token_columns!(), " ORDER BY created_unix_ms DESC, id");
const NODES: &str = concat!(node_columns!(), " ORDER BY name, enrolled_unix_ms");

impl Reader<'_> {
    pub(in crate::metadata) fn tokens(&self) -> Result<Vec<TokenRecord>, ReadError> {
        self.told(collect(&self.connection, TOKENS, [], token_row))
    }

    pub(in crate::metadata) fn token(&self, hash: &Digest) -> Result<Option<TokenRecord>, ReadError> {
        let rows = collect(&self.connection, TOKEN_BY_HASH, [hash.as_bytes()], token_row);
        Ok(self.told(rows)?.pop())
    }

    pub(in crate::metadata) fn enrolled_nodes(&self) -> Result<Vec<EnrolledNode>, ReadError> {
        self.told(collect(&self.connection, NODES, [], node_row))
    }

    pub(in crate::metadata) fn enrolled_node(&self, id: NodeId) -> Result<Option<EnrolledNode>, ReadError> {
        let rows = collect(&self.connection, NODE_BY_ID, [id.as_bytes()], node_row);
        Ok(self.told(rows)?.pop())
    }
}

/// Notes the rows that cannot be read.
pub(in crate::metadata) fn find_damaged(
    connection: &Connection,
    problems: &mut Vec<String>,
) -> Result<(), Fault> {
    find_damage(connection, TOKENS, |row| token_row(row).map(drop), problems)?;
    find_damage(connection, NODES, |row| node_row(row).map(drop), problems)
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sqlite(error) => error.into(),
            Fault::Damaged(ReadError::Damaged { row, problem }) => Self::Damaged { row, problem },
            Fault::Damaged(ReadError::Database { source, .. }) => source.into(),
        }
    }
}

pub(super) fn token_row(row: &Row<'_>) -> Result<TokenRecord, Fault> {
    let hash = digest(row.get_ref(0)?, || "token".to_owned())?
        .ok_or_else(|| damaged("token".to_owned(), "it has no hash"))?;
    let bad = |problem: String| damaged(format!("token {hash}"), problem);
    let role: u8 = row.get(2)?;
    let used_by: Option<[u8; 16]> = row.get(9)?;
    let used_at = time(row, 8)?;
    Ok(TokenRecord {
        hash,
        name: row.get(1)?,
        role: Role::from_number(role).ok_or_else(|| bad(format!("unknown role {role}")))?,
        target: row.get(3)?,
        labels: labels(row, 4)?.map_err(bad)?,
        replaces: row
            .get::<_, Option<String>>(5)?
            .map(NodeName::try_from)
            .transpose()
            .map_err(|error| bad(error.to_string()))?,
        created_unix_ms: time(row, 6)?.unwrap_or(0),
        expires_unix_ms: time(row, 7)?,
        used: used_at.zip(used_by).map(|(at_unix_ms, by)| TokenUse {
            at_unix_ms,
            by: NodeId::from_bytes(by),
        }),
        revoked_unix_ms: time(row, 10)?,
    })
}

pub(super) fn node_row(row: &Row<'_>) -> Result<EnrolledNode, Fault> {
    let id = NodeId::from_bytes(row.get(0)?);
    let bad = |problem: String| damaged(format!("node {id}"), problem);
    let serial: Option<String> = row.get(7)?;
    Ok(EnrolledNode {
        id,
        name: NodeName::try_from(row.get::<_, String>(1)?).map_err(|error| bad(error.to_string()))?,
        target: row.get(2)?,
        labels: labels(row, 3)?.map_err(bad)?,
        key: row.get(4)?,
        enrolled_unix_ms: time(row, 5)?.unwrap_or(0),
        revoked_unix_ms: time(row, 6)?,
        certificate: serial
            .zip(time(row, 8)?)
            .map(|(serial, expires_unix_ms)| CertificateRow {
                serial,
                expires_unix_ms,
            }),
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned))
}

fn labels(row: &Row<'_>, column: usize) -> rusqlite::Result<Result<BTreeMap<String, String>, String>> {
    let json: String = row.get(column)?;
    Ok(serde_json::from_str(&json).map_err(|error| format!("its labels: {error}")))
}
