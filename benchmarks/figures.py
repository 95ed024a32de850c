"""What a benchmark yields: rows of figures beside their peers, with targets. Pure values.

Nothing may live here that measures, prints or writes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

import msgspec


class Target(msgspec.Struct, frozen=True):
    """What a row has to reach: a bound of its ratio, or of the figure itself.

    >>> str(Target(least=0.85)), Target(least=0.85).met(figure=9.0, ratio=0.8)
    ('>= 0.85', False)
    >>> str(Target(most=4096, of_figure=True)), Target(most=4096, of_figure=True).met(9.0, None)
    ('figure <= 4,096', True)
    """

    least: float | None = None
    most: float | None = None
    of_figure: bool = False

    def met(self, figure: float, ratio: float | None) -> bool:
        """Whether it is reached. A target of a ratio that is not there is not."""
        value = figure if self.of_figure else ratio
        if value is None or math.isnan(value):
            return False
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    def __str__(self) -> str:
        bounds = [(">=", self.least), ("<=", self.most)]
        text = ", ".join(f"{sign} {value:,g}" for sign, value in bounds if value is not None)
        return f"figure {text}" if self.of_figure else text


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, and its peer's from the same rounds.

    ``figure`` and ``peer_figure`` are medians. ``ratio`` is the median of the rounds' own ratios,
    so that a slow minute of the machine counts on both sides; ``lowest`` and ``highest`` are the
    smallest and largest of them.
    """

    what: str
    unit: str
    figure: float
    peer: str | None = None
    peer_figure: float | None = None
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached, or None where there is none."""
        return None if self.target is None else self.target.met(self.figure, self.ratio)


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What one benchmark yields; ``curves`` are the points of the plot: name to (x, y)."""

    name: str
    title: str
    rows: list[Row]
    notes: list[str] = []
    curves: dict[str, list[tuple[float, float]]] = {}


def ratios(figures: Sequence[float], peers: Sequence[float]) -> list[float]:
    """Round by round.

    >>> ratios([2.0, 3.0], [4.0, 4.0])
    [0.5, 0.75]
    """
    return [figure / peer for figure, peer in zip(figures, peers, strict=True)]


def row(
    what: str,
    unit: str,
    figures: Sequence[float],
    peer: str | None = None,
    peers: Sequence[float] = (),
    target: Target | None = None,
) -> Row:
    """The row of what several rounds have measured.

    Args:
        figures: one of each round.
        peer: the name of what it is compared with.
        peers: the peer's figures of the same rounds.
    """
    if peer is None:
        return Row(what=what, unit=unit, figure=statistics.median(figures), target=target)
    each = ratios(figures, peers)
    return Row(
        what=what,
        unit=unit,
        figure=statistics.median(figures),
        peer=peer,
        peer_figure=statistics.median(peers),
        ratio=statistics.median(each),
        lowest=min(each),
        highest=max(each),
        target=target,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below or at which a share of the values lies (nearest rank).

    >>> percentile([1, 2, 3, 4], 0.5), percentile([1, 2, 3, 4], 0.99)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def in_turn(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Everybody once a round, forwards and backwards in turn, so that a drift favours nobody.

    >>> list(in_turn(["a", "b"], 2))
    ['a', 'b', 'b', 'a']
    """
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)
