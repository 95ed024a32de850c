"""``quart-app doctor``: looks for what is wrong, and says what to do about it.

Only its command line and how findings are written may live here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from quart_app.cli import findings, probing
from quart_app.cli.ends import FAILED
from quart_app.cli.findings import Finding
from quart_app.cli.looking import AS_JSON
from quart_app.cli.remote import Remote, with_service
from quart_app.cli.safe import clean
from quart_app.cli.terminal import has_color, paint, put, put_json
from quart_app.settings import Settings

MARKS = {"ok": "ok", "warning": "WARN", "wrong": "WRONG", "skipped": "-"}


@click.command()
@with_service
@click.option(
    "--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE", help="Hypercorn's settings, as TOML.",
)  # fmt: skip
@click.option("--probe", metavar="TASK", help="Of which a job is started, later than it is needed.")
@click.option("--read-only", is_flag=True, help="Start nothing: streams are not looked at.")
@click.option("--offline", is_flag=True, help="Look at this machine only.")
@AS_JSON
def doctor(
    remote: Remote, file: Path | None, probe: str | None, read_only: bool, offline: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Look for what is wrong with this installation, and say what to do.

    To see whether events come in time, a job is started that would begin in an hour, and canceled
    after a second; --read-only does without. The exit status is 1 where something is wrong.
    """
    wrong = False
    for each in _findings(remote, file, probe, read_only, offline):
        wrong = wrong or each.level == "wrong"
        if as_json:
            put_json(each)
        else:
            _put(each)
    sys.exit(FAILED if wrong else 0)


def _findings(
    remote: Remote, file: Path | None, probe: str | None, read_only: bool, offline: bool
) -> Iterator[Finding]:
    about = None if offline else probing.about(remote)
    yield from findings.versions(about.versions if about else None)
    settings = findings.read_settings()
    if isinstance(settings, Finding):
        yield settings
    elif about is not None:
        settings = _of_service(settings, about)
    answers = None if offline else probing.is_open(remote)
    if isinstance(settings, Settings):
        if file is not None:
            yield from findings.hypercorn(file, settings, answers_all=bool(answers))
        if about is None or findings.is_loopback(findings.host_of(remote.base)):
            yield from findings.store(settings)
    if offline:
        return
    yield from probing.reach(remote)
    yield from probing.access(remote.base, remote.shown, answers)
    if answers is not None and not read_only:
        yield from probing.streams(remote, probe)


def _of_service(settings: Settings, about: probing.About) -> Settings:
    """The settings that count are those of the service that runs."""
    values = {
        name: value
        for name in ("drain", "grace", "store")
        if (value := about.value(f"QUART_APP_{name.upper()}")) is not None
    }
    if ":...@" in str(values.get("store")):  # It hides the password; ours may be the same.
        del values["store"]
    try:
        return msgspec.structs.replace(settings, **values)
    except (TypeError, ValueError):
        return settings


def _put(each: Finding) -> None:
    color = has_color(sys.stdout)
    mark = paint(f"{MARKS[each.level]:<6}", each.level, color)
    put(f"{mark}{clean(f'{each.what}: {each.says}')}")
    if each.do:
        put(f"      -> {clean(each.do)}")
