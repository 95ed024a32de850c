SELECT place, seq, data FROM jobs WHERE seq > 0 AND seq > $1 ORDER BY seq LIMIT $2;
