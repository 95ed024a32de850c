UPDATE counts SET jobs = ?, bytes = ? WHERE status = ?;
