SELECT seq, id, task, turn, priority FROM jobs
WHERE status = 'queued' AND task = ? ORDER BY priority DESC, seq LIMIT ?;
