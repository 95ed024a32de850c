"""For tests, of users and of the package: jobs under test, virtual time, conformance.

``TestJobs`` opens an app and tells what it has started; ``VirtualTimeLoop`` lets two hours pass in
milliseconds; ``check_store``, ``check_shared_store`` and ``check_engine`` hold every `Store` and
`Engine` to the rules of `quart_app.core.ports`. Nothing of the running package may import this one.

>>> import asyncio
>>> async def two_hours():
...     await asyncio.sleep(7200)
...     return asyncio.get_running_loop().time()
>>> virtual_run(two_hours())
7200.0
"""

from quart_app.testing.conformance import check_engine, check_shared_store, check_store
from quart_app.testing.jobs import TestJobs
from quart_app.testing.virtual import VirtualTimeLoop, virtual_run, wait_until

__all__ = [
    "TestJobs",
    "VirtualTimeLoop",
    "check_engine",
    "check_shared_store",
    "check_store",
    "virtual_run",
    "wait_until",
]
