-- Versions, each in the place of the one that it was made from; the positions of those that were.
CREATE FUNCTION swap_all(versions next_version[], base_seq bigint, OUT won bigint[])
LANGUAGE plpgsql AS $$
BEGIN
    WITH swapped AS (
        UPDATE jobs AS j SET
            seq = base_seq + v.ordinality, status = v.status, uniq = v.uniq, attempt = v.attempt,
            run_at = v.run_at, expires_at = v.expires_at, began_at = v.began_at,
            finished_at = v.finished_at, worker = v.worker, data = v.data,
            bytes = CASE WHEN v.finished_at IS NULL THEN 0 ELSE v.bytes + j.beside END
        FROM unnest(versions) WITH ORDINALITY AS v
        WHERE j.id = v.id AND j.seq = v.before AND j.seq > 0
        RETURNING v.ordinality, j.id, j.place, j.seq, j.task, v.was, j.status, j.bytes, v.kind, j.data
    ), told AS (
        INSERT INTO events (seq, kind, job_id, place, data)
        SELECT s.seq, s.kind, s.id, s.place, CASE WHEN octet_length(s.data) <= 8192 THEN s.data END
        FROM swapped AS s
    ), changed AS (
        SELECT c.task, c.status, sum(c.jobs) AS jobs, sum(c.bytes) AS bytes FROM (
            SELECT s.task, s.status, 1 AS jobs, s.bytes FROM swapped AS s
            UNION ALL
            SELECT s.task, s.was, -1, 0 FROM swapped AS s
        ) AS c GROUP BY c.task, c.status
    ), counted AS (
        INSERT INTO counts AS c (task, status, jobs, bytes)
        SELECT d.task, d.status, d.jobs, d.bytes FROM changed AS d WHERE d.jobs <> 0 OR d.bytes <> 0
        ON CONFLICT (task, status) DO UPDATE
        SET jobs = c.jobs + excluded.jobs, bytes = c.bytes + excluded.bytes
    )
    SELECT array_agg(s.ordinality) INTO won FROM swapped AS s;
END $$;
