UPDATE jobs SET seq = ?, updated_at = ?, args = ?, run_at = ? WHERE place = ?;
