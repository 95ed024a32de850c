-- Whether a key, or a unique key, of a task is nobody else's until the end of this transaction. A
-- row that is not committed yet would make the writer of everybody wait for somebody's transaction:
-- so it only tries.
CREATE FUNCTION slot(kind text, task text, name text, wait boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    number bigint := hashtextextended(
        current_schema() || chr(1) || kind || chr(1) || task || chr(1) || name, 0
    );
BEGIN
    IF NOT wait THEN
        -- The one who had it may have committed already: its locks are let go one after the other,
        -- that of the row in `heads`, for which we have waited, perhaps before this one.
        FOR again IN 1..20 LOOP
            IF pg_try_advisory_xact_lock(number) THEN
                RETURN true;
            END IF;
            PERFORM pg_sleep(0.002);
        END LOOP;
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(number);
    RETURN true;
END $$;
