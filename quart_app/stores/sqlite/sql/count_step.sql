UPDATE jobs SET step_bytes = step_bytes + ? WHERE place = ?;
