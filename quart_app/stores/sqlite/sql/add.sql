-- A row for each job; what cannot be a value of its column stands for NULL (see `changes.py`).
INSERT INTO jobs (
    place, id, seq, task, status, args, tags, attempt, max_attempts, created_at, updated_at,
    unresponsive, priority, run_at, expires_at, started_at, finished_at, cancel_requested_at,
    reason, progress, retry_of, parent, key, result, error, history, turn, unique_key
)
SELECT
    column1, column2, column3, column4, column5, column6, column7, column8, column9, column10,
    column11, column12, column13,
    nullif(column14, ''), nullif(column15, ''), nullif(column16, ''), nullif(column17, ''),
    nullif(column18, ''),
    nullif(column19, 0), nullif(column20, 0), nullif(column21, 0), nullif(column22, 0),
    nullif(column23, 0), nullif(column24, 0), nullif(column25, 0), nullif(column26, 0),
    nullif(column27, 0), nullif(column28, 0)
FROM (VALUES {rows});
