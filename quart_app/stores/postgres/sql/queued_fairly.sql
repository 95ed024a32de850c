-- The first of each turn, then the second of each, and so on, by one look into the index for each:
-- what is not asked for is not looked at, however many wait.
WITH RECURSIVE turns (turn) AS (
    SELECT min(j.turn) FROM jobs AS j WHERE j.status = 'queued' AND j.seq > 0 AND j.task = $1
    UNION ALL
    SELECT (
        SELECT min(j.turn) FROM jobs AS j
        WHERE j.status = 'queued' AND j.seq > 0 AND j.task = $1 AND j.turn > t.turn
    )
    FROM turns AS t WHERE t.turn IS NOT NULL
),
firsts AS (
    SELECT f.* FROM turns AS t CROSS JOIN LATERAL (
        SELECT j.turn, j.rank, j.seq, j.id FROM jobs AS j
        WHERE j.status = 'queued' AND j.seq > 0 AND j.task = $1 AND j.turn = t.turn
        ORDER BY j.rank, j.seq LIMIT 1
    ) AS f
    WHERE t.turn IS NOT NULL ORDER BY f.rank, f.seq LIMIT $2
),
rounds (round, place, turn, rank, seq, id) AS (
    SELECT 1, row_number() OVER (ORDER BY f.rank, f.seq), f.turn, f.rank, f.seq, f.id
    FROM firsts AS f
    UNION ALL
    SELECT r.round + 1, r.place, n.turn, n.rank, n.seq, n.id
    FROM rounds AS r CROSS JOIN LATERAL (
        SELECT j.turn, j.rank, j.seq, j.id FROM jobs AS j
        WHERE j.status = 'queued' AND j.seq > 0 AND j.task = $1 AND j.turn = r.turn
            AND (j.rank, j.seq) > (r.rank, r.seq)
        ORDER BY j.rank, j.seq LIMIT 1
    ) AS n
),
-- Rounds are made as they are asked for.
taken AS (SELECT * FROM rounds LIMIT $2)
SELECT
    t.seq, t.id, t.turn, t.rank,
    CASE WHEN t.turn >= '#' AND t.turn < '$' THEN (SELECT j.data FROM jobs AS j WHERE j.id = t.id) END AS data
FROM taken AS t ORDER BY t.round, t.place;
