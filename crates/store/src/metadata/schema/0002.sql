-- Who is who: tokens, by a hash of their secrets alone, and the nodes that were enrolled.
-- Roles are the numbers of haul_types::Role; 1 is an agent's, a join token.

CREATE TABLE token (
    hash            BLOB PRIMARY KEY CHECK (length(hash) = 32),
    -- The first 48 bits of the hash, which people use.
    id              INTEGER NOT NULL UNIQUE,
    name            TEXT    NOT NULL,
    role            INTEGER NOT NULL,
    target          TEXT,
    -- A JSON object of strings.
    labels          TEXT    NOT NULL,
    -- A join token's: the enrolled node that gives way.
    replaces        TEXT,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER,
    -- A join token's one use, and the node that it made.
    used_unix_ms    INTEGER,
    used_by         BLOB CHECK (length(used_by) = 16),
    revoked_unix_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolled_node (
    id                   BLOB PRIMARY KEY CHECK (length(id) = 16),
    name                 TEXT    NOT NULL,
    target               TEXT,
    labels               TEXT    NOT NULL,
    -- The SHA-256 of the public key that it joined with: it may say so again.
    key                  BLOB    NOT NULL CHECK (length(key) = 32),
    enrolled_unix_ms     INTEGER NOT NULL,
    revoked_unix_ms      INTEGER,
    -- Of the last certificate that it was given.
    certificate_serial   TEXT,
    certificate_expires_unix_ms INTEGER
) STRICT, WITHOUT ROWID;

-- One name, one machine.
CREATE UNIQUE INDEX enrolled_node_name ON enrolled_node (name) WHERE revoked_unix_ms IS NULL;
