SELECT
    place, id, seq, task, status, reason, args, tags, attempt, max_attempts, created_at, updated_at,
    run_at, expires_at, started_at, finished_at, progress, cancel_requested_at, unresponsive,
    retry_of, parent, key, result, error, history, priority, turn, unique_key
FROM jobs
-- The filters and the cursor are put in here.
WHERE {filters} ORDER BY place DESC LIMIT ?;
