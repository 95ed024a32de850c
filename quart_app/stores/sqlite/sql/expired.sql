SELECT
    place, id, seq, task, status, reason, args, tags, attempt, max_attempts, created_at, updated_at,
    run_at, expires_at, started_at, finished_at, progress, cancel_requested_at, unresponsive,
    retry_of, parent, key, result, error, history, priority, turn, unique_key
FROM jobs INDEXED BY jobs_expiring
WHERE expires_at IS NOT NULL AND status IN ('queued', 'scheduled') AND expires_at <= ?
    AND history IS NULL -- What has begun before does not expire.
ORDER BY expires_at, place LIMIT ?;
