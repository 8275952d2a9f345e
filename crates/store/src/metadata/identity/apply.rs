//! Changes to tokens and nodes as SQL. Runs inside the writer's transaction, and in a savepoint of its submission.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, ffi, params};

use super::read::{NODE_BY_ID, TOKEN_BY_HASH, node_row, token_row};
use super::{EnrolledNode, IdentityOp, IdentityRefusal, TokenRecord};
use crate::metadata::apply::{constraint, number};
use crate::metadata::error::CommitError;

const PUT_TOKEN: &str = "
    INSERT INTO token (hash, id, name, role, target, labels, replaces, created_unix_ms, expires_unix_ms,
                       used_unix_ms, used_by, revoked_unix_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
    ON CONFLICT (hash) DO NOTHING";
const REVOKE_TOKEN: &str = "UPDATE token SET revoked_unix_ms = coalesce(revoked_unix_ms, ?2) WHERE id = ?1";
const USE_TOKEN: &str =
    "UPDATE token SET used_unix_ms = ?2, used_by = ?3 WHERE hash = ?1 AND used_by IS NULL";
const PUT_NODE: &str = "
    INSERT INTO enrolled_node (id, name, target, labels, key, enrolled_unix_ms, revoked_unix_ms,
                               certificate_serial, certificate_expires_unix_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const PUT_CERTIFICATE: &str = "
    UPDATE enrolled_node SET certificate_serial = ?2, certificate_expires_unix_ms = ?3
    WHERE id = ?1 AND revoked_unix_ms IS NULL";
const REVOKE_NODE: &str =
    "UPDATE enrolled_node SET revoked_unix_ms = ?2 WHERE name = ?1 AND revoked_unix_ms IS NULL";
const REMOVE_TOKENS: &str = "
    DELETE FROM token WHERE revoked_unix_ms < ?1 OR used_unix_ms < ?1 OR expires_unix_ms < ?1";

/// Applies one change.
pub(in crate::metadata) fn apply(connection: &Connection, op: &IdentityOp) -> Result<(), CommitError> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(params);
    match op {
        IdentityOp::PutToken(token) => put_token(connection, token)?,
        IdentityOp::RevokeToken { id, at_unix_ms } => {
            if run(
                REVOKE_TOKEN,
                params![id.to_bits().cast_signed(), number(*at_unix_ms)],
            )? == 0
            {
                return Err(IdentityRefusal::UnknownToken.into());
            }
        }
        IdentityOp::Enrol { token, node } => enrol(connection, token.as_bytes(), node)?,
        IdentityOp::PutCertificate { node, certificate } => {
            let params = params![
                node.as_bytes(),
                certificate.serial,
                number(certificate.expires_unix_ms)
            ];
            if run(PUT_CERTIFICATE, params)? == 0 {
                return Err(IdentityRefusal::UnknownNode(node.to_string()).into());
            }
        }
        IdentityOp::RevokeNode { name, at_unix_ms } => {
            if run(REVOKE_NODE, params![name.as_str(), number(*at_unix_ms)])? == 0 {
                return Err(IdentityRefusal::UnknownNode(name.to_string()).into());
            }
        }
        IdentityOp::RemoveTokens { before_unix_ms } => {
            run(REMOVE_TOKENS, params![number(*before_unix_ms)])?;
        }
    }
    Ok(())
}

fn put_token(connection: &Connection, token: &TokenRecord) -> rusqlite::Result<()> {
    connection.prepare_cached(PUT_TOKEN)?.execute(params![
        token.hash.as_bytes(),
        token.id().to_bits().cast_signed(),
        token.name,
        token.role as u8,
        token.target,
        json(&token.labels),
        token.replaces.as_ref().map(haul_types::NodeName::as_str),
        number(token.created_unix_ms),
        token.expires_unix_ms.map(number),
        token.used.map(|used| number(used.at_unix_ms)),
        token.used.as_ref().map(|used| used.by.as_bytes()),
        token.revoked_unix_ms.map(number),
    ])?;
    Ok(())
}

/// Uses the token and lets the node in, or says why not. Nothing else writes between the look and the change.
fn enrol(connection: &Connection, hash: &[u8; 32], node: &EnrolledNode) -> Result<(), CommitError> {
    let token = connection
        .prepare_cached(TOKEN_BY_HASH)?
        .query_row([hash], |row| Ok(token_row(row)))
        .optional()?
        .ok_or(IdentityRefusal::UnknownToken)??;
    if token.role != haul_types::Role::Agent {
        return Err(IdentityRefusal::NotAJoinToken(token.role).into());
    }
    if let Some(used) = token.used {
        // Its answer may have been lost.
        let earlier = connection
            .prepare_cached(NODE_BY_ID)?
            .query_row([used.by.as_bytes()], |row| Ok(node_row(row)))
            .optional()?
            .transpose()?;
        let same = earlier.is_some_and(|earlier| {
            earlier.key == node.key && earlier.name == node.name && earlier.revoked_unix_ms.is_none()
        });
        if !same {
            return Err(IdentityRefusal::TokenUsed(used).into());
        }
        // A token that has ended since is worth nothing to anybody.
        let unused = TokenRecord { used: None, ..token };
        return Ok(unused.standing(node.enrolled_unix_ms)?);
    }
    token.standing(node.enrolled_unix_ms)?;
    if let Some(replaced) = &token.replaces {
        if *replaced != node.name {
            return Err(IdentityRefusal::OtherName(replaced.clone()).into());
        }
        let params = params![replaced.as_str(), number(node.enrolled_unix_ms)];
        connection.prepare_cached(REVOKE_NODE)?.execute(params)?;
    }
    let used = params![hash, number(node.enrolled_unix_ms), node.id.as_bytes()];
    if connection.prepare_cached(USE_TOKEN)?.execute(used)? != 1 {
        return Err(IdentityRefusal::UnknownToken.into());
    }
    put_node(connection, node)
}

fn put_node(connection: &Connection, node: &EnrolledNode) -> Result<(), CommitError> {
    let certificate = node.certificate.as_ref();
    connection
        .prepare_cached(PUT_NODE)?
        .execute(params![
            node.id.as_bytes(),
            node.name.as_str(),
            node.target,
            json(&node.labels),
            node.key,
            number(node.enrolled_unix_ms),
            node.revoked_unix_ms.map(number),
            certificate.map(|certificate| &certificate.serial),
            certificate.map(|certificate| number(certificate.expires_unix_ms)),
        ])
        .map_err(|error| {
            if constraint(&error) == Some(ffi::SQLITE_CONSTRAINT_UNIQUE) {
                IdentityRefusal::NameTaken(node.name.clone()).into()
            } else {
                CommitError::from(error)
            }
        })?;
    Ok(())
}

fn json(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("strings by strings are JSON")
}
