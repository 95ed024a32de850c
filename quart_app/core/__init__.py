"""What HAPPENS to a job: opened, claimed, called, settled, told about, canceled, pruned.

May import `domain` only. No web framework, no SQL, no server, no setting may live here: where jobs
are kept and where they run are the two Protocols of `ports`, and numbers come in as arguments.
"""
