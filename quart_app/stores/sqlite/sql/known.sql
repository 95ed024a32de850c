SELECT fingerprint, first, jobs FROM keys WHERE task = ? AND key = ?;
