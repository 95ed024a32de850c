"""Which files the demo's tasks may read: those inside ``QUART_APP_DEMO_ROOT``, and how they are
opened so that no link leads out of it.

Nothing may live here that knows what is done with a file's bytes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

from quart_app.settings import Settings

# No link is followed, and a pipe that nobody writes to does not make the open wait for ever.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
DEPTH = 64
"""Directories one in another that a walk enters: each costs the server an open file."""

LeftOut = Callable[[str, str | OSError], None]
"""Takes a path that is left out, and why: a sentence, or the error."""


class NotConfigured(RuntimeError):
    """The operator has not said what this task may reach, or its library is not installed."""


class NotAllowed(PermissionError):
    """The path leads out of the directory that the operator allows."""


class Found(NamedTuple):
    """A file of a walk: its path below the start, and the open directory and name that it has."""

    path: str
    folder: int
    name: str


def find_root() -> str:
    """The directory inside which the tasks may read, without links.

    Raises:
        NotConfigured: none is set, or it is no directory.
    """
    root = Settings.load().demo_root
    if root is None:
        raise NotConfigured(
            "QUART_APP_DEMO_ROOT is not set: start the server with it set, in its environment, "
            "to the directory whose files this task may read"
        )
    if not os.path.isdir(root):
        raise NotConfigured(f"QUART_APP_DEMO_ROOT={root!r} is no directory: set it to one")
    return os.path.realpath(root)


def parts_inside(root: str, path: str) -> tuple[str, ...]:
    """The names that lead from the root to a path, every link resolved.

    Args:
        path: relative to the root, or absolute and inside it.

    Raises:
        NotAllowed: it has ``..``, or leads out of the root, itself or by a link.
    """
    if ".." in PurePath(path).parts:
        raise NotAllowed(f"{path!r}: a path may not have '..' in it")
    real = os.path.realpath(os.path.join(root, path))
    if os.path.commonpath([root, real]) != root:
        raise NotAllowed(f"{path!r} is outside the directory that QUART_APP_DEMO_ROOT allows")
    return PurePath(real).relative_to(root).parts


def open_inside(root: str, parts: tuple[str, ...]) -> int:
    """Open a file or directory name by name, following no link: what was checked is what is opened,
    also where somebody exchanges a directory for a link meanwhile."""
    inside = os.open(root, os.O_RDONLY)
    for part in parts:
        outside = inside
        try:
            inside = os.open(part, FLAGS, dir_fd=outside)
        finally:
            os.close(outside)
    return inside


def open_regular(folder: int, name: str) -> BinaryIO:
    """Open a file of an open directory.

    Raises:
        OSError: it cannot be read, or is not a plain file.
    """
    fd = os.open(name, FLAGS, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a plain file")
    return open(fd, "rb")


def open_file(path: str) -> BinaryIO:
    """Open the plain file that a caller has named.

    Raises:
        NotConfigured, NotAllowed: see `find_root` and `parts_inside`.
        OSError: it cannot be read, or is not a plain file.
    """
    root = find_root()
    *folders, name = parts_inside(root, path) or (".",)
    try:
        folder = open_inside(root, tuple(folders))
        try:
            return open_regular(folder, name)
        finally:
            os.close(folder)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None


def find_files(path: str, left_out: LeftOut) -> Generator[Found, None, None]:
    """The plain file that a caller has named, or all below a directory, in the order of their bytes
    (that of ``LC_ALL=C sort``). Links are not followed.

    Args:
        left_out: told of every link, special file and unreadable directory.

    Raises:
        NotConfigured, NotAllowed, OSError: as `open_file`.
    """
    root = find_root()
    parts = parts_inside(root, path)
    try:
        top = open_inside(root, parts)
        is_folder = stat.S_ISDIR(os.fstat(top).st_mode)
        if not is_folder:
            os.close(top)
            top = open_inside(root, parts[:-1])
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None
    if is_folder:
        yield from _walk(top, left_out)
        return
    try:
        yield Found(parts[-1], top, parts[-1])
    finally:
        os.close(top)


def _walk(top: int, left_out: LeftOut) -> Generator[Found, None, None]:
    """All plain files below an open directory, which is closed at the end."""
    stack: list[tuple[int, str, list[os.DirEntry[str]]]] = [(top, "", [])]
    try:
        stack[0][2].extend(_entries(top))
        while stack:
            folder, prefix, entries = stack[-1]
            if not entries:
                os.close(stack.pop()[0])
                continue
            entry = entries.pop()
            path = prefix + entry.name
            if entry.is_file(follow_symlinks=False):
                yield Found(path, folder, entry.name)
            elif not entry.is_dir(follow_symlinks=False):
                link = entry.is_symlink()
                left_out(path, "a link, not followed" if link else "not a plain file")
            else:
                try:
                    inner = _enter(folder, entry.name, len(stack))
                except OSError as error:
                    left_out(path, error)
                    continue
                stack.append((inner, path + "/", []))
                stack[-1][2].extend(_entries(inner))
    finally:
        for folder, _, _ in stack:
            os.close(folder)


def _enter(folder: int, name: str, depth: int) -> int:
    if depth > DEPTH:
        raise OSError(errno.ELOOP, f"more than {DEPTH} directories deep")
    return os.open(name, FLAGS | os.O_DIRECTORY, dir_fd=folder)


def _entries(folder: int) -> list[os.DirEntry[str]]:
    """What is in an open directory, last first. A directory sorts as its name and a slash, so that
    the walk has the order of whole paths."""

    def key(entry: os.DirEntry[str]) -> bytes:
        return os.fsencode(entry.name) + b"/" * entry.is_dir(follow_symlinks=False)

    with os.scandir(folder) as entries:
        return sorted(entries, key=key, reverse=True)


def shown(path: str) -> str:
    r"""A path as text that JSON can carry: names on disk are bytes, and need not be UTF-8.

    >>> shown("caf\udce9")
    'caf\\xe9'
    """
    return os.fsencode(path).decode(errors="backslashreplace")
