UPDATE jobs SET bytes = bytes + ? WHERE place = ?;
