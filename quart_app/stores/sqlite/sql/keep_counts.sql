-- All in one statement: each one more costs the thread that writes another wait for its turn.
UPDATE counts SET
    jobs = CASE status
        WHEN 'scheduled' THEN ?
        WHEN 'queued' THEN ?
        WHEN 'running' THEN ?
        WHEN 'succeeded' THEN ?
        WHEN 'failed' THEN ?
        WHEN 'canceled' THEN ?
    END,
    bytes = CASE status
        WHEN 'scheduled' THEN ?
        WHEN 'queued' THEN ?
        WHEN 'running' THEN ?
        WHEN 'succeeded' THEN ?
        WHEN 'failed' THEN ?
        WHEN 'canceled' THEN ?
    END;
