-- Version 1. Places and seqs come from the row in `heads`, and are never used twice.
CREATE TABLE jobs (
    place INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    task TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    args TEXT NOT NULL,
    tags TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    run_at REAL,
    expires_at REAL,
    started_at REAL,
    finished_at REAL,
    progress TEXT,
    cancel_requested_at REAL,
    unresponsive INTEGER NOT NULL,
    retry_of TEXT,
    parent TEXT,
    key TEXT,
    result TEXT,
    error TEXT,
    history TEXT,
    step_bytes INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The newest event of each job, in the order of events.
CREATE INDEX jobs_by_event ON jobs (seq);
-- The queue of each task, in the order in which jobs came to be queued.
CREATE INDEX jobs_queued ON jobs (task, seq) WHERE status = 'queued';
-- Without a moment it is due at once.
CREATE INDEX jobs_scheduled ON jobs (ifnull(run_at, 0.0)) WHERE status = 'scheduled';
CREATE INDEX jobs_expiring ON jobs (expires_at)
    WHERE expires_at IS NOT NULL AND status IN ('queued', 'scheduled');
-- A list of what is rare does not look at all the others.
CREATE INDEX jobs_by_status ON jobs (status, place);
CREATE INDEX jobs_by_task ON jobs (task, place);
-- The endings of each status, in their order, which a clock that is set back does not change.
CREATE INDEX jobs_ended ON jobs (status, seq) WHERE finished_at IS NOT NULL;

CREATE TABLE keys (
    task TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    first INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (task, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;

-- How many jobs are in each status, and the bytes of data of those that are over.
CREATE TABLE counts (
    status TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counts (status, jobs, bytes) VALUES
    ('scheduled', 0, 0), ('queued', 0, 0), ('running', 0, 0),
    ('succeeded', 0, 0), ('failed', 0, 0), ('canceled', 0, 0);

CREATE TABLE heads (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    place INTEGER NOT NULL,
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO heads (only, place, seq) VALUES (1, 0, 0);
