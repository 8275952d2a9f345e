//! The index as SQL: which chunk lies in which frame of which pack.

use std::collections::HashSet;

use haul_snapshot::bundle::FrameChunk;
use haul_types::Digest;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Usage;

const FIND: &str = "
    SELECT frame.id, pack, frame.start, frame.length, raw_length, hash, chunk.start, chunk.length
    FROM chunk JOIN frame ON frame.id = chunk.frame WHERE digest = ?1";
const INSERT_FRAME: &str =
    "INSERT INTO frame (pack, start, length, raw_length, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
/// The first copy of a chunk stays where it is; another is dead weight until its pack is collected.
const INSERT_CHUNK: &str = "INSERT INTO chunk (digest, frame, start, length) VALUES (?1, ?2, ?3, ?4)
                            ON CONFLICT (digest) DO NOTHING";

/// A frame's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FramePlace {
    pub(super) pack: u64,
    pub(super) start: u64,
    pub(super) length: u32,
    pub(super) raw_length: u32,
    pub(super) hash: Digest,
}

/// A frame with its number in the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexedFrame {
    pub(super) id: i64,
    pub(super) place: FramePlace,
}

/// A digest as the index stores it.
struct Stored(Digest);

impl FromSql for Stored {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Digest::try_from(value.as_blob()?)
            .map(Self)
            .map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn frame(row: &Row<'_>) -> rusqlite::Result<IndexedFrame> {
    Ok(IndexedFrame {
        id: row.get(0)?,
        place: FramePlace {
            pack: unsigned(row, 1)?,
            start: unsigned(row, 2)?,
            length: row.get(3)?,
            raw_length: row.get(4)?,
            hash: row.get::<_, Stored>(5)?.0,
        },
    })
}

/// Where a chunk is.
pub(super) fn find(
    connection: &Connection,
    digest: Digest,
) -> rusqlite::Result<Option<(FramePlace, FrameChunk)>> {
    connection
        .prepare_cached(FIND)?
        .query_row([digest.as_bytes()], |row| {
            let chunk = FrameChunk {
                digest,
                offset: row.get(6)?,
                len: row.get(7)?,
            };
            Ok((frame(row)?.place, chunk))
        })
        .optional()
}

/// Sorts `digests` into those that are here and those that are not, in their order.
pub(super) fn partition(
    connection: &Connection,
    digests: &[Digest],
) -> rusqlite::Result<(Vec<Digest>, Vec<Digest>)> {
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare_cached("SELECT 1 FROM chunk WHERE digest = ?1")?;
    let (mut here, mut missing) = (Vec::with_capacity(digests.len()), Vec::new());
    for &digest in digests {
        if statement.exists([digest.as_bytes()])? {
            here.push(digest);
        } else {
            missing.push(digest);
        }
    }
    Ok((here, missing))
}

/// Adds a pack.
pub(super) fn insert_pack(connection: &Connection, pack: u64, bytes: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO pack (id, bytes) VALUES (?1, ?2)")?
        .execute(params![pack.cast_signed(), bytes.cast_signed()])?;
    Ok(())
}

/// Adds a frame of a pack that is there, and returns its number.
pub(super) fn insert_frame(connection: &Connection, place: &FramePlace) -> rusqlite::Result<i64> {
    connection.prepare_cached(INSERT_FRAME)?.insert(params![
        place.pack.cast_signed(),
        place.start.cast_signed(),
        place.length,
        place.raw_length,
        place.hash.as_bytes(),
    ])
}

/// Adds a chunk of a frame that is there, unless it is known already; whether it was new.
pub(super) fn insert_chunk(
    connection: &Connection,
    frame: i64,
    chunk: &FrameChunk,
) -> rusqlite::Result<bool> {
    let params = params![chunk.digest.as_bytes(), frame, chunk.offset, chunk.len];
    Ok(connection.prepare_cached(INSERT_CHUNK)?.execute(params)? == 1)
}

/// Moves a chunk to another frame.
pub(super) fn move_chunk(connection: &Connection, frame: i64, chunk: &FrameChunk) -> rusqlite::Result<()> {
    let sql = "UPDATE chunk SET frame = ?2, start = ?3, length = ?4 WHERE digest = ?1";
    let params = params![chunk.digest.as_bytes(), frame, chunk.offset, chunk.len];
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

/// Removes a chunk.
pub(super) fn remove_chunk(connection: &Connection, digest: Digest) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM chunk WHERE digest = ?1")?
        .execute([digest.as_bytes()])?;
    Ok(())
}

/// Removes a pack and its frames; its chunks have been moved or removed before.
pub(super) fn remove_pack(connection: &Connection, pack: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM pack WHERE id = ?1")?
        .execute([pack.cast_signed()])?;
    Ok(())
}

/// Every pack, with the length of its file.
pub(super) fn packs(connection: &Connection) -> rusqlite::Result<Vec<(u64, u64)>> {
    let mut statement = connection.prepare_cached("SELECT id, bytes FROM pack ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?;
    rows.collect()
}

/// The numbers of all packs.
pub(super) fn pack_ids(connection: &Connection) -> rusqlite::Result<HashSet<u64>> {
    Ok(packs(connection)?.into_iter().map(|(pack, _)| pack).collect())
}

/// Every frame, pack by pack, in the order of the file.
pub(super) fn frames(connection: &Connection) -> rusqlite::Result<Vec<IndexedFrame>> {
    let sql = "SELECT id, pack, start, length, raw_length, hash FROM frame ORDER BY pack, start";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], frame)?;
    rows.collect()
}

/// Shows every chunk and the number of its frame.
pub(super) fn for_each_chunk(
    connection: &Connection,
    mut see: impl FnMut(i64, FrameChunk),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("SELECT digest, frame, start, length FROM chunk")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let chunk = FrameChunk {
            digest: row.get::<_, Stored>(0)?.0,
            offset: row.get(2)?,
            len: row.get(3)?,
        };
        see(row.get(1)?, chunk);
    }
    Ok(())
}

/// How much there is.
pub(super) fn usage(connection: &Connection) -> rusqlite::Result<Usage> {
    let sql = "SELECT (SELECT count(*) FROM pack), (SELECT coalesce(sum(bytes), 0) FROM pack),
                      count(*), coalesce(sum(length), 0) FROM chunk";
    connection.prepare_cached(sql)?.query_row([], |row| {
        Ok(Usage {
            packs: unsigned(row, 0)?,
            stored_bytes: unsigned(row, 1)?,
            chunks: unsigned(row, 2)?,
            chunk_bytes: unsigned(row, 3)?,
        })
    })
}
