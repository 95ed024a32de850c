SELECT seq, id FROM jobs WHERE status = 'queued' AND task = ? ORDER BY seq LIMIT ?;
