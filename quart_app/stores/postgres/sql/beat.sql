WITH old AS (DELETE FROM workers WHERE until < clock_timestamp() - interval '1 hour' AND id <> $1)
INSERT INTO workers (id, until, data)
VALUES ($1, clock_timestamp() + $2::double precision * interval '1 second', $3)
ON CONFLICT (id) DO UPDATE SET until = excluded.until, data = excluded.data;
