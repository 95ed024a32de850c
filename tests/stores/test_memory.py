"""The memory store keeps the rules of every store."""

from quart_app.stores.memory import MemoryStore
from quart_app.testing import check_store


async def test_memory_keeps_every_rule_of_a_store() -> None:
    """`check_store` holds."""
    await check_store(MemoryStore)
