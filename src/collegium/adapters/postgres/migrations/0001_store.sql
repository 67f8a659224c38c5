-- The store of journals, records and blobs. docs/explanation/journal.md explains every column.
-- Whoever runs this owns the tables. Row-level security binds everybody else: see 'one_tenant' at the end.

CREATE TABLE meta (
    key   text PRIMARY KEY,
    value text NOT NULL
);

-- The place of what a transaction writes, in an order that no later commit can precede: with the horizon, whatever is
-- below it was committed or never will be. A dump that is restored into another server brings its places along, and
-- `collegium migrate` then adds to these what that server's own count lacks.
CREATE FUNCTION collegium_pos() RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT pg_current_xact_id()::text::bigint + 0';
CREATE FUNCTION collegium_horizon() RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + 0';
CREATE FUNCTION collegium_frontier() RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 0';

CREATE TABLE heads (
    run          text COLLATE "C" PRIMARY KEY,
    tenant       text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL,
    seq          bigint NOT NULL,
    mac          bytea  NOT NULL,
    deciding_seq bigint NOT NULL,
    wake_at      bigint,                -- microseconds since 1970, UTC
    pos          bigint NOT NULL        -- that of its last event
) WITH (fillfactor = 70);
CREATE INDEX heads_due ON heads (wake_at, run) WHERE wake_at IS NOT NULL;
CREATE INDEX heads_tenant ON heads (tenant, run);
CREATE INDEX heads_tenant_status ON heads (tenant, status, run);
CREATE INDEX heads_status ON heads (status, run);

-- Runs are named by the time they were made, so a partition by run holds a month of runs.
CREATE TABLE events (
    pos         bigint  NOT NULL,       -- the order of scans: never less than that of the run's event before
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
    key_version integer NOT NULL DEFAULT 0,     -- 0: the body is stored in plain
    salt        bytea   NOT NULL,
    digest      bytea   NOT NULL,
    mac         bytea   NOT NULL,
    PRIMARY KEY (run, seq)
) PARTITION BY RANGE (run);
CREATE INDEX events_scan ON events (pos, run, seq);
CREATE TABLE events_accounts PARTITION OF events FOR VALUES FROM ('acct_') TO ('acct`');
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
CREATE INDEX blobs_age ON blobs (stored_at);

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
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,    -- the order in which they were written
    tenant  text COLLATE "C" NOT NULL,
    number  bigint NOT NULL,
    value   bytea  NOT NULL,            -- JSON, signed
    entries bytea,                      -- JSON: what it lists; NULL once a later one lists all of it
    until   bigint NOT NULL             -- the frontier when it was made: it has seen nothing from there on
);
CREATE UNIQUE INDEX checkpoints_number ON checkpoints (tenant, number);
CREATE INDEX checkpoints_until ON checkpoints (until);

CREATE TABLE workers (
    worker    text COLLATE "C" PRIMARY KEY,
    beat      bigint  NOT NULL,         -- a counter: whose stands still is dead
    abandoned boolean NOT NULL          -- it has ended and left attempts open
) WITH (fillfactor = 50);

-- Makes the partitions of this month and of those ahead; returns how many were made. What the default partition already
-- holds of a month is moved: a row there would keep the partition of its month from being made for ever. Whoever may
-- call this needs no right to make tables.
CREATE FUNCTION collegium_make_partitions(ahead integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    made integer := 0;
    part text;
    first_run text;
    end_run text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.partitions'));
    FOR n IN 0..least(ahead, 24) LOOP
        part := 'events_' || to_char(month, 'YYYYMM');
        IF to_regclass(quote_ident(current_schema()) || '.' || part) IS NULL THEN
            first_run := 'run_' || lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0');
            month := month + interval '1 month';
            end_run := 'run_' || lpad(to_hex((extract(epoch FROM month) * 1000)::bigint), 12, '0');
            EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', part);
            LOCK TABLE events_rest IN ACCESS EXCLUSIVE MODE;
            EXECUTE format(
                'WITH moved AS (DELETE FROM events_rest WHERE run >= %L AND run < %L RETURNING *) '
                'INSERT INTO %I SELECT * FROM moved', first_run, end_run, part);
            EXECUTE format(
                'ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, first_run, end_run);
            made := made + 1;
        ELSE
            month := month + interval '1 month';
        END IF;
    END LOOP;
    RETURN made;
END $$;
-- What runs with the owner's rights finds the owner's tables only, whatever its caller has put in the way.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION collegium_make_partitions(integer) SET search_path = %I, pg_catalog, pg_temp',
                   current_schema());
END $$;
REVOKE EXECUTE ON FUNCTION collegium_make_partitions(integer) FROM PUBLIC;

-- A role that was granted the tables and nothing else sees the tenant of its setting `collegium.tenant`, or nothing.
-- Roles that work for all tenants get a policy of their own: `collegium migrate --roles`.
ALTER TABLE heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE fences ENABLE ROW LEVEL SECURITY;
ALTER TABLE blobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE records ENABLE ROW LEVEL SECURITY;
ALTER TABLE tombstones ENABLE ROW LEVEL SECURITY;
ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE workers ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON heads USING (tenant = current_setting('collegium.tenant', true));
CREATE POLICY one_tenant ON events USING (tenant = current_setting('collegium.tenant', true));
CREATE POLICY one_tenant ON fences USING (EXISTS (SELECT FROM heads h WHERE h.run = fences.run));
CREATE POLICY one_tenant ON blobs USING (tenant = current_setting('collegium.tenant', true));
CREATE POLICY one_tenant ON records USING (tenant = current_setting('collegium.tenant', true));
CREATE POLICY one_tenant ON tombstones USING (tenant = current_setting('collegium.tenant', true));
CREATE POLICY one_tenant ON checkpoints USING (tenant = current_setting('collegium.tenant', true));
