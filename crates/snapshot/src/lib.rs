//! Directory snapshots by content: ignore rules, manifest, chunks, bundles, unpacking.
