"""Fixtures of the client's tests: real servers, as in the tests from end to end."""

from __future__ import annotations

from tests.e2e.conftest import durable, servers

__all__ = ["durable", "servers"]
