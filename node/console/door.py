"""What the HTTP door knows of the console: which requests are its, and that it is made when the first one comes.

Invariants
    nothing of it is imported, connected or kept before the first request for it
    imports happen in a thread: they take longer than the loop may stand still
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..config import BrokerConfig, host_and_port
from ..role_changes import ToldChanges

if TYPE_CHECKING:
    from .app import ConsoleApp

STOP_S_MAX = 2.0
METHODS = (b"GET", b"HEAD", b"POST")


class ConsoleDoor:
    """Serves the console of one broker.

    `role_changes()` tells of elections, `unready()` why this broker does not serve yet, or None.
    """

    def __init__(
        self,
        config: BrokerConfig,
        role_changes: Callable[[], Awaitable[ToldChanges]],
        unready: Callable[[], str | None],
    ) -> None:
        self._config = config
        self._role_changes = role_changes
        self._unready = unready
        self._making: asyncio.Task[ConsoleApp] | None = None
        self._stopped = False

    @property
    def is_enabled(self) -> bool:
        wanted = self._config.console.enabled
        return wanted == "yes" or (wanted == "auto" and is_loopback(self._config.listen.http))

    @property
    def is_read_only(self) -> bool:
        wanted = self._config.console.read_only
        return wanted == "yes" or (wanted == "auto" and not is_loopback(self._config.listen.http))

    def takes(self, method: bytes, path: bytes) -> bool:
        """Is this request the console's? Paths are compared as they are, before anything in them is decoded."""
        where = path.partition(b"?")[0]
        return method in METHODS and (where in (b"/", b"/console") or where.startswith(b"/console/"))

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request that begins with `head`."""
        if self._stopped:
            return
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        try:
            app = await asyncio.shield(self._making)
        except asyncio.CancelledError:
            raise
        except Exception:
            self._making = None  # the next one tries again
            raise
        await app.serve(head, reader, writer)

    async def _make(self) -> ConsoleApp:
        module = await asyncio.to_thread(importlib.import_module, f"{__package__}.app")
        app: ConsoleApp = module.ConsoleApp(self._config, self.is_read_only, self._role_changes, self._unready)
        return app

    async def stop(self) -> None:
        """End what is under way."""
        self._stopped = True
        if self._making is not None:
            try:
                app = await self._making
            except Exception:
                return
            # What is not closed by then closes with the process: a stop waits for nobody's console.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S_MAX):
                    await app.stop()


def is_loopback(address: str) -> bool:
    """Does only this machine reach `host:port`?"""
    host, _ = host_and_port(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
