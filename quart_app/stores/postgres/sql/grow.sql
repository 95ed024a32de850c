-- What is kept beside a job has so many bytes more.
CREATE FUNCTION grow(job text, more bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    grown record;
BEGIN
    UPDATE jobs AS j SET
        beside = j.beside + more,
        bytes = CASE WHEN j.finished_at IS NULL THEN 0 ELSE j.bytes + more END
    WHERE j.id = job RETURNING j.task, j.status, j.finished_at INTO grown;
    IF grown.finished_at IS NOT NULL THEN
        UPDATE counts AS c SET bytes = c.bytes + more
        WHERE c.task = grown.task AND c.status = grown.status;
    END IF;
END $$;
