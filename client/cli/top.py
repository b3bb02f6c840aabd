"""`lograft top`: the cluster at a glance, again and again.

Always
    one look under way at a time, each question with a deadline: a cluster in trouble is when this is looked at
    the terminal is left as it was found, however this ends
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...proto.errors import LograftError
from ..client import Client
from .broker_http import Samples, Unanswered, get, parsed
from .endings import one_line
from .tables import OutputFormat, show, show_json
from .top_frame import Frame, GroupLag, Look, Order, lines, tells_groups

if TYPE_CHECKING:
    from ..admin import ClusterDescription, TopicDescription

_ASK_TIMEOUT_S = 5.0
_TOPICS_EVERY_S = 10.0
_GROUPS_ASKED_MAX = 20
_ONCE_BETWEEN_LOOKS_S = 1.0
_HINT = "s sort  p pause  q quit"


@dataclass(frozen=True, slots=True)
class TopOrder:
    """What the user asked for."""

    interval_s: float
    sort: Order
    once: bool
    output: OutputFormat


class _Watcher:
    """Looks at a cluster. What changes seldom, and costs most to tell, is asked for less often."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._topics: list[TopicDescription] = []
        self._topics_at_s = float("-inf")
        self._described: ClusterDescription | None = None

    async def look(self) -> Look:
        unanswered = ""
        cluster: ClusterDescription | None = None
        try:
            cluster = self._described = await self._client.admin.describe_cluster()
        except LograftError as error:
            unanswered = one_line(str(error))
        at_s = time.monotonic()
        metrics = await self._metrics()
        if cluster is not None and at_s - self._topics_at_s >= _TOPICS_EVERY_S:
            with contextlib.suppress(LograftError):
                self._topics = await self._client.admin.list_topics()
                self._topics_at_s = at_s
        lags = None if cluster is None or tells_groups(metrics) else await self._lags()
        return Look(at_s, cluster, unanswered, self._described, metrics, self._topics, lags)

    async def _metrics(self) -> Mapping[int, Samples]:
        """Of all brokers at once, also where the cluster itself has no answer, by what was known of it before."""
        known = self._described.brokers if self._described else ()
        asked = {one.broker_id: one.http_address for one in known if one.http_address and not one.removed}

        async def of(address: str) -> Samples | None:
            try:
                return parsed((await get(address, "/metrics")).decode("utf-8", "replace")) or None
            except Unanswered:
                return None

        answers = await asyncio.gather(*map(of, asked.values()))
        return {number: told for number, told in zip(asked, answers, strict=True) if told is not None}

    async def _lags(self) -> list[GroupLag]:
        """Asked of the coordinators, where brokers of an older version do not tell it in their metrics."""
        lags = []
        with contextlib.suppress(LograftError):
            for listed in (await self._client.groups.list())[:_GROUPS_ASKED_MAX]:
                described = await self._client.groups.describe(listed.group)
                for topic in sorted({one.partition.topic for one in described.partitions}):
                    of_it = [one for one in described.partitions if one.partition.topic == topic]
                    records = float(sum(one.lag_records or 0 for one in of_it if one.stored_offset is not None))
                    seconds = max((one.lag_seconds or 0.0 for one in of_it if one.stored_offset is not None), default=0)
                    lags.append(GroupLag(listed.group, topic, len(described.members), records, seconds))
        return lags


async def watch(addresses: list[str], order: TopOrder) -> None:
    """Show frames until the user has seen enough; one, if asked for that."""
    async with Client(addresses, client_id="lograft-top", timeout=_ASK_TIMEOUT_S) as client:
        watcher = _Watcher(client)
        if order.once:
            await _show_once(watcher, order)
        else:
            await _show_live(watcher, order)


async def _show_once(watcher: _Watcher, order: TopOrder) -> None:
    first = await watcher.look()
    await asyncio.sleep(_ONCE_BETWEEN_LOOKS_S)
    frame = Frame.of(first, await watcher.look(), order.sort)
    if order.output is OutputFormat.json:
        show_json(frame.as_json())
        return
    import shutil

    width = shutil.get_terminal_size().columns
    for line in lines(frame, width=width, height=None, clock=time.strftime("%H:%M:%S"), hint=""):
        show(line.text)


async def _show_live(watcher: _Watcher, order: TopOrder) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    sort, paused = order.sort, False
    before: Look | None = None
    now = await watcher.look()

    def painted() -> Text:
        told = lines(
            Frame.of(before, now, sort),
            width=console.width,
            height=console.height,
            clock=time.strftime("%H:%M:%S", time.localtime(time.time() - (time.monotonic() - now.at_s))),
            hint=f"by {sort.value}{', paused' if paused else ''}  {_HINT}",
        )
        return Text("\n", no_wrap=True, overflow="crop").join(Text(line.text, style=line.style) for line in told)

    async with _keys() as keys:
        with Live(painted(), console=console, screen=True, auto_refresh=False) as live:
            looking: asyncio.Task[Look] | None = None
            due_s = time.monotonic() + min(order.interval_s, 1.0)  # the second look brings the rates
            while True:
                if looking is None and not paused and time.monotonic() >= due_s:
                    looking = asyncio.create_task(watcher.look())
                key = await _next(keys, looking, None if looking or paused else due_s - time.monotonic())
                if looking is not None and looking.done():
                    before, now = now, looking.result()
                    looking, due_s = None, time.monotonic() + order.interval_s
                if key in ("q", "Q", "\x03", "\x1b"):
                    if looking is not None:
                        looking.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await looking
                    return
                if key in ("s", "S"):
                    known = list(Order)
                    sort = known[(known.index(sort) + 1) % len(known)]
                elif key in ("p", "P", " "):
                    paused = not paused
                live.update(painted(), refresh=True)


async def _next(keys: asyncio.Queue[str], looking: asyncio.Task[Look] | None, within_s: float | None) -> str | None:
    """The next key; None once the look is done, or the time is over."""
    pressed = asyncio.create_task(keys.get())
    waited = [pressed, *([looking] if looking is not None else [])]
    timeout_s = None if within_s is None else max(within_s, 0.0)
    await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if pressed.done():
        return pressed.result()
    pressed.cancel()
    return None


@asynccontextmanager
async def _keys() -> AsyncIterator[asyncio.Queue[str]]:
    """Keys as they are pressed, without Enter and without being shown. None come where nobody is at a keyboard."""
    keys: asyncio.Queue[str] = asyncio.Queue()
    if not sys.stdin.isatty():
        yield keys
        return
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()

    def read() -> None:
        import os

        pressed = os.read(descriptor, 64)
        if not pressed:
            loop.remove_reader(descriptor)
            keys.put_nowait("q")  # the terminal is gone
        elif not pressed.startswith(b"\x1b["):  # no arrows and the like, whose first byte would mean Escape
            for key in pressed.decode("ascii", "ignore"):
                keys.put_nowait(key)

    with _raw(descriptor):
        loop.add_reader(descriptor, read)
        try:
            yield keys
        finally:
            loop.remove_reader(descriptor)


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
