"""The demo's tasks as a user meets them, `checksum` in detail, and which files they may read."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from quart_app import demo, demo_files
from quart_app.testing import wait_until
from tests.demo_support import Watched, failure, run
from tests.http.support import problem, serving

NAMES: list[str | bytes] = [
    "a",
    "a.txt",
    "a/b",
    "a/b c",
    "a-b",
    "line\nbreak",
    "Z/y/x",
    "é",
    b"caf\xe9",
    "\\",
]
"""Names whose order by bytes, directory by directory and as whole paths, is not the same."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the operator allows; its parent is not allowed."""
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("QUART_APP_DEMO_ROOT", str(root))
    return root


@pytest.fixture(autouse=True)
def _no_open_files() -> Iterator[None]:
    """Fail a test after which more files are open than before."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def fill(root: Path) -> dict[bytes, bytes]:
    """Files of many names and sizes; their paths and contents."""
    contents: dict[bytes, bytes] = {}
    for number, name in enumerate(NAMES):
        path = os.fsencode(name)
        if path == b"a":
            continue  # A directory: others are inside it.
        full = os.path.join(os.fsencode(root), path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        contents[path] = bytes([number]) * (number * 100_000)
        with open(full, "wb") as file:
            file.write(contents[path])
    return contents


def checksum(path: str = ".", watched: Watched | None = None) -> demo.Checksums:
    """The plain function."""
    result = demo.checksum((watched or Watched()).context, path=path)
    assert isinstance(result, demo.Checksums)
    return result


# The task as a whole.


async def test_checksum_of_a_tree_over_http(root: Path) -> None:
    """Every file's SHA-256 is that of hashlib, and the progress ends at 100."""
    contents = fill(root)
    async with serving(demo) as api:
        ended = await run(api, "checksum", path=".")
    assert (ended["status"], ended["progress"]) == ("succeeded", 100)
    result = ended["result"]
    expected = {
        path.decode(errors="backslashreplace"): (len(data), hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    }
    assert {f["path"]: (f["bytes"], f["sha256"]) for f in result["files"]} == expected
    assert (result["count"], result["truncated"]) == (len(contents), 0)
    assert result["bytes"] == sum(map(len, contents.values()))
    assert (result["left_out"], result["left_out_truncated"]) == ([], 0)


async def test_checksum_can_be_canceled_in_the_middle_of_a_file(root: Path) -> None:
    """A file that would take an hour ends the job as canceled at once, and says how far it was."""
    (root / "huge").touch()
    os.truncate(root / "huge", 2**42)  # 4 TiB of nothing: it takes no room on the disk.
    async with serving(demo) as api:
        started = await api.start("checksum", {"path": "huge"})

        async def under_way() -> bool:
            return (await api.job(started["id"]))["message"] is not None

        await wait_until(under_way, "the job reports progress")
        await api.post(f"/cancel/{started['id']}")
        ended = await api.job(started["id"], wait=10)
    assert (ended["status"], ended["reason"]) == ("canceled", "requested")
    assert ended["progress"] < 100


def test_checksum_of_a_tree_can_be_stopped_between_two_files(root: Path) -> None:
    """What it has open is closed."""
    fill(root)
    watched = Watched(lambda: len(watched.reports) > 20)
    with pytest.raises(asyncio.CancelledError):
        checksum(watched=watched)
    assert len(watched.reports) == 21


async def test_arguments_that_cannot_be_right_are_refused_at_the_start(root: Path) -> None:
    """Bounds and choices are in the schema: 422, and no job."""
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("checksum", {}, "#/path"),
        ("checksum", {"path": ""}, "#/path"),
        ("checksum", {"path": "a" * 4_097}, "#/path"),
        ("csv_profile", {"path": "a", "delimiter": "."}, "#/delimiter"),
        ("csv_profile", {"path": "a", "encoding": "utf-7"}, "#/encoding"),
        ("fetch_all", {"urls": []}, "#/urls"),
        ("fetch_all", {"urls": ["http://a/"] * 101}, "#/urls"),
        ("fetch_all", {"urls": ["file:///etc/passwd"]}, "#/urls/0"),
        ("fetch_all", {"urls": ["http://a/"], "concurrency": 21}, "#/concurrency"),
        ("fetch_all", {"urls": ["http://a/"], "timeout": 0}, "#/timeout"),
        ("fetch_all", {"urls": ["http://a/"], "max_bytes": 0}, "#/max_bytes"),
    ]
    async with serving(demo) as api:
        for name, args, pointer in wrong:
            found = problem(await api.post(f"/start/{name}", args), 422, "invalid-arguments")
            assert [error["pointer"] for error in found["errors"]] == [pointer]
        assert await api.count() == 0


@pytest.mark.virtual
async def test_the_tutorials_task_takes_five_seconds() -> None:
    """And returns a short result."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await demo.long_task() == "done"
    assert loop.time() - started == 5


# The digest of the whole, the lists, what is left out.


def test_the_digest_of_a_tree_is_that_of_coreutils(root: Path) -> None:
    """A user can check it with find, sort and sha256sum."""
    pipeline = (
        r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -r0 sha256sum -z | sha256sum"
    )
    for files in (0, len(NAMES) - 1):
        done = subprocess.run(["bash", "-c", pipeline], cwd=root, capture_output=True, check=True)
        result = checksum()
        assert (result.count, result.digest) == (files, done.stdout.split()[0].decode())
        fill(root)


def test_one_file_has_its_name_in_the_result(root: Path) -> None:
    """The result of a file has the same form as that of a tree."""
    (root / "folder").mkdir()
    (root / "folder" / "file").write_bytes(b"data")
    result = checksum("folder/file")
    digest = hashlib.sha256(b"data").hexdigest()
    assert result.files == [demo.FileSum("file", 4, digest)]
    assert result.digest == hashlib.sha256(f"{digest}  file\0".encode()).hexdigest()


def test_progress_is_by_bytes(root: Path) -> None:
    """It never goes back and ends with all bytes of all files."""
    fill(root)
    watched = Watched()
    result = checksum(watched=watched)
    currents = [report.current for report in watched.reports]
    assert currents == sorted(currents)
    assert {report.total for report in watched.reports} == {result.bytes}
    assert currents[-1] == result.bytes
    assert len(set(currents)) > len(NAMES)  # Also in the middle of a file.


def test_links_and_pipes_are_left_out_and_named(root: Path) -> None:
    """The job does not hang on a pipe, follows no link, and the digest is that of the files."""
    (root / "file").write_bytes(b"data")
    alone = checksum().digest
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to(".")
    (root / "out").symlink_to("/etc")
    (root / "same").symlink_to("file")
    result = checksum()
    assert [(left.path, left.reason) for left in result.left_out] == [
        ("loop", "a link, not followed"),
        ("out", "a link, not followed"),
        ("pipe", "not a plain file"),
        ("same", "a link, not followed"),
    ]
    assert (result.count, result.digest) == (1, alone)


def when_asked(names: list[str], act: Any) -> Watched:
    """A job in which something happens when the first of these files is shown as under way."""

    def stopping() -> bool:
        if names and watched.reports and watched.reports[-1].message == names[0]:
            names.clear()
            act()
        return False

    watched = Watched(stopping)
    return watched


def test_what_cannot_be_read_is_reported_and_the_others_are(root: Path) -> None:
    """A file and a directory that go away meanwhile do not fail the job; there is no digest then,
    since it would be that of another tree."""
    for name in ("a", "b", "c/d", "e"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"data")

    def remove() -> None:
        (root / "b").unlink()
        (root / "c" / "d").unlink()
        (root / "c").rmdir()

    result = checksum(watched=when_asked(["a"], remove))
    assert [file.path for file in result.files] == ["a", "e"]
    assert [(left.path, left.reason) for left in result.left_out] == [
        ("b", "No such file or directory"),
        ("c", "No such file or directory"),
    ]
    assert (result.count, result.bytes, result.digest) == (2, 8, None)


def test_a_file_that_goes_away_before_it_is_measured_does_no_harm(root: Path) -> None:
    """The progress is then by the bytes of the others."""
    (root / "a").write_bytes(b"data")
    (root / "b").write_bytes(b"data")
    gone: list[Path] = [root / "a"]

    def stopping() -> bool:
        if gone:
            gone.pop().unlink()
        return False

    watched = Watched(stopping)
    assert [file.path for file in checksum(watched=watched).files] == ["b"]
    assert watched.reports[-1].percent == 100


def test_a_file_that_breaks_in_the_middle_is_reported(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read of it does not count."""
    (root / "a").write_bytes(bytes(2 * demo.CHUNK))
    (root / "b").write_bytes(b"data")

    class Broken(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    opened = demo_files.open_regular

    def open_regular(folder: int, name: str) -> BinaryIO:
        with opened(folder, name) as file:
            return Broken(file.read()) if name == "a" else io.BytesIO(file.read())

    monkeypatch.setattr(demo, "open_regular", open_regular)
    result = checksum()
    assert (result.count, result.bytes, result.digest) == (1, 4, None)
    assert result.left_out == [demo.LeftOut("a", "Input/output error")]


def test_a_file_that_becomes_a_pipe_is_reported(root: Path) -> None:
    """It is neither read nor waited for."""
    (root / "a").write_bytes(b"data")
    (root / "b").write_bytes(b"data")

    def exchange() -> None:
        (root / "b").unlink()
        os.mkfifo(root / "b")

    result = checksum(watched=when_asked(["a"], exchange))
    assert result.left_out == [demo.LeftOut("b", "not a plain file")]
    assert result.digest is None


def test_the_lists_are_cut_and_the_counts_are_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result stays below what a result may have, however many files and links there are."""
    for number in range(20):
        (root / f"file{number:02}").write_bytes(b"data")
        (root / f"link{number:02}").symlink_to("file00")
    whole = checksum()
    monkeypatch.setattr(demo, "FILES_BYTES", 500)
    monkeypatch.setattr(demo, "LEFT_OUT_BYTES", 250)
    cut = checksum()
    assert 0 < len(cut.files) < 20
    assert 0 < len(cut.left_out) < 20
    assert cut.files == whole.files[: len(cut.files)]
    assert len(cut.files) + cut.truncated == cut.count == 20
    assert len(cut.left_out) + cut.left_out_truncated == 20
    assert cut.digest == whole.digest
    assert len(msgspec.json.encode(cut.files)) <= 502
    assert len(msgspec.json.encode(cut.left_out)) <= 252


def test_a_result_is_never_too_large() -> None:
    """Both lists together have room in the 1 MiB that a result may have."""
    assert demo.FILES_BYTES + demo.LEFT_OUT_BYTES < 2**20 - 10_000


def test_a_tree_of_any_depth_takes_few_open_files(root: Path) -> None:
    """What is deeper than 64 directories is left out and named."""
    folder = root.joinpath(*["d"] * 70)
    folder.mkdir(parents=True)
    (folder / "deep").write_bytes(b"data")
    (root / "d" / "file").write_bytes(b"data")
    result = checksum()
    assert [file.path for file in result.files] == ["d/file"]
    assert result.left_out == [demo.LeftOut("/".join("d" * 65), "more than 64 directories deep")]


# Which files may be read.


async def test_without_a_root_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job fails and names the setting and what to do."""
    async with serving(demo) as api:
        code, message = await failure(api, "checksum", path="/etc/hostname")
        assert code == "NotConfigured"
        assert "QUART_APP_DEMO_ROOT is not set" in message
        monkeypatch.setenv("QUART_APP_DEMO_ROOT", "/nowhere")
        code, message = await failure(api, "checksum", path=".")
    assert (code, "'/nowhere' is no directory" in message) == ("NotConfigured", True)


async def test_no_path_leads_out_of_the_root(root: Path) -> None:
    """Neither dots, nor another absolute path, nor a link, nor a longer name, nor ``/``."""
    outside = root.parent / "root-of-others"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "inside").mkdir()
    paths = ["../root-of-others/secret", "inside/../../root-of-others/secret", "inside/..", "..",
             str(outside), str(outside / "secret"), f"{root}-of-others/secret", "/", "/etc/passwd",
             "file", "folder", "folder/secret", "up", "up/root-of-others", "//etc"]  # fmt: skip
    async with serving(demo) as api:
        for path in paths:
            code, message = await failure(api, "checksum", path=path)
            assert (code, repr(path) in message) == ("NotAllowed", True), path


@pytest.mark.parametrize("task", [demo.checksum, demo.csv_profile], ids=lambda task: task.name)
def test_every_task_that_reads_files_keeps_to_the_root(root: Path, task: Any) -> None:
    """The rule is not that of one task."""
    (root / "out").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "out", "../x"):
        with pytest.raises(demo_files.NotAllowed):
            task(Watched().context, path=path)


def test_links_inside_the_root_may_be_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path through a link is that to which it leads; the root itself may be a link, too."""
    (root / "folder").mkdir()
    (root / "folder" / "file").write_bytes(b"data")
    (root / "link").symlink_to("folder")
    (root.parent / "other").symlink_to("root")
    monkeypatch.setenv("QUART_APP_DEMO_ROOT", str(root.parent / "other"))
    absolute = str(root.parent / "other" / "link" / "file")
    assert checksum("link/file") == checksum(absolute) == checksum(str(root / "folder" / "file"))


def test_a_link_that_comes_after_the_check_is_not_followed(root: Path) -> None:
    """Who may write inside the root cannot exchange a directory for a link out of it in time."""
    (root / "folder").symlink_to("/etc")
    for parts in (("folder",), ("folder", "passwd")):
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            demo_files.open_inside(str(root), parts)
    folder = demo_files.open_inside(str(root), ())
    (root / "file").symlink_to("/etc/passwd")
    try:
        with pytest.raises(OSError, match="Too many levels"):
            demo_files.open_regular(folder, "file")
    finally:
        os.close(folder)


def test_what_does_not_exist_or_is_no_file_is_named_as_the_user_named_it(root: Path) -> None:
    """The error has the whole path, and the kind of error is kept."""
    (root / "folder").mkdir()
    context = Watched().context
    with pytest.raises(FileNotFoundError, match="'folder/none/file'"):
        checksum("folder/none/file")
    with pytest.raises(FileNotFoundError, match="'folder/none'"):
        demo.csv_profile(context, path="folder/none")
    for path in ("folder", "."):
        with pytest.raises(OSError, match=f"not a plain file: '{path}'"):
            demo.csv_profile(context, path=path)
