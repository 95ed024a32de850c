SELECT seq, number, at, level, text FROM logs
WHERE job = (SELECT place FROM jobs WHERE id = ?) AND seq > ? ORDER BY seq LIMIT ?;
