-- Jobs from before their task had a key for its limits: of the oldest ones, so that finding none of
-- them costs little.
SELECT * FROM (
    SELECT seq, id, task, turn, priority FROM jobs
    WHERE status = 'queued' AND task = ? ORDER BY priority DESC, seq LIMIT ?
) WHERE turn IS NULL;
