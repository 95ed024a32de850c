-- Whether any status may have something to prune.
SELECT EXISTS (
    SELECT 1 FROM unnest($1::keep[]) AS k
    WHERE (
        SELECT coalesce(sum(c.jobs), 0) > k.jobs OR coalesce(sum(c.bytes), 0) > k.bytes
        FROM counts AS c WHERE c.status = k.status
    ) OR $2::double precision - (
        SELECT j.finished_at FROM jobs AS j
        WHERE j.status = k.status AND j.finished_at IS NOT NULL ORDER BY j.seq LIMIT 1
    ) > k.age
);
