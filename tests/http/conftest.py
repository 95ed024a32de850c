"""Fixtures of the edge's tests."""

from __future__ import annotations

import pytest

from tests.http.support import Stage


@pytest.fixture
def stage() -> Stage:
    """Tasks whose jobs end when the test says so."""
    return Stage()
