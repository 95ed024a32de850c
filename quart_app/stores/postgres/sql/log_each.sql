-- Lines of jobs' logs, and the oldest dropped that are too many; the number of each first line, or
-- NULL where there is no such job.
CREATE FUNCTION log_each(logged new_lines[], base_seq bigint, OUT numbers bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    g record; -- Lines of one job.
    had record;
    old record;
    dropped bigint;
    last bigint;
    count_now bigint;
    size_now bigint;
BEGIN
    numbers := '{}';
    FOR g IN SELECT * FROM unnest(logged) LOOP
        SELECT j.place, j.log_number, j.log_count, j.log_bytes INTO had FROM jobs AS j
        WHERE j.id = g.id FOR UPDATE;
        IF NOT FOUND THEN
            numbers := numbers || NULL::bigint;
            CONTINUE;
        END IF;
        numbers := numbers || (had.log_number + 1);
        INSERT INTO logs (job_id, seq, number, size, data)
        SELECT g.id, base_seq + g.first + l.n, had.log_number + l.n, l.size, l.data
        FROM unnest(g.sizes, g.lines) WITH ORDINALITY AS l (size, data, n);
        INSERT INTO events (seq, kind, job_id, place, data)
        SELECT base_seq + g.first + l.n, 'line', g.id, had.log_number + l.n, l.data
        FROM unnest(g.lines) WITH ORDINALITY AS l (data, n);
        count_now := had.log_count + cardinality(g.lines);
        size_now := had.log_bytes + (SELECT coalesce(sum(s.size), 0) FROM unnest(g.sizes) AS s (size));
        dropped := 0;
        last := NULL;
        IF count_now > g.keep_lines OR size_now > g.keep_bytes THEN
            FOR old IN SELECT l.seq, l.size FROM logs AS l WHERE l.job_id = g.id ORDER BY l.seq LOOP
                -- The newest stays in any case.
                EXIT WHEN count_now = 1 OR (count_now <= g.keep_lines AND size_now - dropped <= g.keep_bytes);
                count_now := count_now - 1;
                dropped := dropped + old.size;
                last := old.seq;
            END LOOP;
            DELETE FROM logs AS l WHERE l.job_id = g.id AND l.seq <= last;
        END IF;
        UPDATE jobs AS j SET
            log_number = had.log_number + cardinality(g.lines), log_count = count_now,
            log_bytes = size_now - dropped
        WHERE j.id = g.id;
        PERFORM grow(g.id, size_now - dropped - had.log_bytes);
    END LOOP;
END $$;
