INSERT INTO keys (task, key, fingerprint, first, jobs) VALUES (?, ?, ?, ?, ?);
