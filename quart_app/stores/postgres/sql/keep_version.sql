INSERT INTO version (one, number) VALUES (1, $1)
ON CONFLICT (one) DO UPDATE SET number = excluded.number;
