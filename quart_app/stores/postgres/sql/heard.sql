SELECT h.seq AS head, h.kept, e.* FROM heads AS h LEFT JOIN LATERAL (
    SELECT
        e.seq, e.kind, e.job_id, e.place,
        coalesce(e.data, (SELECT j.data FROM jobs AS j WHERE j.id = e.job_id)) AS data
    FROM events AS e WHERE e.seq > $1 ORDER BY e.seq LIMIT $2
) AS e ON true ORDER BY e.seq;
