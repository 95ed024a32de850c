SELECT said, result, attempt, at FROM steps WHERE job_id = $1 ORDER BY number;
