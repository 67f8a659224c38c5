-- The store of journals, records and blobs, version 1. docs/explanation/journal.md explains every column.
-- Runs are named by the time they were made, so events are partitioned by run: a partition holds a span of time.

CREATE TABLE meta (
    key   text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE heads (
    run          text COLLATE "C" PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    mac          bytea  NOT NULL,
    deciding_seq bigint NOT NULL,
    wake_at      bigint                 -- microseconds since 1970, UTC
) WITH (fillfactor = 70);
CREATE INDEX heads_due ON heads (wake_at, run) WHERE wake_at IS NOT NULL;
CREATE INDEX heads_tenant ON heads (tenant, run);
CREATE INDEX heads_tenant_status ON heads (tenant, status, run);
CREATE INDEX heads_status ON heads (status, run);

CREATE TABLE events (
    run         text COLLATE "C" NOT NULL,
    seq         bigint  NOT NULL,
    id          text    NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    type        text    NOT NULL,
    v           integer NOT NULL,
    at          bigint  NOT NULL,       -- microseconds since 1970, UTC
    task        text,
    attempt     integer,
    body        bytea,                  -- JSON, or NULL: see blob
    blob        text,                   -- SHA-256 of a larger body in blobs
    key_version integer NOT NULL DEFAULT 0,
    salt        bytea   NOT NULL,
    digest      bytea   NOT NULL,
    mac         bytea   NOT NULL,
    -- Scans go by transaction: what is below the oldest one still under way can never be preceded by a later commit.
    xid         bigint  NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    PRIMARY KEY (run, seq)
) PARTITION BY RANGE (run);
CREATE INDEX events_scan ON events (xid, run, seq);
CREATE TABLE events_rest PARTITION OF events DEFAULT;

CREATE TABLE fences (
    run     text COLLATE "C" NOT NULL,
    task    text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    worker  text COLLATE "C",           -- NULL until the attempt is started
    open    boolean NOT NULL,
    PRIMARY KEY (run, task)
) WITH (fillfactor = 70);
CREATE INDEX fences_worker ON fences (worker, run) WHERE open;

CREATE TABLE blobs (
    tenant      text COLLATE "C" NOT NULL,
    sha256      text COLLATE "C" NOT NULL,
    data        bytea  NOT NULL,
    key_version integer NOT NULL DEFAULT 0,
    stored_at   bigint NOT NULL,        -- microseconds since 1970, UTC; renewed by every put
    PRIMARY KEY (tenant, sha256)
);
ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE records (
    kind        text COLLATE "C" NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    value       bytea  NOT NULL,        -- JSON, as it was given
    fields      jsonb  NOT NULL,        -- its top-level scalars, to be looked for
    key_version integer NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, tenant, key)
);

CREATE TABLE tombstones (
    run    text COLLATE "C" PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    value  bytea NOT NULL               -- JSON, signed
);
CREATE INDEX tombstones_tenant ON tombstones (tenant, run);

CREATE TABLE checkpoints (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant  text COLLATE "C" NOT NULL,
    number  bigint NOT NULL,
    value   bytea NOT NULL,             -- JSON, signed
    entries bytea                       -- JSON: what it lists; NULL once a later one lists all of it
);
CREATE UNIQUE INDEX checkpoints_number ON checkpoints (tenant, number);
