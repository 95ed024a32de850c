"""The local engine keeps the rules of every engine."""

from quart_app.engines.local import LocalEngine
from quart_app.testing import check_engine


async def test_local_keeps_every_rule_of_an_engine() -> None:
    """`check_engine` holds."""
    await check_engine(lambda: LocalEngine({"loop": 2, "thread": 1, "process": 1}))
