DELETE FROM logs WHERE job = ? AND seq <= ?;
