SELECT status, jobs, bytes FROM counts;
