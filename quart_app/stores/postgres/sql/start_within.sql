-- A start within somebody's own transaction, whose search_path is another one.
CREATE FUNCTION start_within(
    starts new_start[], new_jobs new_job[], handed bigint,
    OUT answers answer[], OUT kept kept_job[]
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    SELECT e.answers, e.kept INTO answers, kept
    FROM start_each(starts, new_jobs, handed, 0, true) AS e;
    -- Those who listen publish it.
    PERFORM pg_notify(current_schema(), 'new');
END $$;
