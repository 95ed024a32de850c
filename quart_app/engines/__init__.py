"""WHERE jobs run: each module is one `quart_app.core.ports.Engine`, delivery and nothing else.

May import `domain` and `core`. An engine never talks to the store and never sees a status: only the
id of a job travels.
"""
