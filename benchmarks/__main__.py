"""``python -m benchmarks [NAME...]``: run all or some, print the tables, say what was missed.

Only a run of all writes ``benchmarks/results/latest.json`` and the page and plot in ``docs/``. The
exit status is 0 also where a target is missed: this is a report, and other people's load on the
machine is no error of ours.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence

from benchmarks import report
from benchmarks.figures import Section
from benchmarks.plot import svg
from benchmarks.processes import ROOT

NAMES = (
    "throughput",
    "overhead",
    "memory",
    "latency",
    "retained",
    "durable",
    "live",
    "watching",
    "dashboard",
    "machines",
)
JSON = ROOT / "benchmarks" / "results" / "latest.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks.svg"


def run(name: str) -> Section:
    """One benchmark; its module's `run`, imported only now."""
    started = time.monotonic()
    print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
    section: Section = importlib.import_module(f"benchmarks.{name}").run()
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return section


def write(results: report.Results) -> None:
    """The files that are kept."""
    JSON.parent.mkdir(exist_ok=True)
    JSON.write_bytes(report.as_json(results))
    page = report.between_markers(PAGE.read_text(), report.markdown(results))
    PAGE.write_text(page)
    curves = {name: points for each in results.sections for name, points in each.curves.items()}
    PLOT.write_text(svg(curves))
    for path in (JSON, PAGE, PLOT):
        print(f"written: {path.relative_to(ROOT)}")


def main(names: Sequence[str]) -> int:
    """Returns the exit status."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}: choose of {', '.join(NAMES)}")
        return 2
    sections: list[Section] = []
    for name in names or NAMES:
        sections.append(run(name))
        print(report.table(sections[-1]), end="\n\n", flush=True)
    print(report.verdict(sections))
    if not names:
        write(report.Results(setting=report.setting(), sections=sections))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
