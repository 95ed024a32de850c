INSERT INTO task_counts (task, scheduled, queued, running, succeeded, failed, canceled)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (task) DO UPDATE SET
    scheduled = excluded.scheduled, queued = excluded.queued, running = excluded.running,
    succeeded = excluded.succeeded, failed = excluded.failed, canceled = excluded.canceled;
