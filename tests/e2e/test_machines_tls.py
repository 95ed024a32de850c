"""Web process and worker whose server takes nobody who comes in clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.machines import Machines
from tests.servers import Certificate, PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.parametrize("kind", [RedisServer, PostgresServer])
def test_jobs_run_over_tls(
    kind: type[RedisServer | PostgresServer], namespace: str, tmp_path: Path
) -> None:
    """Store and engine alike trust the authority that the address names."""
    server = kind(Certificate(tmp_path))
    machines = Machines(server.url, namespace)
    try:
        web = machines.web()
        worker = machines.worker()
        job_id = web.start("once", traces=str(tmp_path / "traces"))
        job = web.until(job_id, "succeeded")
        workers = web.get("/workers").json()["workers"]
        [runs] = [each for each in workers if each["kind"] == "worker"]
        assert job["worker"] == runs["id"]
        assert runs["pid"] == worker.process.pid
    finally:
        machines.stop()
        server.close()
