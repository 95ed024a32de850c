SELECT status, sum(jobs)::bigint AS jobs FROM counts GROUP BY status;
