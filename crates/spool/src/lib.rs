//! Append-only streams by offset: writing, reading, recovering.
