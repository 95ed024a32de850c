-- The starts of a group: all at once where none has a key and there is room for all.
CREATE FUNCTION start_all(
    starts new_start[], new_jobs new_job[], base_place bigint, base_seq bigint,
    OUT answers answer[], OUT kept kept_job[]
) LANGUAGE plpgsql AS $$
DECLARE
    is_plain boolean;
BEGIN
    SELECT
        bool_and(t.plain) AND sum(t.more) + (
            SELECT coalesce(sum(c.jobs), 0) FROM counts AS c
            WHERE c.status IN ('queued', 'scheduled')
        ) <= min(t.most) AND bool_and(
            t.most_of_task IS NULL OR t.more + (
                SELECT coalesce(sum(c.jobs), 0) FROM counts AS c
                WHERE c.task = t.task AND c.status IN ('queued', 'scheduled')
            ) <= t.most_of_task
        )
    INTO is_plain
    FROM (
        SELECT
            s.task, bool_and(s.plain) AS plain, sum(s.jobs) AS more, min(s.max_waiting) AS most,
            min(s.max_of_task) AS most_of_task
        FROM unnest(starts) AS s GROUP BY s.task
    ) AS t;
    IF is_plain THEN
        PERFORM keep_new(new_jobs, NULL, base_place, base_seq, false);
    ELSE
        SELECT e.answers, e.kept INTO answers, kept
        FROM start_each(starts, new_jobs, base_place, base_seq, false) AS e;
    END IF;
END $$;
