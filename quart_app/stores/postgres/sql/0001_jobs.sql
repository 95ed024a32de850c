-- Version 1. Run with search_path = the namespace alone. Texts are compared by their bytes.
CREATE TABLE version (
    one integer PRIMARY KEY CHECK (one = 1),
    number integer NOT NULL
);

-- Whoever writes locks this row first and holds it until commit: so numbers become visible in their
-- order, whichever process gave them out. Events up to `kept` are not kept any more.
CREATE TABLE heads (
    one integer PRIMARY KEY CHECK (one = 1),
    place bigint NOT NULL,
    seq bigint NOT NULL,
    kept bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO heads (one, place, seq, kept) VALUES (1, 0, 0, 0);

-- `data` is the whole job; the columns are for finding it, except that `place` and `seq` are the
-- true ones. With seq = 0 it came with somebody's own transaction and is not published yet: then the
-- place is below 0, in the order of `within`, and odd where it was handed over for delivery already.
CREATE TABLE jobs (
    id text COLLATE "C" PRIMARY KEY,
    place bigint NOT NULL,
    seq bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    tags text[],
    parent text COLLATE "C",
    rank bigint NOT NULL, -- The priority with its sign changed: the lowest is first.
    turn text COLLATE "C" NOT NULL, -- '' for none.
    uniq text COLLATE "C",
    key text COLLATE "C",
    attempt integer NOT NULL DEFAULT 0,
    run_at double precision,
    expires_at double precision, -- Only while it waits for its first attempt.
    began_at double precision, -- The newest moment at which an attempt began.
    finished_at double precision,
    worker text COLLATE "C",
    bytes bigint NOT NULL DEFAULT 0, -- What retention counts, when it is over.
    beside bigint NOT NULL DEFAULT 0, -- Bytes of its steps and its log.
    log_number bigint NOT NULL DEFAULT 0,
    log_count bigint NOT NULL DEFAULT 0,
    log_bytes bigint NOT NULL DEFAULT 0,
    data bytea NOT NULL
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);

-- What is small is not worth a look whether it can be made smaller.
ALTER TABLE jobs ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE SEQUENCE within;

CREATE UNIQUE INDEX jobs_by_place ON jobs (place) WHERE place > 0;
-- The newest event of each job, in the order of events.
CREATE UNIQUE INDEX jobs_by_event ON jobs (seq) WHERE seq > 0;
CREATE INDEX jobs_unpublished ON jobs (place) WHERE seq = 0;
-- The queue of each task, and of each turn of it.
CREATE INDEX jobs_queued ON jobs (task, rank, seq) WHERE status = 'queued' AND seq > 0;
CREATE INDEX jobs_turns ON jobs (task, turn, rank, seq) WHERE status = 'queued' AND seq > 0;
CREATE INDEX jobs_scheduled ON jobs (run_at, place) WHERE status = 'scheduled' AND seq > 0;
CREATE INDEX jobs_expiring ON jobs (expires_at, place) WHERE expires_at IS NOT NULL AND seq > 0;
CREATE INDEX jobs_by_status ON jobs (status, place) WHERE place > 0;
CREATE INDEX jobs_by_task ON jobs (task, place) WHERE place > 0;
CREATE INDEX jobs_by_parent ON jobs (parent, place) WHERE parent IS NOT NULL AND place > 0;
-- The endings of each status, in their order, which a clock that is set back does not change.
CREATE INDEX jobs_ended ON jobs (status, seq) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (task, uniq)
    WHERE uniq IS NOT NULL AND status IN ('scheduled', 'queued', 'running');

-- A tag's jobs in the order of a list; an index of the array would have to sort them.
CREATE TABLE tags (
    tag text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    PRIMARY KEY (tag, place)
);

CREATE TABLE keys (
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    jobs text[] NOT NULL,
    PRIMARY KEY (task, key)
);

CREATE TABLE steps (
    job_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    number bigint NOT NULL, -- In the order in which they were finished.
    said bytea NOT NULL, -- The name as it was given.
    result bytea NOT NULL,
    attempt integer NOT NULL,
    at double precision NOT NULL,
    PRIMARY KEY (job_id, name)
);

CREATE TABLE logs (
    job_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL,
    size bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (job_id, seq)
);

-- What those hear who listen: each version of a job and each line of a log, the newest ones. A
-- large version is not kept twice: then `data` is NULL, and the newest one is told.
CREATE TABLE events (
    seq bigint PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    data bytea
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE counts (
    task text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    jobs bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (task, status)
) WITH (fillfactor = 25);

CREATE TABLE facts (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- Who is alive, and who leads, by this server's clock.
CREATE TABLE workers (
    id text COLLATE "C" PRIMARY KEY,
    until timestamptz NOT NULL,
    data bytea NOT NULL
) WITH (fillfactor = 25);

CREATE TABLE leader (
    one integer PRIMARY KEY CHECK (one = 1),
    worker text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 25);

-- What a group is made of, and what it is answered; positions count from 1.
CREATE TYPE new_job AS (
    id text, status text, task text, tags text[], parent text, rank bigint, turn text, uniq text,
    key text, run_at double precision, expires_at double precision, data bytea
);
CREATE TYPE new_start AS (
    task text, first integer, jobs integer, plain boolean, max_waiting bigint, max_of_task bigint,
    key text, fingerprint bytea
);
CREATE TYPE next_version AS (
    id text, before bigint, was text, status text, kind text, uniq text, attempt integer,
    run_at double precision, expires_at double precision, began_at double precision,
    finished_at double precision, worker text, bytes bigint, data bytea
);
CREATE TYPE new_lines AS (
    id text, first bigint, keep_lines bigint, keep_bytes bigint, sizes bigint[], lines bytea[]
);
CREATE TYPE new_step AS (
    id text, attempt integer, name text, said bytea, result bytea, at double precision
);
CREATE TYPE new_fact AS (name text, value bytea);
CREATE TYPE keep AS (status text, jobs bigint, age double precision, bytes bigint);
-- How a start was answered, where its jobs were not simply kept.
CREATE TYPE answer AS (start integer, code text, waiting bigint, id text);
-- A job in the place of another: of the new ones of the group (own), or one that was there.
CREATE TYPE kept_job AS (
    start integer, at integer, own integer, place bigint, seq bigint, data bytea
);
