SELECT seq, 16 + length(text) FROM logs WHERE job = ? ORDER BY seq LIMIT ?;
