SELECT place, seq, data FROM jobs
WHERE status = 'scheduled' AND seq > 0 AND run_at <= $1 ORDER BY run_at, place LIMIT $2;
