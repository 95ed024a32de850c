"""What a job says, as lines: without secrets, each of one line, none too long, not too many."""

from __future__ import annotations

import gc
import io
import json
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_app.core.drafts import (
    BYTES,
    CUT,
    LINE_CHARS,
    LINES,
    PARTIAL_CHARS,
    PARTIALS,
    Drafts,
    Log,
    dropped,
    lines_of,
)
from quart_app.domain.secrets import secrets_in


class Kept(Log):
    """A log whose lines are here."""

    def __init__(self, *secrets: str) -> None:
        self.secrets = secrets
        self.lines: list[str] = []

    def log(self, level: str, text: str, at: float | None = None) -> None:
        self.lines += [f"{level}: {line}" for line in lines_of(text, self.secrets)]


class Printer(io.StringIO):
    """A file that is such a log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def write(self, text: str) -> int:
        self.log.write("info", text)
        return len(text)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("\n", [""]),
        ("one", ["one"]),
        ("one\n", ["one"]),
        ("one\ntwo\r\n\nthree\n\n", ["one", "two", "", "three", ""]),
        ("a\tb", ["a\tb"]),
        ("nul \0 bell \a half \ud83d", ["nul \ufffd bell \ufffd half \ufffd"]),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain", ["red plain"]),
        ("\x1b alone", ["\ufffd alone"]),
        ("größer 日本 👍", ["größer 日本 👍"]),
    ],
)
def test_a_text_is_lines_that_can_be_shown(text: str, lines: list[str]) -> None:
    """A tab stays, colors go, and what cannot be shown has a mark in its place."""
    assert lines_of(text) == lines


@given(st.text(), st.lists(st.text(min_size=4, max_size=9), max_size=2))
def test_every_line_can_be_kept(text: str, secrets: list[str]) -> None:
    """One line, in UTF-8, not too long; and what was made once, is not made otherwise again."""
    lines = lines_of(text, tuple(secrets))
    assert lines
    for line in lines:
        assert line.splitlines() in ([line], [])
        assert len(line) <= LINE_CHARS
        line.encode()
        assert lines_of(line) == [line]


def test_a_long_line_is_cut() -> None:
    """And says so."""
    assert lines_of("x" * LINE_CHARS) == ["x" * LINE_CHARS]
    [line] = lines_of("x" * (LINE_CHARS + 1))
    assert len(line) == LINE_CHARS
    assert line.endswith(f"x{CUT}")


@pytest.mark.parametrize("offset", range(-12, 4))
def test_a_secret_is_hidden_before_a_line_is_cut(offset: int) -> None:
    """No part of it is left where the line ends."""
    text = "x" * (LINE_CHARS - len(CUT) + offset) + "hunter2" + "y" * 50
    [line] = lines_of(text, ("hunter2",))
    assert "h" not in line
    assert lines_of("one hunt\x1b[0mer2\nhunter2hunter2", ("hunter2",)) == ["one ***", "******"]


def test_a_secret_of_several_lines_is_hidden() -> None:
    """As keys are."""
    assert lines_of("key: begin\nmiddle\nend.", ("begin\nmiddle\nend",)) == ["key: ***."]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_no_line_of_a_secret_is_printed(end: str) -> None:
    """Each comes by itself, or in pieces; the short ones would be in every second word."""
    secret = end.join(["-----BEGIN KEY-----", "  MIIEvQIBADAN", 'cf"\\s==', "ab", ""])
    log = Kept(*secrets_in(msgspec.json.encode({"key": {"$secret": secret}})))
    print("with", secret, "end", file=Printer(log))
    for piece in secret:
        log.write("info", piece)
    log.log("info", f"{secret!r} {json.dumps([secret])} {secret.splitlines()}")
    log.end_lines()
    said = "\n".join(log.lines)
    assert "***" in said
    for part in ("BEGIN", "MII", "cf"):
        assert part not in said


def test_the_newest_lines_are_kept_and_the_others_counted() -> None:
    """In their place stands how many there were."""
    drafts = Drafts()
    drafts.add("info", [str(number) for number in range(LINES)], 1.0)
    drafts.add("error", ["last"], 2.0)
    lines = drafts.take()
    assert lines[0] == (1.0, "warning", dropped(2)) == (1.0, "warning", lines[0][2])
    assert lines[0][2].startswith("2 lines were dropped")
    assert [text for _, _, text in lines[1:]] == [*map(str, range(2, LINES)), "last"]
    assert drafts.take() == []
    drafts.add("info", ["x" * LINE_CHARS] * 100, 3.0)
    lines = drafts.take()
    kept = BYTES // (LINE_CHARS + 16)
    assert len(lines) == kept + 1
    assert lines[0] == (3.0, "warning", dropped(100 - kept))
    drafts.add("info", ["again"], 4.0)
    assert drafts.take() == [(4.0, "info", "again")], "it is said once"
    assert dropped(1).startswith("1 line was dropped")


@pytest.mark.parametrize("text", ["", "x" * (BYTES // LINES - 16), "x" * 247, "x" * 1_000])
def test_what_was_dropped_is_said_within_what_is_kept(text: str) -> None:
    """A store that keeps as much drops nothing of it: not the line that says how many were."""
    drafts = Drafts()
    drafts.add("info", [text] * 5_000, 1.0)
    lines = drafts.take()
    assert lines[0][2] == dropped(5_000 - len(lines) + 1)
    assert len(lines) <= LINES
    assert sum(16 + len(line) for _, _, line in lines) <= BYTES


def test_what_is_said_while_a_line_is_kept_is_no_deadlock() -> None:
    """An object that goes at that moment may say something: by the same thread, in between."""
    drafts = Drafts()

    class Talks(str):
        """A line that says another one when somebody measures it."""

        __slots__ = ()

        def __len__(self) -> int:
            drafts.add("info", ["in between"], 1.0)
            assert drafts.take() == []
            return 1

    drafts.add("info", [Talks("line")], 1.0)
    drafts.add("info", ["next"], 1.0)
    assert [text for _, _, text in drafts.take()] == ["line", "next"]
    gc.collect()


def test_many_threads_lose_no_line() -> None:
    """Each thread's lines stay in its order."""
    drafts = Drafts()

    def say(name: int) -> None:
        for number in range(100):
            drafts.add("info", [f"{name} {number}"], 1.0)

    threads = [threading.Thread(target=say, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [text for _, _, text in drafts.take()]
    for name in range(4):
        mine = [text for text in texts if text.startswith(f"{name} ")]
        assert mine == [f"{name} {number}" for number in range(100)]


def test_a_printed_line_is_taken_when_it_ends() -> None:
    """Whatever the pieces in which it comes; what never ends counts when the job has."""
    log = Kept()
    for piece in ("o", "ne\ntw", "", "o\n\nthr", "ee"):
        log.write("info", piece)
    log.write("error", "other")
    assert log.lines == ["info: one", "info: two", "info: "]
    log.end_lines()
    assert log.lines[3:] == ["info: three", "error: other"]
    log.end_lines()
    Kept().end_lines()
    assert len(log.lines) == 5


@pytest.mark.parametrize(
    "pieces", [["\r 1%", "\r 2%", "\r 3%\n"], ["1\r2\r\n", "3\r", "4\r", "\n"]]
)
def test_a_line_is_what_a_terminal_shows_last(pieces: list[str]) -> None:
    """Of a bar that grows, its end."""
    log = Kept()
    for piece in pieces:
        log.write("error", piece)
    assert log.lines == (["error:  3%"] if "%" in pieces[0] else ["error: 2", "error: 4"])


def test_a_line_without_an_end_is_bounded() -> None:
    """However long it grows; the next one is as always."""
    log = Kept()
    for _ in range(10):
        log.write("info", "x" * PARTIAL_CHARS)
    assert log._partials is not None
    assert sum(map(len, log._partials.values())) == PARTIAL_CHARS
    log.write("info", "end of it\nnext\n")
    assert [len(line) for line in log.lines] == [LINE_CHARS + len("info: "), len("info: next")]
    log.write("info", "y" * PARTIAL_CHARS)
    log.end_lines()
    assert log.lines[-1].endswith(f"y{CUT}")


@pytest.mark.parametrize("shift", range(9))
def test_a_line_without_an_end_does_not_end_in_mid_secret(shift: int) -> None:
    """Where it was cut off, and all before it is short because it was hidden."""
    secret = "s3cret-number"
    log = Kept(secret)
    log.write("info", "-" * shift + secret * (PARTIAL_CHARS // len(secret) + 2))
    log.write("info", secret + "\n")
    [line] = log.lines
    assert not set(line.removeprefix("info: ")) - set("-*. (cut)")


def test_lines_of_many_threads_are_bounded() -> None:
    """Of more than so many that have not ended, the oldest has."""
    log = Kept()
    log._partials = {("info", -number): f"of {number}" for number in range(PARTIALS)}
    log.write("info", "mine")
    assert log.lines == ["info: of 0"]
    assert len(log._partials) == PARTIALS
    log._end({}, ("info", 7))  # Its thread has ended it meanwhile.
    assert log.lines == ["info: of 0"]


def test_threads_do_not_mix_their_lines() -> None:
    """Two that print at once have a line each."""
    log = Kept()
    log.write("info", "one ")
    thread = threading.Thread(target=log.write, args=("info", "two\n"))
    thread.start()
    thread.join()
    log.write("info", "one\n")
    assert log.lines == ["info: two", "info: one one"]


def test_what_is_said_after_the_end_is_nobodys() -> None:
    """It is not even kept."""
    log = Kept()
    log.closed = True
    log.write("info", "late")
    assert not log.used
    assert log._partials is None
    with pytest.raises(TypeError, match="abstract"):
        Log()  # type: ignore[abstract]
