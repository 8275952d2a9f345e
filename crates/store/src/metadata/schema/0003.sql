-- Nodes and targets, and jobs of which nothing more is started.

CREATE TABLE node (
    name              TEXT    PRIMARY KEY,
    -- What tells its agent's state directory from every other; empty if it does not say.
    instance          TEXT    NOT NULL,
    -- haul_types::Inventory as JSON.
    inventory         TEXT    NOT NULL,
    -- The number of haul_types::Admission.
    admission         INTEGER NOT NULL,
    last_seen_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE target (
    name   TEXT PRIMARY KEY,
    -- haul_types::TargetRecord as JSON.
    target TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The number of the haul_types::Reason for which nothing more of the job is started; tasks without a row then count as
-- failed.
ALTER TABLE job ADD COLUMN given_up INTEGER;
