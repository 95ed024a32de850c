-- Keep new jobs: all, or some of them by their positions; with their events, tags and counts unless
-- they are within somebody's own transaction, which must not hold what everybody writes.
CREATE FUNCTION keep_new(
    new_jobs new_job[], which integer[], base_place bigint, base_seq bigint, within boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF within THEN
        INSERT INTO jobs (
            id, place, seq, status, task, tags, parent, rank, turn, uniq, key, run_at, expires_at,
            data
        )
        SELECT
            j.id, -2 * nextval('within') - base_place, 0, j.status, j.task, j.tags, j.parent, j.rank, j.turn, j.uniq, j.key,
            j.run_at, j.expires_at, j.data
        FROM unnest(which) AS w (n) CROSS JOIN LATERAL unnest(ARRAY[new_jobs[w.n]]) AS j;
        RETURN;
    END IF;
    WITH given AS (
        SELECT * FROM unnest(new_jobs) WITH ORDINALITY AS j WHERE which IS NULL
        UNION ALL
        SELECT j.*, w.n FROM unnest(which) AS w (n)
        CROSS JOIN LATERAL unnest(ARRAY[new_jobs[w.n]]) AS j
    ), made AS (
        INSERT INTO jobs (
            id, place, seq, status, task, tags, parent, rank, turn, uniq, key, run_at, expires_at,
            data
        )
        SELECT
            g.id, base_place + g.ordinality, base_seq + g.ordinality, g.status, g.task, g.tags,
            g.parent, g.rank, g.turn, g.uniq, g.key, g.run_at, g.expires_at, g.data
        FROM given AS g
        RETURNING id, place, seq, status, task, tags, data
    ), told AS (
        INSERT INTO events (seq, kind, job_id, place, data)
        SELECT m.seq, 'open', m.id, m.place, CASE WHEN octet_length(m.data) <= 8192 THEN m.data END
        FROM made AS m
    ), tagged AS (
        INSERT INTO tags (tag, place)
        SELECT DISTINCT t.tag, m.place FROM made AS m CROSS JOIN LATERAL unnest(m.tags) AS t (tag)
        WHERE m.tags IS NOT NULL
    )
    INSERT INTO counts AS c (task, status, jobs, bytes)
    SELECT m.task, m.status, count(*), 0 FROM made AS m GROUP BY m.task, m.status
    ON CONFLICT (task, status) DO UPDATE SET jobs = c.jobs + excluded.jobs;
END $$;
