-- Everything that a process writes at once: one call, and so one transaction and one way there and
-- back while the heads are locked. What is refused of it is answered, and spoils nothing else.
-- Numbers are given out by position, also where nothing comes of them: they have gaps.
CREATE FUNCTION write_group(
    starts new_start[], new_jobs new_job[], versions next_version[], logged new_lines[],
    done new_step[], new_facts new_fact[], places bigint, seqs bigint, most_events bigint,
    OUT base_place bigint, OUT base_seq bigint, OUT answers answer[], OUT kept kept_job[],
    OUT won bigint[], OUT numbers bigint[], OUT stepped boolean[]
) LANGUAGE plpgsql AS $$
DECLARE
    oldest bigint;
    jobs_end bigint;
    versions_end bigint;
BEGIN
    UPDATE heads AS h SET place = h.place + places, seq = h.seq + seqs
    RETURNING h.place - places, h.seq - seqs, h.kept INTO base_place, base_seq, oldest;
    -- Nobody else who writes can be in the way from now on: whoever is must not stop everybody.
    PERFORM set_config('lock_timeout', '200', true);
    jobs_end := base_seq + coalesce(cardinality(new_jobs), 0);
    versions_end := jobs_end + coalesce(cardinality(versions), 0);
    IF starts IS NOT NULL THEN
        SELECT s.answers, s.kept INTO answers, kept
        FROM start_all(starts, new_jobs, base_place, base_seq) AS s;
    END IF;
    IF logged IS NOT NULL THEN
        numbers := log_each(logged, versions_end);
    END IF;
    IF done IS NOT NULL THEN -- Their numbers are the last ones of the group.
        stepped := step_each(done, base_seq + seqs - cardinality(done));
    END IF;
    IF versions IS NOT NULL THEN
        won := swap_all(versions, jobs_end);
    END IF;
    IF new_facts IS NOT NULL THEN
        DELETE FROM facts AS f USING unnest(new_facts) AS n WHERE f.name = n.name;
        INSERT INTO facts (name, value)
        SELECT n.name, n.value FROM unnest(new_facts) AS n WHERE n.value IS NOT NULL;
    END IF;
    IF base_seq + seqs - oldest > most_events + greatest(most_events / 5, 10) THEN
        DELETE FROM events AS e WHERE e.seq > oldest AND e.seq <= base_seq + seqs - most_events;
        UPDATE heads AS h SET kept = base_seq + seqs - most_events;
    END IF;
    IF new_jobs IS NOT NULL OR versions IS NOT NULL OR logged IS NOT NULL THEN
        PERFORM pg_notify(current_schema(), (base_seq + seqs)::text);
    END IF;
END $$;
