"""What a shell completes from the cluster: names of topics and groups, and of profiles.

Always
    a short time-out, and silence about whatever fails: the person at the keyboard is in the middle of a word
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..client import Client

TIMEOUT_S = 1.5


def complete_topic(ctx: typer.Context, incomplete: str) -> list[str]:
    async def names(client: Client) -> Iterable[str]:
        return [topic.name for topic in await client.admin.list_topics()]

    return _asked(ctx, incomplete, names)


def complete_group(ctx: typer.Context, incomplete: str) -> list[str]:
    async def names(client: Client) -> Iterable[str]:
        return [listed.group for listed in await client.groups.list()]

    return _asked(ctx, incomplete, names)


def complete_profile(incomplete: str) -> list[str]:
    from .endings import Refused
    from .profiles import Profiles

    with contextlib.suppress(Refused, OSError):
        return sorted(name for name in Profiles.load().by_name if name.startswith(incomplete))
    return []


def _asked(ctx: typer.Context, incomplete: str, names: Callable[[Client], Awaitable[Iterable[str]]]) -> list[str]:
    import asyncio
    import logging

    from ...proto.errors import LograftError
    from ..client import Client
    from .endings import Refused
    from .local_cluster import client_addresses

    async def ask() -> list[str]:
        addresses = client_addresses(ctx.params.get("brokers"))
        async with Client(addresses, client_id="lograft-completion", timeout=TIMEOUT_S) as client:
            return sorted(name for name in await names(client) if name.startswith(incomplete))

    logging.disable()
    with contextlib.suppress(Refused, LograftError, OSError, TimeoutError):
        return asyncio.run(asyncio.wait_for(ask(), TIMEOUT_S))
    return []
