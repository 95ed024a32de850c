"""`create_app` and `Jobs`: in an app of its own, in somebody else's, served and unserved."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from hypercorn.config import Config
from quart import Quart, request, websocket

import quart_app
from quart_app import Context, Jobs, create_app, hosting, task
from quart_app.app import get_jobs
from quart_app.core.context import Context as CoreContext
from quart_app.domain.errors import InvalidSetting, InvalidTask, JobFailed, NotServing
from quart_app.testing import wait_until
from tests.http.listening import listening
from tests.http.support import Api, Stage, checked, problem

QUICK_END: dict[str, Any] = {"QUART_APP_DRAIN": 0, "QUART_APP_GRACE": 2}


@pytest.fixture
def stage() -> Stage:
    """Tasks whose jobs end when the test says so."""
    return Stage()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a module that can be imported in this test; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


@task
async def work(value: int = 1) -> int:
    """Done at once."""
    return value


@task
def in_thread() -> str:
    """Where a def function runs."""
    return threading.current_thread().name


class TestInAnotherApp:
    def shop(self) -> tuple[Quart, Jobs]:
        """An app with routes and error pages of its own."""
        app = Quart("shop")
        app.config.update(QUICK_END)
        jobs = Jobs(app, url_prefix="/background", tasks=[work])

        @app.get("/")
        async def home() -> str:
            return "the shop"

        @app.get("/broken")
        async def broken() -> str:
            raise ZeroDivisionError

        @app.errorhandler(404)
        async def missing(error: Exception) -> tuple[str, int]:
            return "the shop's own 404", 404

        @app.errorhandler(405)
        async def wrong(error: Exception) -> tuple[str, int]:
            return "the shop's own 405", 405

        @app.errorhandler(500)
        async def fault(error: Exception) -> tuple[str, int]:
            return "the shop's own 500", 500

        return app, jobs

    async def test_its_routes_and_error_pages_are_left_alone(self) -> None:
        """What is not below our prefix is answered as before."""
        app, _ = self.shop()
        async with app.test_app() as served:
            client = served.test_client()
            for method, path, status, text in [
                ("get", "/", 200, "the shop"),
                ("get", "/nope", 404, "the shop's own 404"),
                ("get", "/start", 404, "the shop's own 404"),
                ("get", "/backgroundwork", 404, "the shop's own 404"),
                ("post", "/", 405, "the shop's own 405"),
                ("get", "/broken", 500, "the shop's own 500"),
            ]:
                response = await getattr(client, method)(path)
                assert response.status_code == status, path
                assert await response.get_data() == text.encode(), path

    async def test_below_the_prefix_every_error_is_a_problem(self) -> None:
        """Unknown routes and wrong methods too."""
        app, _ = self.shop()
        async with app.test_app():
            api = Api(app, prefix="/background")
            problem(await api.get("/nope"), 404)
            problem(await api.get("/jobs/nobody"), 404)
            answer = await api.ask("DELETE", "/jobs")
            problem(answer, 405)
            assert "GET" in answer.headers["Allow"]
            problem(await api.post("/start"), 404, "no-such-task")
            problem(await api.get("/start"), 404, "no-such-task")

    async def test_a_redirect_below_the_prefix_stays_one(self) -> None:
        """The framework's own: the user's route with a slash at its end."""
        app, _ = self.shop()

        @app.get("/background/own/")
        async def own() -> str:
            return "own"

        async with app.test_app() as served:
            client = served.test_client()
            assert (await client.get("/background/own")).status_code == 308
            assert await (await client.get("/background/own/")).get_data() == b"own"

    async def test_the_prefix_stands_in_every_url(self) -> None:
        """Documents, headers, next, the catalog, the page."""
        app, _ = self.shop()
        async with app.test_app():
            api = Api(app, prefix="/background")
            answer = await api.post("/start/work")
            job = checked(answer.json)
            assert job["url"] == f"http://localhost/background/jobs/{job['id']}"
            assert answer.headers["Location"] == job["url"]
            await api.start("work")
            assert (
                (await api.get("/jobs?limit=1"))
                .json["next"]
                .startswith("http://localhost/background/jobs?")
            )
            found = (await api.get("/tasks/work")).json
            assert found["url"] == "http://localhost/background/tasks/work"
            assert found["start"] == "http://localhost/background/start/work"
            page = (await api.get("/docs")).body
            assert b'data-url="/background/openapi.json"' in page
            assert b'src="/background/docs/start.js"' in page
            assert (await api.get("/docs/start.js")).status == 200

    async def test_tasks_are_registered_by_decorator_and_started_in_views(self) -> None:
        """``@jobs.task``, bare or with options, and ``await task.start()`` with a typed handle."""
        app, jobs = self.shop()

        @jobs.task
        async def double(number: int) -> int:
            return 2 * number

        @jobs.task(name="shout", tags=["loud"])
        def shouted(context: Context, text: str) -> str:
            assert isinstance(context, CoreContext)
            return text.upper()

        @app.post("/order")
        async def order() -> dict[str, Any]:
            first = await double.start(number=21)
            second = await shouted.start(text="ahoy")
            return {
                "id": first.id,
                "status": await first.status(),
                "results": [await first.result(5), await second.result(timeout=5)],
                "after": await first.status(),
            }

        async with app.test_app() as served:
            response = await served.test_client().post("/order")
            answer = await response.get_json()
            assert answer["results"] == [42, "AHOY"]
            assert (answer["status"], answer["after"]) == ("queued", "succeeded")
            api = Api(app, prefix="/background")
            assert (await api.job(answer["id"]))["result"] == 42
            assert (await api.get("/tasks/shout")).json["tags"] == ["loud"]

    async def test_a_prefix_may_end_with_a_slash(self) -> None:
        """It makes no difference."""
        app = Quart("shop")
        Jobs(app, url_prefix="/background/", tasks=[work])
        async with app.test_app():
            job = await Api(app, prefix="/background").start("work")
            assert job["url"] == f"http://localhost/background/jobs/{job['id']}"

    async def test_without_a_prefix_the_root_stays_the_apps(self) -> None:
        """Jobs(app) mounts at the root, beside the app's own home page."""
        app = Quart("shop")
        Jobs(app, tasks=[work])

        @app.get("/")
        async def home() -> str:
            return "the shop"

        async with app.test_app() as served:
            response = await served.test_client().get("/")
            assert await response.get_data() == b"the shop"
            assert (await Api(app).start("work"))["url"].startswith("http://localhost/jobs/")

    async def test_a_user_may_hold_the_door(self) -> None:
        """A before_request of the app, a login for example, comes before our routes."""
        app, _ = self.shop()

        @app.before_request
        async def login() -> tuple[str, int] | None:
            return None if "Authorization" in request.headers else ("who are you?", 401)

        async with app.test_app() as served:
            client = served.test_client()
            assert (await client.post("/background/start/work")).status_code == 401
            headers = {"Authorization": "me"}
            response = await client.post("/background/start/work", headers=headers)
            assert response.status_code == 202

    async def test_a_start_that_is_refused_in_a_view_is_a_problem(self) -> None:
        """A full queue or a shutdown is 503 with Retry-After, unless the view says otherwise."""
        app, jobs = self.shop()

        @app.post("/order")
        async def order() -> str:
            return (await work.start(value=1)).id

        async with app.test_app() as served:
            jobs.begin_close()
            response = await served.test_client().post("/order")
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"
            assert (await response.get_json())["type"] == "urn:quart-app:problem:draining"

    async def test_a_websocket_may_start_jobs(self) -> None:
        """Also one that stays open: the job begins all the same."""
        app, _ = self.shop()

        @app.websocket("/live")
        async def live() -> None:
            handle = await work.start(value=7)
            await websocket.send(handle.id)
            await websocket.send(str(await handle.result(timeout=5)))

        async with app.test_app() as served, served.test_client().websocket("/live") as socket:
            job_id = await socket.receive()
            assert await socket.receive() == "7"
            assert (await Api(app, prefix="/background").job(str(job_id)))["result"] == 7

    @pytest.mark.virtual
    async def test_a_view_may_wait_for_what_its_job_does(self) -> None:
        """Held back until the answer has left, the job begins after a quarter of a second."""
        app, jobs = self.shop()
        begun = asyncio.Event()

        @jobs.task
        async def begin() -> None:
            begun.set()

        @app.post("/order")
        async def order() -> str:
            await begin.start()
            await begun.wait()
            return "begun"

        async with app.test_app() as served:
            response = await served.test_client().post("/order")
            assert await response.get_data() == b"begun"
            assert asyncio.get_running_loop().time() == pytest.approx(0.25, abs=0.01)

    def test_an_app_takes_the_extension_once(self) -> None:
        """The second is refused with the reason, whichever way it comes."""
        app, jobs = self.shop()
        for again in (lambda: Jobs(app), lambda: Jobs().init_app(app), lambda: jobs.init_app(app)):
            with pytest.raises(RuntimeError, match="has background jobs already"):
                again()
        assert get_jobs(app) is jobs

    async def test_init_app_may_come_later(self) -> None:
        """The factory pattern: tasks first, the app when there is one."""
        jobs = Jobs(url_prefix="/background")

        @jobs.task
        async def early() -> str:
            return "early"

        assert list(jobs.catalog) == ["early"]
        app = Quart("shop")
        jobs.init_app(app)
        async with app.test_app():
            api = Api(app, prefix="/background")
            assert (await api.job((await api.start("early"))["id"], wait=5))["result"] == "early"

    async def test_a_users_larger_uploads_are_left_alone(self) -> None:
        """Our limit of bodies holds for our routes, the app's own for its own."""
        app, _ = self.shop()

        @app.post("/upload")
        async def upload() -> str:
            return str(len(await request.get_data()))

        async with app.test_app() as served:
            client = served.test_client()
            response = await client.post("/upload", data=b"x" * 1_000_000)
            assert await response.get_data() == b"1000000"


class TestTwoApps:
    async def test_two_apps_in_one_process_have_jobs_of_their_own(self) -> None:
        """Lists, ids and tasks are apart; a view starts its own app's job."""

        @task
        async def shared() -> str:
            return "shared"

        apps = [create_app([shared], **QUICK_END) for _ in range(2)]
        for app in apps:

            async def view() -> str:
                return (await shared.start()).id

            app.add_url_rule("/view", "view", view)
        first, second = (Api(app) for app in apps)
        async with apps[0].test_app(), apps[1].test_app():
            job = await first.start("shared")
            problem(await second.get(f"/jobs/{job['id']}"), 404)
            started = (await second.get("/view")).body.decode()
            assert await first.list() == [job["id"]]
            assert await second.list() == [started]
            with pytest.raises(NotServing, match="several apps"):
                await shared.start()
        with pytest.raises(NotServing, match="no running app"):
            await shared.start()

    async def test_a_task_of_the_only_serving_app_can_be_started_outside_of_requests(self) -> None:
        """In a test, or in a loop of the user's own."""
        app = create_app([work], **QUICK_END)
        async with app.test_app():
            assert await (await work.start(5)).result(timeout=5) == 5
            assert await Api(app).count() == 1


class TestCreateApp:
    async def test_modules_and_tasks_may_be_mixed(self) -> None:
        """What is named is offered, and the tutorial's task besides."""
        module = ModuleType("some_tasks")
        module.work = work  # type: ignore[attr-defined]
        module.other = 5  # type: ignore[attr-defined]
        stage = Stage()
        app = create_app([module, stage.held], **QUICK_END)
        async with app.test_app():
            names = [each["name"] for each in (await Api(app).get("/tasks")).json["tasks"]]
            assert names == ["held", "long_task", "work"]

    async def test_with_nothing_named_the_demo_is_offered(self) -> None:
        """The tutorial's task, and the others of `quart_app.demo`."""
        app = create_app()
        async with app.test_app():
            names = {each["name"] for each in (await Api(app).get("/tasks")).json["tasks"]}
            assert "long_task" in names

    async def test_quart_app_tasks_names_modules(
        self, module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Several, with commas; imported at the start and not before."""
        text = "from quart_app import task\n@task\nasync def {0}() -> str:\n    return '{0}'\n"
        one, two = module("tasks_one", text.format("one")), module("tasks_two", text.format("two"))
        monkeypatch.setenv("QUART_APP_TASKS", f"{one}, {two}")
        app = create_app(**QUICK_END)
        assert not {one, two} & set(sys.modules)
        async with app.test_app():
            api = Api(app)
            assert (await api.job((await api.start("two"))["id"], wait=5))["result"] == "two"
            names = {each["name"] for each in (await api.get("/tasks")).json["tasks"]}
            assert names == {"one", "two", "long_task"}

    async def test_a_users_own_app_takes_them_too(
        self, module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the tutorial's task: there is no default one then."""
        text = "from quart_app import task\n@task\nasync def one() -> str:\n    return 'one'\n"
        monkeypatch.setenv("QUART_APP_TASKS", module("tasks_own", text))
        app = Quart("shop")
        Jobs(app)
        async with app.test_app():
            api = Api(app)
            names = [each["name"] for each in (await api.get("/tasks")).json["tasks"]]
            assert names == ["one"]
            problem(await api.post("/start"), 404, "no-such-task")

    async def test_a_module_without_any_task_is_named_in_the_log(
        self,
        module: Callable[[str, str], str],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Most likely a decorator is missing; a module that has registered its own is fine."""
        app = Quart("shop")
        jobs = Jobs(app)

        @jobs.task
        async def mine() -> None: ...

        none = module("tasks_none", "async def report() -> None: ...\n")
        inner = module("tasks_inner", "import tasks_none\n")
        monkeypatch.setattr(mine.function, "__module__", f"{inner}.reports")
        monkeypatch.setenv("QUART_APP_TASKS", f"{none}, {inner}")
        async with app.test_app():
            found = [each.getMessage() for each in caplog.records if "has no task" in each.msg]
            assert found == ["tasks_none has no task: decorate a function with @task"]

    async def test_the_default_task_rules(self, stage: Stage) -> None:
        """The one that is named; else the tutorial's, or whatever has its name; else none."""

        @task(name="long_task")
        async def mine() -> str:
            return "mine"

        named = {"QUART_APP_DEFAULT_TASK": "work"}
        apps = {
            create_app([work], **QUICK_END): "long_task",
            create_app([work], **QUICK_END, **named): "work",
            create_app([mine], **QUICK_END): "long_task",
            (shop := Quart("shop")): "long_task",
        }
        Jobs(shop, tasks=[mine])
        for app, expected in apps.items():
            async with app.test_app():
                job = checked((await Api(app).post("/start")).json)
                assert job["task"] == expected
        async with shop.test_app():
            job = checked((await Api(shop).post("/start")).json)
            assert (await Api(shop).job(job["id"], wait=5))["result"] == "mine"


class TestRefusedStarts:
    """A wrong start says what is wrong, what it was and what it may be."""

    def refused(self, app: Quart) -> Exception:
        """What the start of an app raises."""
        with pytest.raises((InvalidSetting, InvalidTask)) as caught:
            asyncio.run(get_jobs(app).open())
        assert get_jobs(app).parts is None
        return caught.value

    @pytest.mark.parametrize(
        "name", ["no_such_module", "quart_app.nothing", ".relative", "a..b", "module:attribute"]
    )
    def test_a_module_that_cannot_be_imported(self, name: str) -> None:
        """QUART_APP_TASKS, the name, and why."""
        error = self.refused(create_app([work], QUART_APP_TASKS=f"{name}"))
        assert isinstance(error, InvalidSetting)
        assert (error.name, error.value) == ("QUART_APP_TASKS", name)
        assert "app.config" in str(error)
        assert "modules that can be imported" in str(error)

    def test_a_module_that_lacks_what_it_imports(self, module: Callable[[str, str], str]) -> None:
        """The missing one is named."""
        name = module("tasks_lacking", "import no_such_thing\n")
        error = self.refused(create_app([work], QUART_APP_TASKS=name))
        assert "no_such_thing" in str(error)

    def test_a_module_with_a_fault_shows_it(self, module: Callable[[str, str], str]) -> None:
        """Not an error of the setting: the module's own traceback is what helps."""
        name = module("tasks_faulty", "1 / 0\n")
        with pytest.raises(ZeroDivisionError):
            asyncio.run(get_jobs(create_app([work], QUART_APP_TASKS=name)).open())

    def test_a_default_task_that_there_is_not(self) -> None:
        """Those that there are, are named."""
        error = self.refused(create_app([work], QUART_APP_DEFAULT_TASK="wrok"))
        assert isinstance(error, InvalidSetting)
        assert (error.name, error.value) == ("QUART_APP_DEFAULT_TASK", "wrok")
        assert "one of the tasks: work" in str(error)
        app = Quart("shop")
        Jobs(app)
        app.config["QUART_APP_DEFAULT_TASK"] = "work"
        assert "there are none" in str(self.refused(app))

    def test_a_wrong_number(self) -> None:
        """As everywhere: name, value, range."""
        error = self.refused(create_app([work], QUART_APP_DRAIN="soon"))
        assert "QUART_APP_DRAIN='soon'" in str(error)

    def test_a_task_whose_parameters_cannot_come_from_json(self) -> None:
        """It stops the start, and not the first job."""

        @task
        async def impossible(thing: threading.Thread) -> None:
            """Nobody can send a thread."""

        error = self.refused(create_app([impossible]))
        assert "'impossible'" in str(error)
        assert "Thread" in str(error)

    def test_two_tasks_of_one_name(self, module: Callable[[str, str], str]) -> None:
        """Both functions are named, and what would help; the same task twice is fine."""

        @task(name="work")
        async def double() -> None:
            """Another work."""

        with pytest.raises(InvalidTask, match="two tasks are called 'work'") as caught:
            create_app([work, double])
        assert "double" in str(caught.value)
        assert "@task(name=" in str(caught.value)
        create_app([work, work])
        text = "from quart_app import task\n@task\nasync def work() -> None: ...\n"
        app = create_app([work], QUART_APP_TASKS=module("tasks_same", text))
        assert "tasks_same.work" in str(self.refused(app))


class TestWithoutLifespan:
    """Where no server sends a start-up, the first request opens the service."""

    async def test_quarts_test_client_is_enough(self) -> None:
        """``app.test_client()`` without ``test_app()``, as in many tests."""
        app = create_app([work], **QUICK_END)
        api = Api(app)
        answers = await asyncio.gather(*(api.post("/start/work") for _ in range(20)))
        ids = {answer.json["id"] for answer in answers}
        assert len(ids) == 20
        assert (await api.job(ids.pop(), wait=5))["status"] == "succeeded"
        await get_jobs(app).close()

    async def test_an_asgi_transport_is_enough(self) -> None:
        """httpx2 (as httpx before it) sends no start-up."""
        app = create_app([work], **QUICK_END)
        asgi: Any = app
        transport = httpx2.ASGITransport(asgi)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            response = await client.post("/start/work", json={"value": 7})
            assert response.status_code == 202
            preference = {"Prefer": "wait=5"}
            found = await client.get(response.headers["Location"], headers=preference)
            assert checked(found.json())["result"] == 7
        await get_jobs(app).close()

    async def test_a_start_up_after_the_first_request_changes_nothing(self) -> None:
        """The jobs are still there, and there is one service."""
        app = create_app([work], **QUICK_END)
        api = Api(app)
        job = await api.start("work")
        async with app.test_app():
            assert (await api.job(job["id"], wait=5))["status"] == "succeeded"
            assert await (await work.start(3)).result(timeout=5) == 3

    def test_a_new_event_loop_after_the_old_one_closed_works(self) -> None:
        """asyncio.run twice on one app: the jobs of the first are gone, and so are its threads."""
        app = create_app([work, in_thread], **QUICK_END)
        api = Api(app)

        async def once() -> int:
            answers = await asyncio.gather(*(api.post("/start/work") for _ in range(3)))
            job = await api.job(answers[0].json["id"], wait=5)
            assert job["status"] == "succeeded"
            job = await api.job((await api.start("in_thread"))["id"], wait=5)
            assert job["result"].startswith("quart-app-job")
            return await api.count()

        assert asyncio.run(once()) == 4
        first = api.jobs.parts
        assert asyncio.run(once()) == 4
        assert api.jobs.parts is not first
        asyncio.run(once())
        assert api.jobs.parts is not None
        api.jobs.parts.abandon()

    async def test_a_second_event_loop_beside_the_first_is_refused(self) -> None:
        """Its asyncio tasks could not reach each other."""
        app = create_app([work], **QUICK_END)
        async with app.test_app():
            with pytest.raises(RuntimeError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, get_jobs(app).ready())

    async def test_only_one_service_is_opened_however_many_ask(self) -> None:
        """Also where the second comes while the first is opening it."""
        app = create_app([work], **QUICK_END)
        jobs = get_jobs(app)
        opened: list[int] = []
        inner = jobs._open

        async def slow() -> Any:
            opened.append(1)
            await asyncio.sleep(0.01)
            return await inner()

        jobs._open = slow  # type: ignore[method-assign]
        services = await asyncio.gather(*(jobs.ready() for _ in range(5)))
        assert (len(set(map(id, services))), len(opened)) == (1, 1)
        await jobs.close()

    async def test_before_the_start_there_is_nothing_to_close(self) -> None:
        """Every call of the shutdown is harmless then, and twice."""
        jobs = get_jobs(create_app([work]))
        jobs.begin_close()
        jobs.hurry()
        await jobs.close()
        jobs._on_signal()
        assert jobs.parts is None


class TestShutdown:
    async def test_what_jobs_use_is_still_open_while_they_drain(self) -> None:
        """after_serving and while_serving of the user's app end after the last job."""
        app = Quart("shop")
        app.config.update(QUART_APP_DRAIN=5, QUART_APP_GRACE=2)
        jobs = Jobs(app)
        story: list[str] = []
        release = asyncio.Event()

        @app.while_serving
        async def database() -> AsyncGenerator[None, None]:
            story.append("database open")
            yield
            story.append("database closed")

        @app.after_serving
        async def last() -> None:
            story.append("after serving")

        @jobs.task
        async def write() -> None:
            story.append("job began")
            await release.wait()
            story.append("job wrote")

        @jobs.task
        async def clean_up() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                story.append("cleaned up")

        async with app.test_app():
            await write.start()
            await clean_up.start()
            await wait_until(lambda: "job began" in story, "it runs")
            asyncio.get_running_loop().call_later(0.05, release.set)
            asyncio.get_running_loop().call_later(0.1, jobs.hurry)
        assert story == [
            "database open",
            "job began",
            "job wrote",
            "cleaned up",
            "database closed",
            "after serving",
        ]

    async def test_jobs_that_still_wait_are_canceled_with_the_reason(self, stage: Stage) -> None:
        """Nobody would ever run them: their records say shutdown."""
        app = create_app([stage.held], QUART_APP_MAX_RUNNING=1, **QUICK_END)
        ended: dict[str, Any] = {}
        async with app.test_app():
            api = Api(app)
            running, waiting = [(await api.start("held"))["id"] for _ in range(2)]
            api.service.hub.subscribe(lambda event: ended.update({event.job.id: event.job}))
        assert (ended[running].status, ended[running].reason) == ("failed", "shutdown")
        assert (ended[waiting].status, ended[waiting].reason) == ("canceled", "shutdown")
        problem(await api.get("/jobs"), 503, "store-unavailable")

    async def test_an_app_can_be_served_again(self) -> None:
        """After its shutdown, on the same loop: a new service, without the old jobs."""
        app = create_app([work], **QUICK_END)
        for _ in range(3):
            async with app.test_app():
                assert (await Api(app).get("/jobs")).json["jobs"] == []
                await Api(app).start("work")

    async def test_a_store_that_fails_at_the_end_keeps_nothing_open(
        self, stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What cannot be settled is logged; threads end, and the app's own shutdown is heard."""
        app = create_app([stage.held], **QUICK_END)
        heard: list[str] = []

        @app.after_serving
        async def last() -> None:
            heard.append("after serving")

        async def fail(*_: object) -> None:
            raise OSError("disk gone")

        async with app.test_app():
            api = Api(app)
            await api.start("held")
            monkeypatch.setattr(api.service.store, "page", fail)
        assert heard == ["after serving"]
        assert "could not settle every job" in caplog.text
        assert not [each for each in threading.enumerate() if each.name.startswith("quart-app-job")]

    @pytest.mark.slow
    async def test_every_waiting_request_is_answered_when_the_shutdown_begins(
        self, stage: Stage
    ) -> None:
        """Beside a plain Hypercorn: its signal is heard before its connections are gone."""
        app = create_app([stage.held], **QUICK_END)
        async with listening(app) as server, server.connect() as wire:
            lines = [b"POST /start/held HTTP/1.1", b"Host: x", b"Content-Length: 0"]
            await wire.send(*lines, b"Prefer: wait=20")
            await wait_until(lambda: stage.ran, "it runs")
            get_jobs(app)._on_signal()
            assert json.loads((await wire.reply()).body)["status"] == "running"


class TestSignals:
    """What a signal does beside the hypercorn command, without one being sent."""

    class Deadline:
        """Keeps what it is told instead of ending the process."""

        def __init__(self) -> None:
            self.told: list[tuple[float, int]] = []

        def within(self, seconds: float, status: int = hosting.FORCED) -> None:
            self.told.append((seconds, status))

        def cancel(self) -> None:
            self.told.clear()

    async def test_the_first_begins_and_the_second_hurries(self, stage: Stage) -> None:
        """Draining at once; the jobs are asked to stop only at the second."""
        app = create_app([stage.held], QUART_APP_DRAIN=30, QUART_APP_GRACE=2)
        jobs = get_jobs(app)
        deadline = self.Deadline()
        jobs._deadline = deadline  # type: ignore[assignment]
        context = app.test_app()
        await context.startup()
        config = Config()
        jobs._host = hosting.Host(config, is_command=True)
        api = Api(app)
        await api.start("held")
        await wait_until(lambda: stage.ran, "it runs")
        jobs._on_signal()
        await wait_until(lambda: api.service.draining, "the service drains")
        assert deadline.told == [(config.graceful_timeout + 30 + 2 + 1, hosting.FORCED)]
        jobs._on_signal()
        assert deadline.told[1:] == [(config.graceful_timeout + 2 + 1, hosting.FORCED)]
        async with asyncio.timeout(5):
            await context.shutdown()
        assert deadline.told == []

    async def test_what_did_not_stop_does_not_keep_the_command(self, stage: Stage) -> None:
        """The process leaves by itself with status 0: its work is done."""
        app = create_app([stage.deaf], QUART_APP_DRAIN=0, QUART_APP_GRACE=0)
        jobs = get_jobs(app)
        deadline = self.Deadline()
        jobs._deadline = deadline  # type: ignore[assignment]
        async with app.test_app():
            jobs._host = hosting.Host(Config(), is_command=True)
            job = await Api(app).start("deaf")
            await wait_until(lambda: stage.ran, "it runs")
        assert deadline.told == [(hosting.LEAVE, 0)]
        stage.end(job["id"])
        await asyncio.sleep(0)


class TestPackage:
    def test_app_is_a_real_attribute_of_the_package(self) -> None:
        """Hypercorn evaluates the name in the module's own names."""
        assert isinstance(vars(quart_app)["app"], Quart)
        assert get_jobs(quart_app.app).parts is None
        assert set(quart_app.__all__) == {
            *("Context", "Fail", "JobHandle", "Jobs", "Retry", "RetryAfter", "Secret"),
            *("app", "create_app", "task"),
        }
        for name in quart_app.__all__:
            assert name in vars(quart_app)

    @pytest.mark.slow
    def test_importing_the_package_from_a_module_of_tasks_builds_no_service(
        self, tmp_path: Path
    ) -> None:
        """No thread, no open file, no demo, no setting read, no event loop."""
        (tmp_path / "my_tasks.py").write_text(
            "from quart_app import task\n@task\nasync def mine() -> int:\n    return 1\n"
        )
        script = """
import os, sys, json, threading
before = set(os.listdir("/proc/self/fd"))
import my_tasks
import quart_app
print(json.dumps({
    "threads": threading.active_count(),
    "files": sorted(set(os.listdir("/proc/self/fd")) - before),
    "demo": [name for name in sys.modules if name.startswith("quart_app.demo")],
    "parts": quart_app.app.extensions["quart_app"].parts is None,
    "app": type(vars(quart_app)["app"]).__name__,
    "children": "multiprocessing.popen_spawn_posix" in sys.modules,
    "testing": [name for name in ("quart_app.testing", "pytest") if name in sys.modules],
}))
"""
        environ = {"PYTHONPATH": str(tmp_path), "PATH": "", "QUART_APP_DRAIN": "wrong, but unread"}
        command = [sys.executable, "-W", "error", "-c", script]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=30
        )
        assert done.stderr == ""
        assert json.loads(done.stdout) == {
            "threads": 1,
            "files": [],
            "demo": [],
            "parts": True,
            "app": "Quart",
            "children": False,
            "testing": [],
        }
        assert not list(tmp_path.glob("*.db*"))

    async def test_a_failed_job_raises_where_its_result_is_awaited(self) -> None:
        """The handle's way of saying 409."""

        @task
        async def broken() -> None:
            raise ValueError("no paper")

        app = create_app([broken], **QUICK_END)
        async with app.test_app():
            handle = await broken.start()
            with pytest.raises(JobFailed, match="no paper"):
                await handle.result(timeout=5)

    async def test_an_app_in_a_process_of_somebody_else_leaves_the_collector_alone(self) -> None:
        """Tests make many apps in one process: what they leave has to be collected."""
        before = gc.get_freeze_count()
        async with create_app([], **QUICK_END).test_app():
            # Some of what the tests have set aside may have ended meanwhile.
            assert gc.get_freeze_count() <= before
