SELECT place, seq, data FROM jobs WHERE status = 'queued' AND place > 0 ORDER BY place LIMIT 1;
