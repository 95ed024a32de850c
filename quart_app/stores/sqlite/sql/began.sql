-- Only asked at the start, for tasks with a rate.
SELECT
    place, id, seq, task, status, reason, args, tags, attempt, max_attempts, created_at, updated_at,
    run_at, expires_at, started_at, finished_at, progress, cancel_requested_at, unresponsive,
    retry_of, parent, key, result, error, history, priority, turn, unique_key
FROM jobs
WHERE task = ? AND (started_at > ? OR (started_at IS NULL AND history IS NOT NULL));
