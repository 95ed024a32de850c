UPDATE jobs SET seq = ?, updated_at = ?, cancel_requested_at = ?, unresponsive = ?, progress = ?
WHERE place = ?;
