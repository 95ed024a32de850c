-- Only asked at the start, for tasks with a rate.
SELECT place, seq, data FROM jobs WHERE place > 0 AND task = $1 AND began_at > $2;
