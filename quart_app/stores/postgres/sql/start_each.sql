-- Starts one after the other, each all or none: with keys, unique keys and bounds.
CREATE FUNCTION start_each(
    starts new_start[], new_jobs new_job[], base_place bigint, base_seq bigint, within boolean,
    OUT answers answer[], OUT kept kept_job[]
) LANGUAGE plpgsql AS $$
DECLARE
    s record; -- A start.
    known record;
    active record;
    job new_job;
    fresh integer[];
    instead kept_job[];
    named text[]; -- The unique keys of this start's own new jobs, and their positions.
    named_at integer[];
    is_busy boolean;
    waiting bigint;
    of_task bigint;
BEGIN
    answers := '{}';
    kept := '{}';
    SELECT coalesce(sum(c.jobs), 0) INTO waiting FROM counts AS c
    WHERE c.status IN ('queued', 'scheduled');
    FOR s IN SELECT * FROM unnest(starts) WITH ORDINALITY LOOP
        IF s.key IS NOT NULL THEN
            IF NOT slot('key', s.task, s.key, within) THEN
                answers := answers || ROW(s.ordinality, 'busy', 0, NULL)::answer;
                CONTINUE;
            END IF;
            SELECT * INTO known FROM keys AS k WHERE k.task = s.task AND k.key = s.key;
            IF FOUND AND known.fingerprint <> s.fingerprint THEN
                answers := answers || ROW(s.ordinality, 'reused', 0, known.jobs[1])::answer;
                CONTINUE;
            ELSIF FOUND THEN
                answers := answers || ROW(s.ordinality, 'known', 0, NULL)::answer;
                kept := kept || ARRAY(
                    SELECT ROW(s.ordinality, NULL, NULL, j.place, j.seq, j.data)::kept_job
                    FROM unnest(known.jobs) WITH ORDINALITY AS k (id, n) JOIN jobs AS j USING (id)
                    ORDER BY k.n
                );
                CONTINUE;
            END IF;
        END IF;
        fresh := '{}';
        instead := '{}';
        named := '{}';
        named_at := '{}';
        is_busy := false;
        FOR i IN s.first .. s.first + s.jobs - 1 LOOP
            job := new_jobs[i];
            IF job.uniq IS NULL THEN
                fresh := fresh || i;
            ELSIF job.uniq = ANY (named) THEN
                instead := instead || ROW(
                    s.ordinality, i, named_at[array_position(named, job.uniq)], NULL, NULL, NULL
                )::kept_job;
            ELSIF NOT slot('unique', job.task, job.uniq, within) THEN
                is_busy := true;
                EXIT;
            ELSE
                SELECT j.place, j.seq, j.data INTO active FROM jobs AS j
                WHERE j.task = job.task AND j.uniq = job.uniq
                    AND j.status IN ('scheduled', 'queued', 'running');
                IF FOUND THEN
                    instead := instead || ROW(
                        s.ordinality, i, NULL, active.place, active.seq, active.data
                    )::kept_job;
                ELSE
                    fresh := fresh || i;
                    named := named || job.uniq;
                    named_at := named_at || i;
                END IF;
            END IF;
        END LOOP;
        IF is_busy THEN
            answers := answers || ROW(s.ordinality, 'busy', 0, NULL)::answer;
            CONTINUE;
        END IF;
        IF cardinality(fresh) > 0 THEN
            IF waiting + cardinality(fresh) > s.max_waiting THEN
                answers := answers || ROW(s.ordinality, 'full', waiting, NULL)::answer;
                CONTINUE;
            END IF;
            IF s.max_of_task IS NOT NULL THEN
                SELECT coalesce(sum(c.jobs), 0) INTO of_task FROM counts AS c
                WHERE c.task = s.task AND c.status IN ('queued', 'scheduled');
                IF of_task + cardinality(fresh) > s.max_of_task THEN
                    answers := answers || ROW(s.ordinality, 'task full', of_task, NULL)::answer;
                    CONTINUE;
                END IF;
            END IF;
            PERFORM keep_new(new_jobs, fresh, base_place, base_seq, within);
            waiting := waiting + cardinality(fresh);
        ELSE
            answers := answers || ROW(s.ordinality, 'old', 0, NULL)::answer;
        END IF;
        kept := kept || instead;
        IF s.key IS NOT NULL AND cardinality(fresh) = s.jobs THEN
            INSERT INTO keys (task, key, fingerprint, jobs) VALUES (
                s.task, s.key, s.fingerprint, ARRAY(SELECT new_jobs[f.n].id FROM unnest(fresh) AS f (n))
            );
        END IF;
    END LOOP;
END $$;
