SELECT place, finished_at, bytes, step_bytes, task, key FROM jobs
WHERE finished_at IS NOT NULL AND status = ? ORDER BY seq LIMIT ?;
