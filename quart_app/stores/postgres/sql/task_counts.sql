SELECT task, status, jobs FROM counts;
