SELECT place, seq, data FROM jobs
WHERE expires_at IS NOT NULL AND seq > 0 AND expires_at <= $1 ORDER BY expires_at, place LIMIT $2;
