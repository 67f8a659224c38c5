-- The store of journals, records and blobs, version 4. docs/explanation/journal.md explains every column.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE heads (
    run          TEXT PRIMARY KEY,
    tenant       TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    mac          BLOB    NOT NULL,
    deciding_seq INTEGER NOT NULL,
    wake_at      INTEGER,           -- microseconds since 1970, UTC
    project      TEXT    NOT NULL DEFAULT ''        -- empty where it belongs to none
) WITHOUT ROWID;
CREATE INDEX heads_due ON heads (wake_at, run) WHERE wake_at IS NOT NULL;
CREATE INDEX heads_tenant ON heads (tenant, run);
CREATE INDEX heads_tenant_status ON heads (tenant, status, run);
CREATE INDEX heads_status ON heads (status, run);
CREATE INDEX heads_project ON heads (tenant, project, run) WHERE project <> '';
CREATE INDEX heads_project_status ON heads (tenant, project, status, run) WHERE project <> '';

CREATE TABLE events (
    pos         INTEGER PRIMARY KEY AUTOINCREMENT,  -- the cursor of scans; never given twice
    run         TEXT    NOT NULL,
    seq         INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    v           INTEGER NOT NULL,
    at          INTEGER NOT NULL,                   -- microseconds since 1970, UTC
    task        TEXT,
    attempt     INTEGER,
    body        BLOB,                               -- JSON, or NULL: see blob
    blob        TEXT,                               -- SHA-256 of a larger body in blobs
    key_version INTEGER NOT NULL DEFAULT 0,         -- 0: the body is stored in plain
    salt        BLOB    NOT NULL,
    digest      BLOB    NOT NULL,
    mac         BLOB    NOT NULL
);
CREATE UNIQUE INDEX events_run ON events (run, seq);

CREATE TABLE fences (
    run     TEXT    NOT NULL,
    task    TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    worker  TEXT,                                   -- NULL until the attempt is started
    open    INTEGER NOT NULL,
    PRIMARY KEY (run, task)
) WITHOUT ROWID;
CREATE INDEX fences_worker ON fences (worker, run) WHERE open = 1;

CREATE TABLE blobs (
    tenant      TEXT    NOT NULL,
    sha256      TEXT    NOT NULL,
    data        BLOB    NOT NULL,
    key_version INTEGER NOT NULL DEFAULT 0,
    stored_at   INTEGER NOT NULL                    -- microseconds since 1970, UTC; renewed by every put
);
CREATE UNIQUE INDEX blobs_name ON blobs (tenant, sha256);

CREATE TABLE records (
    kind        TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    value       TEXT    NOT NULL,                   -- JSON
    key_version INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, tenant, key)
) WITHOUT ROWID;

CREATE TABLE tombstones (
    run    TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    value  TEXT NOT NULL                            -- JSON, signed
) WITHOUT ROWID;
CREATE INDEX tombstones_tenant ON tombstones (tenant, run);

CREATE TABLE checkpoints (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,      -- the order in which they were written
    tenant  TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    value   TEXT    NOT NULL,                       -- JSON, signed
    entries TEXT                                    -- JSON: what it lists; NULL once a later one lists all of it
);
CREATE UNIQUE INDEX checkpoints_number ON checkpoints (tenant, number);
