SELECT seq, id, task, turn, priority FROM jobs
WHERE status = 'queued' AND task = ? AND ifnull(turn, '') = ? ORDER BY priority DESC, seq LIMIT ?;
