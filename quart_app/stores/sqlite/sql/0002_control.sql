-- Version 2. Priorities, turns and unique keys; logs; facts that belong to no job; counts by task.
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN turn TEXT;
ALTER TABLE jobs ADD COLUMN unique_key TEXT;

-- The queue of each task: higher priority first, then in the order in which jobs came to be queued.
DROP INDEX jobs_queued;
CREATE INDEX jobs_queued ON jobs (task, priority DESC, seq) WHERE status = 'queued';
CREATE INDEX jobs_turns ON jobs (task, ifnull(turn, ''), priority DESC, seq)
    WHERE status = 'queued' AND turn IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (task, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('scheduled', 'queued', 'running');
CREATE INDEX jobs_by_parent ON jobs (parent, place) WHERE parent IS NOT NULL;

ALTER TABLE steps ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE steps ADD COLUMN at REAL NOT NULL DEFAULT 0.0;

CREATE TABLE logs (
    job INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE task_counts (
    task TEXT PRIMARY KEY,
    scheduled INTEGER NOT NULL,
    queued INTEGER NOT NULL,
    running INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    canceled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO task_counts
SELECT
    task,
    sum(status = 'scheduled'), sum(status = 'queued'), sum(status = 'running'),
    sum(status = 'succeeded'), sum(status = 'failed'), sum(status = 'canceled')
FROM jobs GROUP BY task;
