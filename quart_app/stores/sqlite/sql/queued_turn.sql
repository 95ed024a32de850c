-- `ifnull`, and that it is no NULL, as `jobs_turns` has it: or that index would not be used.
SELECT seq, id, task, turn, priority FROM jobs
WHERE status = 'queued' AND task = ? AND turn IS NOT NULL AND ifnull(turn, '') = ?
ORDER BY priority DESC, seq LIMIT ?;
