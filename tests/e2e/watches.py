"""Whoever follows a stream of events through whatever happens to it. Nothing else may live here."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable

import httpx2

TERMINAL = ("succeeded", "failed", "canceled")


def _client() -> httpx2.Client:
    return httpx2.Client(timeout=httpx2.Timeout(5.0, read=4.0), verify=False)


class Watch:
    """Follows a stream as a browser does: where it ends, it connects anew and goes on after the
    last event that it has. In a thread.

    Args:
        url: of the stream.
        make_client: the browser.
    """

    def __init__(self, url: str, make_client: Callable[[], httpx2.Client] = _client) -> None:
        self._url = url
        self._make_client = make_client
        self.seen: list[tuple[int, str, str]] = []
        """Seq, job and status of each event."""
        self.connected = 0
        self.wrong: list[str] = []
        self.over = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._make_client() as client:
            while not (self._stopped or self.over):
                with contextlib.suppress(httpx2.ReadTimeout):
                    self._connect(client)
                time.sleep(0.1)

    def _connect(self, client: httpx2.Client) -> None:
        resume = {"Last-Event-ID": str(self.seen[-1][0])} if self.seen else {}
        try:
            with client.stream("GET", self._url, headers=resume) as answer:
                if answer.status_code == 200:
                    self.connected += 1
                    self._read(answer)
                elif answer.status_code == 204:
                    self.over = True
                elif answer.status_code != 503:
                    self.wrong.append(f"{answer.status_code}")
        except httpx2.ReadTimeout:
            raise
        except httpx2.TransportError as error:
            self.wrong.append(repr(error))

    def _read(self, answer: httpx2.Response) -> None:
        seq = 0
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                seq = int(value)
            elif name == "data":
                document = json.loads(value)
                self.seen.append((seq, document["id"], document["status"]))
            if self._stopped:
                return

    def statuses(self, job_id: str) -> list[str]:
        """What was told of a job, in order."""
        return [status for _, job, status in self.seen if job == job_id]

    def check(self) -> None:
        """Nothing was told twice, or in another order, or after an end; no stream broke."""
        seqs = [seq for seq, _, _ in self.seen]
        assert seqs == sorted(set(seqs)), self.seen
        for job_id in {job for _, job, _ in self.seen}:
            told = self.statuses(job_id)
            assert sum(status in TERMINAL for status in told) <= 1, told
            assert not any(status in TERMINAL for status in told[:-1]), told
        assert self.wrong == [], self.wrong

    def stop(self) -> None:
        """End."""
        self._stopped = True
        self._thread.join(10)
