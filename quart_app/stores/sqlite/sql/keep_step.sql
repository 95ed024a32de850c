INSERT INTO steps (job, name, result, attempt, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING RETURNING name;
