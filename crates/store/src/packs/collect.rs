//! Garbage collection by mark: the caller says what is live, the rest goes.
//!
//! ```text
//!   plan     read the index: per pack, how much of it is live     (nobody is held up)
//!   rewrite  live chunks of mostly dead or tiny packs ─▶ new packs, synced     (nobody is held up)
//!   switch   pack by pack, behind the gate: anything of it promised meanwhile? leave it be
//!                 : one transaction: point live chunks at the new packs, forget the dead ones and the pack
//!   remove   the file, once nobody reads it who asked the index before the switch
//! ```
//!
//! **Why an upload beside it is safe.** A chunk is dropped only if the caller does not call it live *and* nobody was
//! told within the grace that it is here: [`super::Packs::missing`] and the end of an upload note every chunk that they
//! answer for, holding the gate for reading, and the switch looks at those notes and drops chunks holding it for
//! writing. So each answer comes wholly before a switch, which then spares the chunk, or wholly after it, and then says
//! that the chunk is missing. Uploads in progress have no row in the index and their files are not touched.
//!
//! **Why a crash is safe.** New packs are on the disk before the index names them; old ones are removed after the index
//! has forgotten them. A crash between leaves files that the next opening removes, or a new pack that nothing points
//! to, which the next collection drops.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use haul_snapshot::bundle::{DEFAULT_LEVEL, Frame, FrameBuilder, FrameChunk};
use haul_types::Digest;
use rusqlite::TransactionBehavior;

use super::error::{CollectError, FinishError, LoadError};
use super::file::{self, Epoch};
use super::index::{self, FramePlace};
use super::load::{self, FrameReader};
use super::upload::PackWriter;
use super::{Inner, PACK_TARGET, locked};

/// A pack whose file is smaller is put together with others like it.
const SMALL_PACK: u64 = 16 << 20;
/// So many small packs have to be there before they are put together, lest each collection rewrite the same bytes.
const SMALL_PACKS: usize = 8;

/// What a collection did.
#[derive(Debug, Default)]
pub struct CollectStats {
    /// Packs removed.
    pub removed_packs: u64,
    /// Bytes of them.
    pub removed_bytes: u64,
    /// Bytes of the packs written in their place.
    pub rewritten_bytes: u64,
    /// Chunks dropped.
    pub dropped_chunks: u64,
    /// Packs left alone because somebody was told of a chunk in them meanwhile.
    pub spared_packs: u64,
    /// Packs left alone because they are damaged.
    pub damaged: Vec<LoadError>,
}

/// A pack that is to go.
struct Victim {
    pack: u64,
    bytes: u64,
    /// Frames with the live chunks in them, in the order of the file.
    live: Vec<(FramePlace, Vec<FrameChunk>)>,
    live_bytes: u64,
    dead: Vec<Digest>,
}

/// Where live chunks have been copied to: the number of the frame, and the place in it.
type Moves = HashMap<Digest, (i64, FrameChunk)>;

pub(super) fn collect(
    inner: &Arc<Inner>,
    is_live: &dyn Fn(Digest) -> bool,
    grace: Duration,
) -> Result<CollectStats, CollectError> {
    let _collecting = inner.collecting.lock().unwrap_or_else(PoisonError::into_inner);
    locked(&inner.promises).forget(Instant::now(), grace);
    let mut stats = CollectStats::default();
    let mut victims = plan(inner, &|digest| {
        is_live(digest) || locked(&inner.promises).holds(digest)
    })?;
    // Those that need no room first.
    victims.sort_by_key(|victim| victim.live_bytes > 0);
    let mut victims = victims.into_iter().peekable();
    while victims.peek().is_some() {
        // No more at a time than makes one pack: on a full disk, every round frees more than it takes.
        let mut batch_bytes = 0;
        let mut batch = Vec::new();
        while let Some(victim) =
            victims.next_if(|victim| batch_bytes == 0 || batch_bytes + victim.live_bytes <= PACK_TARGET)
        {
            batch_bytes += victim.live_bytes;
            batch.push(victim);
        }
        let moves = rewrite(inner, &mut batch, &mut stats)?;
        for victim in &batch {
            switch(inner, victim, &moves, &mut stats)?;
        }
    }
    Ok(stats)
}

/// Which packs are to go, with what is in them.
fn plan(inner: &Inner, keep: &dyn Fn(Digest) -> bool) -> Result<Vec<Victim>, LoadError> {
    let connection = inner.pool.get()?;
    let transaction = connection.unchecked_transaction()?;
    let packs = index::packs(&transaction)?;
    let frames = index::frames(&transaction)?;

    let pack_of: HashMap<i64, u64> = frames.iter().map(|frame| (frame.id, frame.place.pack)).collect();
    let mut live_bytes: HashMap<u64, u64> = HashMap::new();
    index::for_each_chunk(&transaction, |frame, chunk| {
        if let Some(&pack) = pack_of.get(&frame)
            && keep(chunk.digest)
        {
            *live_bytes.entry(pack).or_default() += load::raw_bytes(&chunk);
        }
    })?;
    let mut raw_bytes: HashMap<u64, u64> = HashMap::new();
    for frame in &frames {
        *raw_bytes.entry(frame.place.pack).or_default() += u64::from(frame.place.raw_length);
    }

    let of = |map: &HashMap<u64, u64>, pack| map.get(&pack).copied().unwrap_or(0);
    let (wasteful, worthy): (Vec<_>, Vec<_>) = packs.into_iter().partition(|&(pack, _)| {
        of(&live_bytes, pack) * 2 < of(&raw_bytes, pack) || of(&live_bytes, pack) == 0
    });
    let small: Vec<_> = worthy
        .into_iter()
        .filter(|&(_, bytes)| bytes < SMALL_PACK)
        .collect();
    let tiny = if small.len() >= SMALL_PACKS {
        small
    } else {
        Vec::new()
    };
    let mut victims: HashMap<u64, Victim> = wasteful
        .into_iter()
        .chain(tiny)
        .map(|(pack, bytes)| {
            let victim = Victim {
                pack,
                bytes,
                live: Vec::new(),
                live_bytes: 0,
                dead: Vec::new(),
            };
            (pack, victim)
        })
        .collect();

    let mut live: HashMap<i64, Vec<FrameChunk>> = HashMap::new();
    index::for_each_chunk(&transaction, |frame, chunk| {
        let victim = pack_of.get(&frame).and_then(|pack| victims.get_mut(pack));
        if let Some(victim) = victim {
            if keep(chunk.digest) {
                victim.live_bytes += load::raw_bytes(&chunk);
                live.entry(frame).or_default().push(chunk);
            } else {
                victim.dead.push(chunk.digest);
            }
        }
    })?;
    for frame in frames {
        if let Some(mut chunks) = live.remove(&frame.id)
            && let Some(victim) = victims.get_mut(&frame.place.pack)
        {
            chunks.sort_unstable_by_key(|chunk| chunk.offset);
            victim.live.push((frame.place, chunks));
        }
    }
    let mut victims: Vec<_> = victims.into_values().collect();
    victims.sort_unstable_by_key(|victim| victim.pack);
    Ok(victims)
}

/// Copies what is live into new packs, known to the index but not yet pointed to. Takes damaged packs off the list.
fn rewrite(
    inner: &Arc<Inner>,
    batch: &mut Vec<Victim>,
    stats: &mut CollectStats,
) -> Result<Moves, CollectError> {
    let mut moves = Moves::new();
    let mut reader = FrameReader::new(inner);
    let mut writer = PackWriter::new(Arc::clone(inner));
    let mut rest = FrameBuilder::new(DEFAULT_LEVEL);
    let mut sound = Vec::with_capacity(batch.len());
    for victim in batch.drain(..) {
        match copy(&victim, &mut reader, &mut writer, &mut rest) {
            Ok(()) => sound.push(victim),
            Err(CollectError::Load(error @ (LoadError::Damaged { .. } | LoadError::File { .. }))) => {
                tracing::error!(%error, "a damaged pack is left as it is");
                stats.damaged.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    *batch = sound;
    put_rebuilt(&mut writer, rest.finish())?;
    if writer.stored_bytes() == 0 {
        return Ok(moves);
    }
    writer.write_out()?;
    stats.rewritten_bytes += writer.stored_bytes();
    let mut connection = locked(&inner.index);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(FinishError::from)?;
    writer
        .insert_into(&transaction, |_, frame, chunk| {
            moves.insert(chunk.digest, (frame, *chunk));
            Ok(false)
        })
        .map_err(FinishError::from)?;
    writer.keep();
    transaction.commit().map_err(FinishError::from)?;
    inner.after_commit(&connection);
    Ok(moves)
}

/// Copies one pack's live chunks: a frame mostly live as it is, of others just those chunks.
fn copy(
    victim: &Victim,
    reader: &mut FrameReader<'_>,
    writer: &mut PackWriter,
    rest: &mut FrameBuilder,
) -> Result<(), CollectError> {
    for (place, chunks) in &victim.live {
        let live_bytes: u64 = chunks.iter().map(load::raw_bytes).sum();
        if live_bytes * 2 >= u64::from(place.raw_length) {
            let bytes = reader.stored(place, chunks[0].digest)?;
            writer.put(&bytes, chunks.clone(), place.raw_length, place.hash)?;
            continue;
        }
        let frame = reader.decoded(place, chunks[0].digest)?;
        for chunk in chunks {
            let content =
                load::content(&frame, chunk).ok_or_else(|| reader.damaged(place, chunk.digest, None))?;
            put_rebuilt(writer, rest.push(chunk.digest, content))?;
        }
    }
    Ok(())
}

fn put_rebuilt(writer: &mut PackWriter, frame: Option<Frame>) -> Result<(), CollectError> {
    if let Some(frame) = frame {
        let hash = Digest::of(&frame.bytes);
        writer.put(&frame.bytes, frame.chunks, frame.raw_len, hash)?;
    }
    Ok(())
}

/// Takes one pack out of the index, unless something in it that was dead has been promised since the plan.
fn switch(
    inner: &Inner,
    victim: &Victim,
    moves: &Moves,
    stats: &mut CollectStats,
) -> Result<(), CollectError> {
    let gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
    let promises = locked(&inner.promises);
    if victim.dead.iter().any(|&digest| promises.holds(digest)) {
        stats.spared_packs += 1;
        return Ok(());
    }
    drop(promises);
    let mut connection = locked(&inner.index);
    let mut apply = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for chunk in victim.live.iter().flat_map(|(_, chunks)| chunks) {
            let (frame, place) = &moves[&chunk.digest];
            index::move_chunk(&transaction, *frame, place)?;
        }
        for &digest in &victim.dead {
            index::remove_chunk(&transaction, digest)?;
        }
        index::remove_pack(&transaction, victim.pack)?;
        transaction.commit()
    };
    apply().map_err(FinishError::from)?;
    drop(gate);
    inner.after_commit(&connection);
    drop(connection);
    *locked(&inner.last_frame) = None;
    Epoch::end(
        &mut locked(&inner.epoch),
        vec![file::path(&inner.directory, victim.pack)],
    );
    stats.removed_packs += 1;
    stats.removed_bytes += victim.bytes;
    stats.dropped_chunks += victim.dead.len() as u64;
    Ok(())
}
