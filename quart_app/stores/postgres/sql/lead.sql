INSERT INTO leader AS l (one, worker, until)
VALUES (1, $1, clock_timestamp() + $2::double precision * interval '1 second')
ON CONFLICT (one) DO UPDATE SET worker = excluded.worker, until = excluded.until
WHERE l.worker = excluded.worker OR l.until <= clock_timestamp() RETURNING worker;
