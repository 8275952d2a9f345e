-- Which chunk lies where. A pack is a file of frames; a frame is compressed on its own and holds whole chunks.

CREATE TABLE pack (
    id    INTEGER PRIMARY KEY,
    -- The file's length.
    bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE frame (
    id         INTEGER PRIMARY KEY,
    pack       INTEGER NOT NULL REFERENCES pack (id) ON DELETE CASCADE,
    start      INTEGER NOT NULL,
    length     INTEGER NOT NULL,
    raw_length INTEGER NOT NULL,
    -- Of the frame as stored, so that it can be checked without being decompressed.
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    UNIQUE (pack, start)
) STRICT;

-- No index by frame and no foreign key, which would need one: it would double the largest table for the sake of
-- collecting garbage, which reads all of it anyway.
CREATE TABLE chunk (
    digest BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    frame  INTEGER NOT NULL,
    -- Within the decompressed frame.
    start  INTEGER NOT NULL,
    length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
