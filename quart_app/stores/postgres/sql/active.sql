SELECT place, seq, data FROM jobs
WHERE task = $1 AND uniq = $2 AND status IN ('scheduled', 'queued', 'running');
