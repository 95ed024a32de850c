-- `apply` and `annotate` have decided on the rows as they are: this connection is the only one that
-- writes. What cannot be a value of its column stands for NULL (see `changes.py`).
UPDATE jobs SET
    seq = new.column2,
    status = new.column3,
    attempt = new.column4,
    updated_at = new.column5,
    unresponsive = new.column6,
    bytes = new.column7,
    unique_key = iif(new.column8, unique_key, NULL),
    run_at = nullif(new.column9, ''),
    started_at = nullif(new.column10, ''),
    finished_at = nullif(new.column11, ''),
    cancel_requested_at = nullif(new.column12, ''),
    reason = nullif(new.column13, 0),
    progress = nullif(new.column14, 0),
    result = nullif(new.column15, 0),
    error = nullif(new.column16, 0),
    history = nullif(new.column17, 0)
FROM (VALUES {rows}) AS new
WHERE place = new.column1;
