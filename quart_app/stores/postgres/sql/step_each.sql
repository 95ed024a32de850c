-- Finished steps, each only of the attempt that runs; whether it was.
CREATE FUNCTION step_each(done new_step[], base_number bigint, OUT stepped boolean[])
LANGUAGE plpgsql AS $$
DECLARE
    s record; -- A step.
BEGIN
    stepped := '{}';
    FOR s IN SELECT * FROM unnest(done) WITH ORDINALITY LOOP
        PERFORM 1 FROM jobs AS j
        WHERE j.id = s.id AND j.status = 'running' AND j.attempt = s.attempt FOR UPDATE;
        stepped := stepped || FOUND;
        IF FOUND THEN
            INSERT INTO steps (job_id, name, number, said, result, attempt, at)
            VALUES (s.id, s.name, base_number + s.ordinality, s.said, s.result, s.attempt, s.at)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                PERFORM grow(s.id, octet_length(s.result));
            END IF;
        END IF;
    END LOOP;
END $$;
