INSERT INTO steps (job, name, result) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING name;
