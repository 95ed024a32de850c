"""Functions for processes that have something to say; found by name, as in
`tests.core.process_tasks`."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

from quart_app.core.context import Context
from quart_app.domain.secrets import Secret

logger = logging.getLogger("tests.voices")


def says(name: str) -> str:
    """Says something in every way."""
    logger.warning("%s logs", name)
    logger.info("this is below the level")
    sys.stdout.write(f"{name} prints\n")
    thread = threading.Thread(target=sys.stderr.write, args=(f"{name} has a thread\n",))
    thread.start()
    thread.join()
    try:
        raise ValueError(name)
    except ValueError:
        logger.exception("it failed")
    sys.stdout.write("no end")
    return name


def tells(ctx: Context, password: Secret) -> None:
    """Has its secret on its lips, also where a line is cut."""
    ctx.progress(1, 2, f"with {password.reveal()}")
    sys.stdout.write("it is " + password.reveal() * 2_000 + "\n")
    raise ValueError(password.reveal())


def talks_much(lines: int) -> int:
    """As fast as it can."""
    for number in range(lines):
        sys.stdout.write(f"line {number:06} " + "." * 50 + "\n")
    return lines


def talks_on(path: str) -> None:
    """Without an end, and deaf to every signal."""
    number = 0
    while True:
        try:
            while True:
                sys.stdout.write(f"line {number:06} " + "." * (number % 200) + "\n")
                number += 1
                if number == 100:
                    Path(path, "begun").touch()
        except BaseException:  # noqa: BLE001, S112 - that is the point
            continue


def says_and_dies(message: str) -> None:
    """The last words before a crash."""
    sys.stdout.write(message + "\n")
    os._exit(9)


def says_and_waits(path: str) -> None:
    """Says what it does, and what it does at its end."""
    try:
        sys.stdout.write("waiting\n")
        Path(path, "begun").touch()
        time.sleep(60)
    finally:
        sys.stdout.write("cleaned up\n")
