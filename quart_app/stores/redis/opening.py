"""Whether a server will do, before anything is kept in it. Only looking may live here."""

from __future__ import annotations

import asyncio
import re

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from quart_app.domain.errors import StoreRefused
from quart_app.stores.redis.address import Address
from quart_app.stores.redis.health import Health, meaning
from quart_app.stores.redis.line import ANSWER

OLDEST = (6, 2)
VERSION = 1
"""Of the keys and what is in them; a server that has newer ones is left alone."""


async def examine(address: Address, health: Health) -> None:
    """Connect once and look.

    Raises:
        StoreRefused: it will not do, and what to do about it.
    """
    try:
        connection = await address.connect()
    except (RedisError, OSError) as error:
        raise StoreRefused(health.sentence(meaning(error))) from error
    try:
        async with asyncio.timeout(ANSWER):
            info = await _info(connection, "server") | await _info(connection, "memory")
    except (RedisError, OSError) as error:
        raise StoreRefused(health.sentence(meaning(error))) from error
    finally:
        await connection.disconnect(nowait=True)
    if (wrong := misnamed(info, address.mode) or unfit(info)) is not None:
        raise StoreRefused(health.sentence(wrong))


async def _info(connection: AbstractConnection, section: str) -> dict[str, str]:
    await connection.send_command("INFO", section)
    text = (await connection.read_response(disable_decoding=True)).decode(errors="replace")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def misnamed(info: dict[str, str], mode: str) -> str | None:
    """Why a URL of this kind is not the one of such a server, or None.

    >>> misnamed({"redis_mode": "standalone"}, "standalone")
    """
    is_one = info.get("redis_mode") or info.get("server_mode", mode)  # Valkey says the second.
    if is_one == mode:
        return None
    if is_one == "sentinel":
        return "is a Sentinel: the URL is redis+sentinel://HOST:PORT,HOST:PORT/NAME-OF-THE-MASTER"
    return "is a node of a cluster: the URL is redis+cluster://HOST:PORT"


def unfit(info: dict[str, str]) -> str | None:
    """Why a server cannot be used, or None.

    >>> unfit({"redis_version": "6.0.16"})
    'is Redis 6.0.16, and 6.2 is needed, or Valkey'
    """
    version = info.get("redis_version", "")
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        return f"is Redis {version}, and 6.2 is needed, or Valkey"
    limit, policy = info.get("maxmemory", "0"), info.get("maxmemory_policy", "noeviction")
    if limit != "0" and policy != "noeviction":
        return (
            f"would drop jobs when its memory is full (maxmemory-policy is {policy}):"
            " set it to noeviction"
        )
    return None


def strange(version: str) -> str | None:
    """Why what a namespace has cannot be used, or None.

    >>> strange("1")
    """
    if version == str(VERSION):
        return None
    if version.isdecimal():
        return (
            f"has jobs of a newer version of quart-app (their keys are of version {version}, this"
            f" one knows {VERSION}): run the newer one, or use another namespace"
        )
    return "has other things under this namespace: use another one"
