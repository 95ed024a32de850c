-- Each turn of a task's queue once, by one look into the index for each, with its first job's seq.
WITH RECURSIVE asked (task) AS (SELECT ?),
turns (turn) AS (
    SELECT min(ifnull(turn, '')) FROM jobs
    WHERE status = 'queued' AND task = (SELECT task FROM asked) AND turn IS NOT NULL
    UNION ALL
    SELECT (
        SELECT min(ifnull(turn, '')) FROM jobs
        WHERE status = 'queued' AND task = (SELECT task FROM asked) AND turn IS NOT NULL
            AND ifnull(turn, '') > turns.turn
    )
    FROM turns WHERE turns.turn IS NOT NULL
)
SELECT turn, (
    SELECT seq FROM jobs
    WHERE status = 'queued' AND task = (SELECT task FROM asked) AND turn IS NOT NULL
        AND ifnull(turn, '') = turns.turn
    ORDER BY priority DESC, seq LIMIT 1
) AS first
FROM turns WHERE turn IS NOT NULL;
