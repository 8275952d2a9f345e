-- Jobs, the tasks of them that have left the queue, and snapshots that are kept though no job names them.
-- States are the numbers of haul_types::TaskState; from 5 on they are terminal, 5 is succeeded.

CREATE TABLE job (
    id              INTEGER PRIMARY KEY CHECK (id >= 0 AND id < 1 << 60),
    -- The order of submission by this controller; the clock may step, this does not.
    seq             INTEGER NOT NULL UNIQUE,
    name            TEXT    NOT NULL,
    state           INTEGER NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    ended_unix_ms   INTEGER,
    queued          INTEGER NOT NULL,
    preparing       INTEGER NOT NULL,
    running         INTEGER NOT NULL,
    finalizing      INTEGER NOT NULL,
    succeeded       INTEGER NOT NULL,
    failed          INTEGER NOT NULL,
    canceled        INTEGER NOT NULL,
    -- 1: somebody asked for it to stop; tasks without a row then count as canceled.
    cancel_requested INTEGER NOT NULL
) STRICT;

CREATE INDEX job_open ON job (seq) WHERE state < 5;

-- Apart from job, because it is long, never changes, and a job's counts change with each of its tasks.
CREATE TABLE job_spec (
    job      INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
    snapshot BLOB NOT NULL CHECK (length(snapshot) = 32),
    spec     TEXT NOT NULL
) STRICT;

CREATE TABLE task (
    job          INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    task_index   INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    node         TEXT,
    -- The code, 0 to 255, or 256 and the signal's number.
    exit         INTEGER,
    outputs      BLOB CHECK (length(outputs) = 32),
    logs         BLOB CHECK (length(logs) = 32),
    setup_bytes  INTEGER NOT NULL,
    stdout_bytes INTEGER NOT NULL,
    stderr_bytes INTEGER NOT NULL,
    timeline     BLOB    NOT NULL,
    -- 1: somebody asked for it to stop.
    cancel_requested INTEGER NOT NULL,
    PRIMARY KEY (job, task_index)
) STRICT, WITHOUT ROWID;

-- What somebody looks for among a million tasks: those in progress, the failed and the canceled.
CREATE INDEX task_not_succeeded ON task (job, state, task_index) WHERE state <> 5;

CREATE TABLE snapshot_ref (
    root          BLOB PRIMARY KEY CHECK (length(root) = 32),
    until_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
