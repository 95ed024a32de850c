SELECT seq, id, turn, rank, CASE WHEN turn >= '#' AND turn < '$' THEN data END AS data FROM jobs
WHERE status = 'queued' AND seq > 0 AND task = $1 ORDER BY rank, seq LIMIT $2;
