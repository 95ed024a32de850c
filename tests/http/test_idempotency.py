"""The Idempotency-Key: whoever repeats a request starts nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from quart_app import task
from tests.http.support import Stage, checked, problem, serving


@task
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@task
async def other(a: int, b: int = 1) -> int:
    """Another task with the same arguments."""
    return a * b


@task(debounce=60, unique="all")
async def saves(a: int) -> int:
    """Waits for the last of many starts."""
    return a


async def test_the_same_request_again_gives_the_same_job() -> None:
    """Idempotency-Replayed tells the second answer from the first."""
    async with serving(add) as api:
        first = await api.post("/start/add", {"a": 1}, Idempotency_Key='"k-1"')
        second = await api.post("/start/add", {"a": 1}, Idempotency_Key='"k-1"')
        assert (first.status, "Idempotency-Replayed" in first.headers) == (202, False)
        assert second.headers["Idempotency-Replayed"] == "true"
        assert second.json["id"] == first.json["id"]
        assert await api.count() == 1


async def test_the_key_is_known_while_the_job_runs_and_when_it_is_over(stage: Stage) -> None:
    """202 while it runs; 200 with the finished document afterwards."""
    async with serving(stage.held) as api:
        job_id = (await api.start("held", {"label": "x"}, Idempotency_Key="k"))["id"]
        again = await api.post("/start/held", {"label": "x"}, Idempotency_Key="k")
        assert (again.status, again.json["id"]) == (202, job_id)
        assert again.headers["Location"] == again.json["url"]
        stage.end(job_id, "done")
        await api.job(job_id, wait=5)
        again = await api.post("/start/held", {"label": "x"}, Idempotency_Key="k")
        assert again.status == 200
        assert checked(again.json)["result"] == "done"
        assert again.headers["Idempotency-Replayed"] == "true"
        assert stage.ran == [job_id]


async def test_a_repeated_request_may_wait_for_the_first_ones_job(stage: Stage) -> None:
    """Prefer: wait holds for replays too."""
    async with serving(stage.held) as api:
        job_id = (await api.start("held", None, Idempotency_Key="k"))["id"]
        headers = {"Idempotency_Key": "k", "Prefer": "wait=20"}
        waiting = asyncio.create_task(api.post("/start/held", None, **headers))
        stage.end(job_id)
        answer = await waiting
        assert (answer.status, answer.json["id"]) == (200, job_id)


async def test_arguments_are_compared_and_not_their_spelling() -> None:
    """White space, order and defaults written out make no other payload."""
    async with serving(add) as api:
        ids = set()
        for body in (b'{"a":1}', b' { "b": 1, "a" : 1 } ', b'{"a":1,"b":1}'):
            headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
            answer = await api.ask("POST", "/start/add", data=body, headers=headers)
            assert answer.status in (200, 202)
            ids.add(answer.json["id"])
        assert len(ids) == 1


async def test_the_same_key_with_another_payload_is_422() -> None:
    """idempotency-key-reused names the job that has the key; nothing is started."""
    async with serving(add) as api:
        job = await api.start("add", {"a": 1}, Idempotency_Key="k")
        answer = await api.post("/start/add", {"a": 2}, Idempotency_Key="k")
        found = problem(answer, 422, "idempotency-key-reused")
        assert job["id"] in found["detail"]
        assert await api.count() == 1


async def test_keys_belong_to_their_task() -> None:
    """The same key starts a job of each task."""
    async with serving(add, other) as api:
        first = await api.start("add", {"a": 1}, Idempotency_Key="k")
        second = await api.start("other", {"a": 1}, Idempotency_Key="k")
        assert first["id"] != second["id"]
        assert (await api.post("/start", None, Idempotency_Key="k")).status == 202


@pytest.mark.parametrize(
    ("key", "same"),
    [
        ("k", '"k"'),
        (' "k" ', "k"),
        ("k" * 255, f'"{"k" * 255}"'),
        ('"', '"""'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'),
        ("a key, with (signs)!", '"a key, with (signs)!"'),
    ],
)
async def test_a_key_may_be_quoted_or_bare(key: str, same: str) -> None:
    """Both spellings mean the same key; up to 255 characters."""
    async with serving(add) as api:
        first = await api.start("add", {"a": 1}, Idempotency_Key=key)
        again = await api.post("/start/add", {"a": 1}, Idempotency_Key=same)
        assert again.json["id"] == first["id"]


@pytest.mark.parametrize("key", ["", " ", '""', "k" * 256, f'"{"k" * 256}"', "ké", "a\tb", "\x7f"])
async def test_a_key_that_is_none_is_400(key: str) -> None:
    """Empty, longer than 255 characters, or not printable ASCII: nothing is started."""
    async with serving(add) as api:
        problem(await api.post("/start/add", {"a": 1}, Idempotency_Key=key), 400)
        assert await api.count() == 0


@pytest.mark.slow
async def test_two_hundred_simultaneous_requests_with_one_key_make_one_job(stage: Stage) -> None:
    """All get the same job, one of them as the first."""
    async with serving(stage.held, add) as api:
        await api.start("add", {"a": 1})
        requests = [api.post("/start/held", {"size": 1}, Idempotency_Key="k") for _ in range(200)]
        answers = await asyncio.gather(*requests)
        assert {answer.status for answer in answers} == {202}
        assert len({answer.json["id"] for answer in answers}) == 1
        replayed = [answer.headers.get("Idempotency-Replayed") for answer in answers]
        assert (replayed.count(None), replayed.count("true")) == (1, 199)
        assert await api.count() == 2
        await api.job(answers[0].json["id"])
        assert len(stage.ran) == 1


async def test_a_whole_array_can_be_repeated() -> None:
    """202 with the same documents in their order, and as a replay."""
    async with serving(add) as api:
        batch = [{"a": n} for n in range(5)]
        first = await api.post("/start/add", batch, Idempotency_Key="k")
        again = await api.post("/start/add", batch, Idempotency_Key="k")
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert (first.status, again.status) == (202, 202)
        ids = [each["id"] for each in first.json["jobs"]]
        assert [each["id"] for each in again.json["jobs"]] == ids
        assert [checked(each)["args"]["a"] for each in again.json["jobs"]] == [0, 1, 2, 3, 4]
        for job_id in ids:
            await api.job(job_id, wait=5)
        over = await api.post("/start/add", batch, Idempotency_Key="k")
        assert (over.status, over.headers["Idempotency-Replayed"]) == (202, "true")
        assert [(each["id"], each["result"]) for each in over.json["jobs"]] == [
            (job_id, n + 1) for n, job_id in enumerate(ids)
        ]
        assert await api.count() == 5


BATCH = [{"a": 0}, {"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (BATCH[:2], ""),
        (BATCH[:1], ""),
        (BATCH[0], ""),
        (BATCH[2], ""),
        (BATCH[::-1], ""),
        ([BATCH[0], BATCH[2], BATCH[1]], ""),
        ([BATCH[0], BATCH[0], BATCH[0]], ""),
        ([*BATCH[:2], {"a": 9}], ""),
        ([*BATCH, {"a": 3}], ""),
        ([*BATCH, BATCH[0]], ""),
        (BATCH, "?delay=0"),
        (BATCH, "?delay=60"),
        (BATCH, "?run_at=2030-01-31T08:00:00Z"),
        (BATCH, "?expires=60"),
        (BATCH, "?expires=2030-01-31T08:00:00Z"),
    ],
    ids=str,
)
async def test_the_key_of_an_array_is_for_the_whole_request(body: Any, query: str) -> None:
    """A shorter or longer array, a single object, another order or other options are another
    request: 422 idempotency-key-reused, and nothing is started."""
    async with serving(add) as api:
        first = await api.post("/start/add", BATCH, Idempotency_Key="k")
        answer = await api.post(f"/start/add{query}", body, Idempotency_Key="k")
        found = problem(answer, 422, "idempotency-key-reused")
        assert first.json["jobs"][0]["id"] in found["detail"]
        assert await api.count() == 3
        again = await api.post("/start/add", BATCH, Idempotency_Key="k")
        assert [each["id"] for each in again.json["jobs"]] == [
            each["id"] for each in first.json["jobs"]
        ]


@pytest.mark.parametrize(
    ("body", "query"),
    [([{"a": 1}], ""), ([{"a": 1}, {"a": 1}], ""), ({"a": 1}, "?delay=60")],
    ids=str,
)
async def test_the_key_of_one_job_is_not_that_of_an_array(body: Any, query: str) -> None:
    """Also where the array has this one object only; other options are another request, too."""
    async with serving(add) as api:
        await api.start("add", {"a": 1}, Idempotency_Key="k")
        answer = await api.post(f"/start/add{query}", body, Idempotency_Key="k")
        problem(answer, 422, "idempotency-key-reused")
        assert await api.count() == 1


async def test_an_empty_array_starts_nothing_and_takes_no_key() -> None:
    """It is no request that could be repeated, before or after one that is."""
    async with serving(add) as api:
        assert (await api.post("/start/add", [], Idempotency_Key="k")).json == {"jobs": []}
        first = await api.post("/start/add", BATCH, Idempotency_Key="k")
        assert (first.status, "Idempotency-Replayed" in first.headers) == (202, False)
        assert (await api.post("/start/add", [], Idempotency_Key="k")).json == {"jobs": []}
        assert await api.count() == 3


async def test_an_array_may_hold_the_same_arguments_twice() -> None:
    """Each is a job of its own, and each comes back in its place."""
    async with serving(add) as api:
        first = await api.post("/start/add", [{"a": 1}] * 3, Idempotency_Key="k")
        again = await api.post("/start/add", [{"a": 1}] * 3, Idempotency_Key="k")
        ids = [each["id"] for each in first.json["jobs"]]
        assert len(set(ids)) == 3
        assert [each["id"] for each in again.json["jobs"]] == ids


async def test_the_key_of_an_array_lives_as_long_as_all_of_its_jobs() -> None:
    """When the first of them is forgotten, it starts a whole new array."""
    async with serving(add, retain_count=2) as api:
        first = await api.post("/start/add", BATCH, Idempotency_Key="k")
        for each in first.json["jobs"]:
            await api.job(each["id"], wait=5)
        assert api.jobs.parts is not None
        await api.jobs.parts.upkeep.prune()
        second = await api.post("/start/add", BATCH, Idempotency_Key="k")
        assert "Idempotency-Replayed" not in second.headers
        ids = [each["id"] for answer in (first, second) for each in answer.json["jobs"]]
        assert len(set(ids)) == 6


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_the_key_of_a_debounced_start_is_a_key(store: str, tmp_path: Path) -> None:
    """Sent once more because its answer was lost it puts nothing off, and brings no older arguments
    back; with others it is refused. A start without a key is no repetition of anything."""
    where = "memory" if store == "memory" else f"sqlite:///{tmp_path}/jobs.db"
    async with serving(saves, store=where) as api:

        async def save(version: int, **headers: str) -> tuple[str, int, bool]:
            answer = await api.post("/start/saves", {"a": version}, **headers)
            again = answer.headers.get("Idempotency-Replayed") == "true"
            return answer.json["id"], answer.json["args"]["a"], again

        first, *_ = await save(1, Idempotency_Key="k1")
        assert await save(1, Idempotency_Key="k1") == (first, 1, True)
        assert await save(2, Idempotency_Key="k2") == (first, 2, False)
        assert await save(1, Idempotency_Key="k1") == (first, 2, True)
        refused = await api.post("/start/saves", {"a": 7}, Idempotency_Key="k1")
        problem(refused, 422, "idempotency-key-reused")
        assert await save(3) == (first, 3, False)
        await api.post(f"/cancel/{first}")
        assert await save(1, Idempotency_Key="k1") == (first, 3, True)
        other, *_ = await save(4, Idempotency_Key="k4")
        assert other != first


async def test_a_refused_request_leaves_its_key_free(stage: Stage) -> None:
    """After 503 the same request with the same key is a first one."""
    async with serving(stage.held, max_running=1, max_queued=1) as api:
        await api.start("held")
        await api.job((await api.start("held"))["id"])
        problem(await api.post("/start/held", None, Idempotency_Key="k"), 503, "queue-full")
        await api.post("/cancel", {"match": {}})
        answer = await api.post("/start/held", None, Idempotency_Key="k")
        assert (answer.status, "Idempotency-Replayed" in answer.headers) == (202, False)


async def test_a_key_lives_as_long_as_its_job() -> None:
    """When the record has expired, the key starts a new job."""
    async with serving(add, retain_count=0) as api:
        first = await api.start("add", {"a": 1}, Idempotency_Key="k")
        await api.job(first["id"], wait=5)
        assert api.jobs.parts is not None
        await api.jobs.parts.upkeep.prune()
        second = await api.post("/start/add", {"a": 2}, Idempotency_Key="k")
        assert (second.status, second.json["id"] != first["id"]) == (202, True)
