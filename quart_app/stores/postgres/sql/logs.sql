SELECT seq, number, data FROM logs WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT $3;
