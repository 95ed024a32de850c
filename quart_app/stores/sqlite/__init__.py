"""The store in a SQLite file: what was acknowledged is on disk, and outlives the process.

One thread writes, in groups (`writer`), a few read (`readers`); `rows` translates, `transaction`
decides as `quart_app.domain.jobs` does, `file` opens and guards the file, and `sql` has one verb a
file. Nothing in here may be called from more than one process at a time.
"""
