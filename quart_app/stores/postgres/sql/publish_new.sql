-- Jobs that came with somebody's own transaction get their place, event and count.
CREATE FUNCTION publish_new(most integer) RETURNS TABLE (
    handed boolean, own_place bigint, own_seq bigint, own_data bytea
) LANGUAGE plpgsql AS $$
DECLARE
    base record;
    ids text[];
    was bigint[];
BEGIN
    PERFORM 1 FROM heads AS h FOR UPDATE;
    SELECT array_agg(n.id ORDER BY n.place DESC), array_agg(n.place ORDER BY n.place DESC) INTO ids, was FROM (
        SELECT j.id, j.place FROM jobs AS j WHERE j.seq = 0
        ORDER BY j.place DESC LIMIT most FOR UPDATE SKIP LOCKED
    ) AS n;
    IF ids IS NULL THEN
        RETURN;
    END IF;
    UPDATE heads AS h SET place = h.place + cardinality(ids), seq = h.seq + cardinality(ids)
    RETURNING h.place - cardinality(ids) AS place, h.seq - cardinality(ids) AS seq INTO base;
    PERFORM pg_notify(current_schema(), (base.seq + cardinality(ids))::text);
    RETURN QUERY
    WITH made AS (
        UPDATE jobs AS j SET place = base.place + g.n, seq = base.seq + g.n
        FROM unnest(ids, was) WITH ORDINALITY AS g (id, was, n) WHERE j.id = g.id
        RETURNING g.was, j.id, j.place, j.seq, j.status, j.task, j.tags, j.data
    ), told AS (
        INSERT INTO events (seq, kind, job_id, place, data)
        SELECT m.seq, 'open', m.id, m.place, CASE WHEN octet_length(m.data) <= 8192 THEN m.data END
        FROM made AS m
    ), tagged AS (
        INSERT INTO tags (tag, place)
        SELECT DISTINCT t.tag, m.place FROM made AS m CROSS JOIN LATERAL unnest(m.tags) AS t (tag)
        WHERE m.tags IS NOT NULL
    ), counted AS (
        INSERT INTO counts AS c (task, status, jobs, bytes)
        SELECT m.task, m.status, count(*), 0 FROM made AS m GROUP BY m.task, m.status
        ON CONFLICT (task, status) DO UPDATE SET jobs = c.jobs + excluded.jobs
    )
    SELECT m.was % 2 <> 0, m.place, m.seq, m.data FROM made AS m ORDER BY m.seq;
END $$;
