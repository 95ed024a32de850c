SELECT task, scheduled, queued, running, succeeded, failed, canceled FROM task_counts;
