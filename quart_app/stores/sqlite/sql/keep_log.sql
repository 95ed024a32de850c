INSERT INTO logs (job, seq, number, at, level, text) VALUES (?, ?, ?, ?, ?, ?);
