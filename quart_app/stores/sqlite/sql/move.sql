-- `apply` has decided on the row as it is: this connection is the only one that writes.
UPDATE jobs SET
    seq = ?, status = ?, reason = ?, attempt = ?, updated_at = ?, run_at = ?, started_at = ?,
    finished_at = ?, progress = ?, unresponsive = ?, result = ?, error = ?, history = ?, unique_key = ?, bytes = ?
WHERE place = ?;
