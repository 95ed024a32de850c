-- Only the key that opened this job: another one may have it by now.
DELETE FROM keys WHERE task = ? AND key = ? AND ? BETWEEN first AND first + jobs - 1;
