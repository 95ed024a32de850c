"""The web edge: HTTP in, HTTP out, translation only.

May import `domain`, `core.service` and `core.ports`. No rule of jobs may live here: a route reads a
request, calls the service once, and writes what comes back.
"""
