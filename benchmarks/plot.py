"""The plot of start latency against sleeping jobs, as SVG: two panels, a line for each share.

The x axis is logarithmic; nobody asleep stands at its left end, beyond a break. The colors follow
the reader's light or dark setting. Nothing may live here that measures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 860, 360
TOP, BOTTOM = 84, 300
LEFT, RIGHT = 62, 348
PANEL = 420
"""From one panel's left edge to the next one's."""

STYLE = """\
svg { --ground: #ffffff; --ink: #1f2328; --faint: #59636e; --grid: #d1d9e0;
  --a: #0550ae; --b: #9a4b00; --c: #8250df; }
@media (prefers-color-scheme: dark) { svg { --ground: #0d1117; --ink: #f0f6fc; --faint: #9198a1;
  --grid: #3d444d; --a: #79c0ff; --b: #ffa657; --c: #d2a8ff; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 16px; font-weight: 600; } .panel { font-weight: 600; }
.tick { font-size: 12px; fill: var(--faint); }
.ground { fill: var(--ground); } .grid { stroke: var(--grid); }
.line { fill: none; stroke-width: 2; } .name { font-size: 12px; }
.s0 { stroke: var(--a); } .s1 { stroke: var(--b); } .s2 { stroke: var(--c); }
.s1.line { stroke-dasharray: 7 4; } .s2.line { stroke-dasharray: 2 3; }
.d0 { fill: var(--a); } .d1 { fill: var(--b); } .d2 { fill: var(--c); }
"""


def across(sleeping: float, most: float) -> float:
    """Where a count stands on the x axis: a decade a step, and none where a hundred would be.

    >>> across(0, 100_000), across(100_000, 100_000)
    (62.0, 348.0)
    """
    place = 0.0 if sleeping <= 0 else (math.log10(sleeping) - 2) / (math.log10(most) - 2)
    return LEFT + place * (RIGHT - LEFT)


def up(value: float, most: float) -> float:
    """Where a value stands on the y axis, which begins with zero."""
    return BOTTOM - value / most * (BOTTOM - TOP)


def nice(most: float) -> float:
    """The step of the y axis: 1, 2 or 5 times a power of ten, four to eight of them.

    >>> nice(37.0), nice(1240.0)
    (5.0, 200.0)
    """
    rough = most / 8
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= rough)


def panels(curves: Mapping[str, Points]) -> dict[str, dict[str, Points]]:
    """The curves by way and share: ``"POST /start, p95"`` is p95 of POST /start."""
    found: dict[str, dict[str, Points]] = {}
    for name, points in curves.items():
        way, _, share = name.rpartition(", ")
        found.setdefault(way, {})[share] = points
    return found


def svg(curves: Mapping[str, Points]) -> str:
    """The whole file.

    Args:
        curves: by name, as `latency` has them; microseconds against sleeping jobs.
    """
    title = "Start latency while jobs sleep"
    listed = (
        f"{name}: {', '.join(f'{y:.0f} us with {x:,.0f} asleep' for x, y in points)}."
        for name, points in curves.items()
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="title description">',
        f'<title id="title">{title}</title>',
        f'<desc id="description">{escape(" ".join(listed))}</desc>',
        f"<style>\n{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(20, 30, "title", title),
    ]
    for number, (way, shares) in enumerate(panels(curves).items()):
        parts += [f'<g transform="translate({number * PANEL} 0)">', *_panel(way, shares), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(way: str, shares: Mapping[str, Points]) -> list[str]:
    highest = max(y for points in shares.values() for _, y in points)
    step = nice(highest)
    top = step * math.ceil(highest / step)
    counts = [x for x, _ in next(iter(shares.values()))]
    parts = [_text(20, 58, "panel", f"{way}, microseconds")]
    for tick in range(round(top / step) + 1):
        y = up(tick * step, top)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 8, y + 4, "tick", f"{tick * step:,g}", "end"))
    for count in counts:
        label = f"{count:,.0f}"
        parts.append(_text(across(count, max(counts)), BOTTOM + 20, "tick", label, "middle"))
    # The axis is broken there: a logarithm has no zero.
    parts.append(_text(across(316, max(counts)), BOTTOM + 20, "tick", "//", "middle"))
    parts.append(_text((LEFT + RIGHT) / 2, BOTTOM + 42, "tick", "jobs asleep", "middle"))
    places = _apart([up(points[-1][1], top) for points in shares.values()])
    for number, (share, points) in enumerate(shares.items()):
        spots = [(across(x, max(counts)), up(y, top)) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path class="line s{number}" d="M{path}"/>')
        for (x, y), (count, value) in zip(spots, points, strict=True):
            tip = f"{share}, {count:,.0f} asleep: {value:,.1f} us"
            parts.append(
                f'<circle class="d{number}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
                f"<title>{escape(tip)}</title></circle>"
            )
        parts.append(_text(RIGHT + 10, places[number] + 4, f"name d{number}", share))
    return parts


def _apart(places: Sequence[float], least: float = 15.0) -> list[float]:
    """The places, moved up where two labels would overlap."""
    moved = list(places)
    order = sorted(range(len(moved)), key=lambda each: -moved[each])
    for below, each in itertools.pairwise(order):
        moved[each] = min(moved[each], moved[below] - least)
    return moved


def _text(x: float, y: float, kind: str, text: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
