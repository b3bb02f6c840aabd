"""Brokers reduced to their links, on free ports of this machine, for the tests beside this file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from lograft.node.config import PeerSection
from lograft.node.peer.handshake import PeerIdentity
from lograft.node.peer.links import PeerLinks
from lograft.node.peer.protocol import SPOKEN, ProtocolRange
from lograft.node.peer.session import PeerSession
from lograft.proto.errors import InvalidRequest
from lograft.proto.peer_frames import FrameType

SECRET = "correct horse battery staple"
PATIENCE_S = 5.0
QUICK = PeerSection(heartbeat_interval_ms=20, silence_ms_max=4000, reconnect_ms_min=10, reconnect_ms_max=60)


def an_identity(broker_id: int, **changes: Any) -> PeerIdentity:
    facts = {"cluster_id": None, "directory_id": f"{broker_id:032x}", "start_number": 1, "version": "0.1.0"} | changes
    return PeerIdentity(broker_id=broker_id, **facts)


class Broker:
    """One side, and all that its links told it."""

    def __init__(
        self,
        broker_id: int,
        *,
        secret: str = SECRET,
        config: PeerSection = QUICK,
        spoken: ProtocolRange = SPOKEN,
        **identity: Any,
    ) -> None:
        self.up: list[PeerSession] = []
        self.down: list[tuple[int, str]] = []
        self.frames: list[tuple[int, FrameType, bytes]] = []
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.ends: list[str] = []
        self.refuse_frames_with: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._changed = asyncio.Event()
        self.links = PeerLinks(
            an_identity(broker_id, **identity),
            secret,
            self,
            config,
            log=self._log,
            chance=Random(broker_id),
            spoken=spoken,
        )

    @property
    def broker_id(self) -> int:
        return self.links.identity.broker_id

    @property
    def address(self) -> str:
        return self.links.listen_address

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something that this broker was told makes `condition` true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def complaints(self) -> list[str]:
        return [str(facts["why"]) for event, facts in self.logged if "why" in facts and event != "peer.session_down"]

    # PeerHandlers

    def session_up(self, session: PeerSession) -> None:
        self.up.append(session)
        self._changed.set()

    def session_down(self, broker_id: int, why: str) -> None:
        self.down.append((broker_id, why))
        self._changed.set()

    def frame(self, broker_id: int, frame_type: FrameType, body: memoryview) -> None:
        if self.refuse_frames_with is not None:
            raise self.refuse_frames_with
        self.frames.append((broker_id, frame_type, bytes(body)))
        self._changed.set()

    async def call(self, broker_id: int, method: str, body: bytes) -> bytes:
        await self.may_answer.wait()
        if method == "refuse":
            raise InvalidRequest("not like this", limit=7)
        if method == "break":
            raise ZeroDivisionError("a mistake of ours")
        return f"{broker_id} {method} ".encode() + body

    def superseded(self, why: str) -> None:
        self.ends.append(why)
        self._changed.set()

    def _log(self, event: str, **facts: Any) -> None:
        self.logged.append((event, facts))
        self._changed.set()


class Brokers:
    """Starts brokers, and stops them all at the end."""

    def __init__(self) -> None:
        self._all: list[Broker] = []

    async def start(self, broker_id: int, **how: Any) -> Broker:
        broker = Broker(broker_id, **how)
        await broker.links.start("127.0.0.1:0")
        self._all.append(broker)
        return broker

    async def pair(self) -> tuple[Broker, Broker]:
        """Brokers 1 and 2 in session."""
        first, second = await self.start(1), await self.start(2)
        second.links.know(1, first.address)
        await first.until(lambda: first.up)
        await second.until(lambda: second.up)
        return first, second

    async def __aenter__(self) -> Brokers:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for broker in self._all:
            await broker.links.stop()
