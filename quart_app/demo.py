"""Real tasks to start with: `long_task`, `checksum`, `csv_profile`, `fetch_all`.

They read only what the operator allows: files inside ``QUART_APP_DEMO_ROOT``, answers of the hosts
of ``QUART_APP_DEMO_HOSTS``. Nothing may live here that the package itself needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from quart_app.core.context import Context
from quart_app.core.start import task
from quart_app.demo_csv import CODECS, ColumnProfile, Table, read_rows
from quart_app.demo_files import Found, NotConfigured, find_files, open_file, open_regular, shown
from quart_app.settings import Settings

if TYPE_CHECKING:
    from httpx2 import URL, AsyncClient  # Optional: imported when the first job needs it.

CHUNK = 2**18
FILES_BYTES = 2**19
LEFT_OUT_BYTES = 2**17
"""Bytes of JSON that the lists of a result may have: together well below what a result may."""

PathInside = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4_096,
        description="A path inside QUART_APP_DEMO_ROOT, relative to it or absolute",
    ),
]


@task
async def long_task() -> str:
    """The tutorial's task: five seconds of waiting."""
    await asyncio.sleep(5)
    return "done"


class FileSum(msgspec.Struct, frozen=True):
    """A file, its size in bytes, and its SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


class LeftOut(msgspec.Struct, frozen=True):
    """What was not read, and why. Bytes of a path that are no UTF-8 are shown as ``\\xNN``."""

    path: str
    reason: str


class Checksums(msgspec.Struct, kw_only=True):
    """What `checksum` found.

    Attributes:
        count, bytes: files read, and their bytes.
        digest: one SHA-256 for all, or null where something could not be read. It is the same as
            that of ``find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -r0 sha256sum -z |
            sha256sum``.
        files: the first files, in that order; ``truncated`` is how many more there are.
        left_out: the first links (they are not followed), special files and what could not be
            read; ``left_out_truncated`` is how many more there are.
    """

    count: int = 0
    bytes: int = 0
    digest: str | None = None
    files: list[FileSum] = []
    truncated: int = 0
    left_out: list[LeftOut] = []
    left_out_truncated: int = 0


@task
def checksum(job: Context, path: PathInside) -> Checksums:
    """SHA-256 of a file, or of each file of a directory tree and of the tree as a whole."""
    work = _Checksum(job)
    with closing(find_files(path, lambda *_: None)) as found:
        work.measure(found)
    with closing(find_files(path, work.leave_out)) as found:
        return work.read(found)


class _Checksum:
    def __init__(self, job: Context) -> None:
        self._job = job
        self._total = 0
        self._result = Checksums()
        self._room = [FILES_BYTES, LEFT_OUT_BYTES]
        self._complete = True

    def measure(self, files: Iterator[Found]) -> None:
        """Find out how many bytes there are, for the progress."""
        for file in files:
            self._job.check_canceled()
            try:
                self._total += os.lstat(file.name, dir_fd=file.folder).st_size
            except OSError:  # Gone meanwhile.
                continue

    def read(self, files: Iterator[Found]) -> Checksums:
        result, tree = self._result, hashlib.sha256()
        for file in files:
            before = result.bytes
            try:
                digest = self._digest(file)
            except OSError as error:
                result.bytes = before
                self.leave_out(file.path, error)
                continue
            result.count += 1
            tree.update(f"{digest}  ".encode() + os.fsencode(file.path) + b"\0")
            entry = FileSum(shown(file.path), result.bytes - before, digest)
            result.truncated += not self._list(result.files, entry, 0)
        if self._complete:
            result.digest = tree.hexdigest()
        return result

    def leave_out(self, path: str, reason: str | OSError) -> None:
        """Take what is not read; an error makes the whole incomplete."""
        if isinstance(reason, OSError):
            self._complete = False
            reason = reason.strerror or str(reason)
        entry = LeftOut(shown(path), reason)
        listed = self._list(self._result.left_out, entry, 1)
        self._result.left_out_truncated += not listed

    def _digest(self, file: Found) -> str:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
        with open_regular(file.folder, file.name) as opened:
            while True:
                self._job.check_canceled()
                self._job.progress(self._result.bytes, self._total, shown(file.path))
                size = opened.readinto(buffer)  # type: ignore[attr-defined]
                if not size:
                    return digest.hexdigest()
                digest.update(buffer[:size])
                self._result.bytes += size

    def _list(self, entries: list[Any], entry: msgspec.Struct, room: int) -> bool:
        """Add an entry unless the list is full; what is past one that did not fit is not listed."""
        self._room[room] -= len(msgspec.json.encode(entry)) + 1
        if self._room[room] < 0:
            return False
        entries.append(entry)
        return True


ROWS_A_REPORT = 500


class CSVProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What `csv_profile` found.

    Attributes:
        rows: without the header and without blank lines.
        ragged: rows with more cells than columns (those are left out) or with fewer (those count
            as empty).
    """

    bytes: int
    rows: int
    ragged: int
    columns: list[ColumnProfile]


@task(run="process")
def csv_profile(
    job: Context,
    path: PathInside,
    delimiter: Literal[",", ";", "\t", "|"] = ",",
    encoding: Literal["utf-8", "utf-16", "latin-1", "cp1252"] = "utf-8",
    header: bool = True,
) -> CSVProfile:
    """The columns of a CSV file of any size: type, minimum, maximum, mean, empty and distinct.

    The first row has the columns' names, unless ``header`` is false. A byte order mark is no part
    of it. What is not in the encoding, a quote out of place, a cell of more than 131,072 characters
    and a row of more than 4,194,304 end the job with the line's number.
    """
    with open_file(path) as file, io.TextIOWrapper(file, CODECS[encoding], newline="") as text:
        size = os.fstat(file.fileno()).st_size
        table = Table([])
        for count, row in enumerate(read_rows(text, delimiter, encoding)):
            if count == 0:
                table = Table.of(row, header=header)
            else:
                table.add(row)
            if count % ROWS_A_REPORT == 0:
                job.check_canceled()
                job.progress(file.tell(), size, f"{table.rows} rows")
        job.progress(size, size, f"{table.rows} rows")
        columns = table.profile()
    return CSVProfile(bytes=size, rows=table.rows, ragged=table.ragged, columns=columns)


HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(?::(\d{1,5}))?")
PORTS = {"http": 80, "https": 443}
LOCATION = 500
Hosts = set[tuple[str, int | None]]

WebAddress = Annotated[
    str,
    Meta(
        pattern="^https?://[!-~]+$",
        max_length=2_000,
        description="An http or https URL of a host that QUART_APP_DEMO_HOSTS names",
    ),
]


class Answer(msgspec.Struct, kw_only=True):
    """What became of one URL.

    Attributes:
        bytes: of the body, as it was sent.
        sha256: of the whole body; null where there is an error.
        location: where a redirect leads; it is not followed.
        error: why there is no whole answer.
    """

    url: str
    status: int | None = None
    bytes: int = 0
    seconds: float = 0.0
    sha256: str | None = None
    location: str | None = None
    error: str | None = None


class Fetched(msgspec.Struct, frozen=True):
    """What `fetch_all` found: how many URLs answered or failed, and each, in the order given."""

    answered: int
    failed: int
    answers: list[Answer]


@task
async def fetch_all(
    job: Context,
    urls: Annotated[list[WebAddress], Meta(min_length=1, max_length=100)],
    concurrency: Annotated[int, Meta(ge=1, le=20)] = 5,
    timeout: Annotated[float, Meta(gt=0, le=300)] = 10.0,
    max_bytes: Annotated[int, Meta(ge=1, le=2**30)] = 2**24,
) -> Fetched:
    """GET many URLs, a few at once. One that fails does not fail the others.

    ``timeout`` is seconds for each whole answer, ``max_bytes`` what its body may have. A host in
    ``QUART_APP_DEMO_HOSTS`` without a port means the scheme's own. Redirects are not followed, and
    the environment's proxies are not used.
    """
    hosts = _allowed_hosts()
    answers = [Answer(url=url) for url in urls]
    waiting, done = iter(answers), 0
    client = await asyncio.to_thread(_client)  # Reads the certificates: not on the loop.

    async def work() -> None:
        nonlocal done
        for answer in waiting:
            await _fetch(client, answer, hosts, timeout, max_bytes)
            done += 1
            job.progress(done, len(urls), f"{done} of {len(urls)} URLs")

    async with client, asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(urls))):
            group.create_task(work())
    failed = sum(answer.error is not None for answer in answers)
    return Fetched(len(answers) - failed, failed, answers)


def _client() -> AsyncClient:
    try:
        import httpx2
    except ImportError:
        message = 'fetch_all needs an HTTP client: pip install "quart-app[client]"'
        raise NotConfigured(message) from None
    headers = {"Accept-Encoding": "identity", "User-Agent": "quart-app-demo"}
    context = ssl.create_default_context()
    return httpx2.AsyncClient(headers=headers, verify=context, timeout=None, trust_env=False)


def _allowed_hosts() -> Hosts:
    given = Settings.load().demo_hosts
    if not given:
        raise NotConfigured(
            "QUART_APP_DEMO_HOSTS is not set: start the server with it set, in its environment, to "
            "the hosts that this task may ask, e.g. QUART_APP_DEMO_HOSTS=example.com,localhost:8000"
        )
    hosts: Hosts = set()
    for entry in given:
        match = HOST.fullmatch(entry.lower())
        if match is None:
            raise NotConfigured(f"QUART_APP_DEMO_HOSTS: {entry!r} is not host or host:port")
        host, port = match.groups()
        hosts.add((host.strip("[]"), None if port is None else int(port)))
    return hosts


async def _fetch(
    client: AsyncClient, answer: Answer, hosts: Hosts, timeout: float, max_bytes: int
) -> None:
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            await _read(client, answer, hosts, max_bytes)
    except TimeoutError:
        answer.error = f"TimeoutError: no whole answer within {timeout:g} seconds"
    except Exception as error:  # noqa: BLE001 - whatever fails, the other URLs go on
        answer.error = f"{type(error).__name__}: {error}"[:200]
    answer.seconds = round(time.monotonic() - started, 3)


async def _read(client: AsyncClient, answer: Answer, hosts: Hosts, max_bytes: int) -> None:
    request = client.build_request("GET", answer.url)
    _check(request.url, hosts)  # What is checked is what is sent: no second parser could differ.
    response = await client.send(request, stream=True)
    try:
        answer.status = response.status_code
        location = response.headers.get("location")
        answer.location = None if location is None else location[:LOCATION]
        digest = hashlib.sha256()
        async for chunk in response.aiter_raw():
            answer.bytes += len(chunk)
            if answer.bytes > max_bytes:
                raise ValueError(f"the body has more than {max_bytes} bytes")
            digest.update(chunk)
        answer.sha256 = digest.hexdigest()
    finally:
        await response.aclose()


def _check(url: URL, hosts: Hosts) -> None:
    if url.userinfo:
        raise PermissionError("a name or password in a URL would be shown with the job")
    usual = PORTS.get(url.scheme)
    port = usual if url.port is None else url.port
    names = (url.host, url.raw_host.decode())  # As people read it, and as it is asked for.
    ports = (port, None) if port == usual else (port,)
    if hosts.isdisjoint((name, number) for name in names for number in ports):
        raise PermissionError(f"QUART_APP_DEMO_HOSTS does not allow {url.host}:{port}")
