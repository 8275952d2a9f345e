//! What the controller keeps: metadata in SQLite, chunks in packs.
