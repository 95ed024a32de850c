-- Forget finished jobs beyond the retention of their status, the oldest first; no more than about two
-- megabytes at once: whoever starts a job meanwhile waits for the row of the heads.
CREATE FUNCTION prune_ended(keeps keep[], moment double precision, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    k record; -- What is kept of a status.
    old record;
    ids text[];
    pruned integer := 0;
    room bigint := 2 * 1024 * 1024; -- Bytes.
    left_jobs bigint;
    left_bytes bigint;
BEGIN
    PERFORM 1 FROM heads AS h FOR UPDATE;
    FOR k IN SELECT * FROM unnest(keeps) LOOP
        EXIT WHEN room <= 0;
        SELECT coalesce(sum(c.jobs), 0), coalesce(sum(c.bytes), 0) INTO left_jobs, left_bytes
        FROM counts AS c WHERE c.status = k.status;
        ids := '{}';
        FOR old IN
            SELECT j.id, j.bytes, j.finished_at FROM jobs AS j
            WHERE j.status = k.status AND j.finished_at IS NOT NULL
            ORDER BY j.seq LIMIT most - pruned
        LOOP
            EXIT WHEN room <= 0 OR (left_jobs <= k.jobs AND left_bytes <= k.bytes
                AND moment - old.finished_at <= k.age);
            ids := ids || old.id;
            left_jobs := left_jobs - 1;
            left_bytes := left_bytes - old.bytes;
            room := room - old.bytes;
        END LOOP;
        CONTINUE WHEN cardinality(ids) = 0;
        pruned := pruned + cardinality(ids);
        WITH gone AS (
            DELETE FROM jobs AS j WHERE j.id = ANY (ids)
            RETURNING j.id, j.place, j.task, j.key, j.tags, j.bytes
        ), of_steps AS (
            DELETE FROM steps AS s USING gone AS g WHERE s.job_id = g.id
        ), of_logs AS (
            DELETE FROM logs AS l USING gone AS g WHERE l.job_id = g.id
        ), of_tags AS (
            DELETE FROM tags AS t USING (
                SELECT u.tag, g.place FROM gone AS g CROSS JOIN LATERAL unnest(g.tags) AS u (tag)
                WHERE g.tags IS NOT NULL
            ) AS x WHERE t.tag = x.tag AND t.place = x.place
        ), of_keys AS ( -- Only the key that opened it: another one may have it by now.
            DELETE FROM keys AS y USING gone AS g
            WHERE y.task = g.task AND y.key = g.key AND g.id = ANY (y.jobs)
        )
        UPDATE counts AS c SET jobs = c.jobs - s.jobs, bytes = c.bytes - s.bytes FROM (
            SELECT g.task, count(*) AS jobs, sum(g.bytes) AS bytes FROM gone AS g GROUP BY g.task
        ) AS s WHERE c.task = s.task AND c.status = k.status;
    END LOOP;
    RETURN pruned;
END $$;
