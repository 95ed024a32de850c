"""All rounds of a sweep are taken where nobody has asked for a share of them."""

from __future__ import annotations

import pytest

from tests import rounds as module
from tests.rounds import every, rounds


def test_without_a_share_all_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is promised."""
    monkeypatch.setattr(module, "SHARE", 1.0)
    assert [rounds(each) for each in (1, 10, 20, 200)] == [1, 10, 20, 200]
    assert every(range(300, 400)) == range(300, 400)


def test_of_a_share_none_is_left_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are taken are spread over all of them."""
    monkeypatch.setattr(module, "SHARE", 0.25)
    assert [rounds(each) for each in (1, 10, 20, 200)] == [1, 3, 5, 50]
    assert every(range(300, 400)) == range(300, 400, 4)
    assert every(range(3)) == range(0, 3, 3)
