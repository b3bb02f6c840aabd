"""Connections between hosts, as TCP gives them: in order and whole, but late, held up by cuts, or lost altogether.

Invariants
    within a living wire nothing is lost, doubled or overtaken; what a cut holds up arrives in order once it is mended
    nothing arrives at an end after it was told that the wire is lost, or after it was closed there
    each end hears at most once that its wire is lost; never after its own `close` or `reset`
    what an end is told runs in the context in which that end was made: of the process that owns it, and of no other
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

HERE: ContextVar[str] = ContextVar("host")
"""The host on which the running code runs; who starts a process sets it in the process's context."""

CONNECT_SECONDS_MAX = 130.0
"""How long TCP goes on knocking where nothing answers, not even a refusal."""
_EPHEMERAL_PORTS = range(32_768, 61_000)


@dataclass(slots=True)
class Weather:
    """How wires treat what is sent."""

    delay_ms: tuple[float, float] = (0.1, 1.0)
    late_chance: float = 0.01
    """Of a parcel to be late: what was sent behind it on its wire waits too."""
    late_ms: tuple[float, float] = (20.0, 400.0)
    reset_chance: float = 0.0
    """Of a parcel to break its wire instead of arriving."""
    bytes_per_ms: float = 1e6
    """What fits through one direction of one wire."""
    resend_ms: tuple[float, float] = (1.0, 300.0)
    """After a cut is mended, until TCP tries again."""


FAIR = Weather(late_chance=0.0)
"""Weather in which progress is demanded."""


class _Way(NamedTuple):
    sender: str
    receiver: str


class _Parcel(NamedTuple):
    arrival: float
    size: int
    arrive: Callable[[], None]


def _nothing() -> None:
    pass


def _nothing_because(why: str) -> None:
    pass


class End:
    """One end of a wire. Set `on_closed` and `on_lost` as soon as you get it, before anything is awaited.

    `send` gives the other end a parcel: `deliver` is called there, in that end's context.
    """

    def __init__(self, wire: Wire, host: str, address: str, context: Context) -> None:
        self.wire = wire
        self.host = host
        self.address = address
        """Of this end, host:port."""
        self.context = context
        self.is_open = True
        """Neither closed or reset here, nor lost. The other side may have closed."""
        self.on_closed: Callable[[], None] = _nothing
        """The other side closed, and all that it sent before has been delivered."""
        self.on_lost: Callable[[str], None] = _nothing_because
        """The wire broke; the argument says why."""
        self.other: End
        self.user: Any = None
        """Whoever uses this end: so that a parcel finds it there."""
        self._row: _Row  # what this end sends
        self._early: deque[Callable[[], None]] | None = None
        self._is_deaf = False
        """It is told nothing any more."""
        self._is_gone = False
        self._is_rejecting = False

    def __repr__(self) -> str:
        return f"<{self.address} to {self.other.address}{'' if self.is_open else ', ended'}>"

    @property
    def under_way_bytes(self) -> int:
        """Sent here, and not yet arrived."""
        return self._row.bytes

    @property
    def unacknowledged_since(self) -> float | None:
        """Since when (the loop's clock) something that was sent here has had no acknowledgement; None: all has, or will
        have in a moment."""
        return self._row.unacknowledged_since()

    def send(self, size: int, deliver: Callable[[], None]) -> None:
        """Send a parcel of `size` bytes. Into a wire that has ended it goes unheard, as into a socket."""
        if self.is_open:
            self._row.add(size, lambda: self.other._take(deliver))

    def close(self) -> None:
        """End it after what was sent. Nothing arrives here any more; the other side is told by `on_closed`."""
        self._is_deaf = True
        if not self.is_open:
            return
        self.is_open = False
        self._row.add(0, self.other._hear_of_close)
        self.wire._end_if_over()

    def reset(self, why: str = "connection reset by peer") -> None:
        """End it at once. Some of what is under way may still arrive; then the other side is told by `on_lost`."""
        self._is_deaf = True
        if not self.is_open:
            return
        self.is_open = False
        self._row.cut_short()
        self._row.add(0, lambda: self.other._lose(why))
        self.wire._end_if_over()

    def abandon(self) -> None:
        """Give it up without a word, as TCP does when nothing is acknowledged. What still comes gets a reset."""
        self._is_deaf = True
        self.is_open = False
        self._row.clear()
        self.wire._end_if_over()

    # What the rows and the wires do

    def _hold_early(self) -> None:
        """Keep what arrives until whoever waits for this end has got it."""
        self._early = deque()

    def _opened(self) -> None:
        self.wire.wires._soon(self.context, self._flush_early)

    def _flush_early(self) -> None:
        early, self._early = self._early, None
        for tell in early or ():
            self._told(tell)

    def _tell(self, tell: Callable[[], None]) -> None:
        self.wire.wires._soon(self.context, self._told, tell)

    def _told(self, tell: Callable[[], None]) -> None:
        if self._early is not None:
            self._early.append(tell)
        elif not self._is_deaf:
            tell()

    def _take(self, deliver: Callable[[], None]) -> None:
        if self.is_open:
            self._tell(deliver)
        else:
            self._reject()

    def _hear_of_close(self) -> None:
        if self.is_open:
            self._tell(lambda: self.on_closed())

    def _reject(self) -> None:
        """Something came for an end that is no more: its kernel says so, unless the whole machine is gone."""
        if self._is_gone and self.host in self.wire.wires._down:
            self.wire.wires._ghosts[self] = None
            return
        if not self._is_rejecting:
            self._is_rejecting = True
            self._row.add(0, lambda: self.other._lose("connection reset by peer"))

    def _lose(self, why: str) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self._row.clear()
        self.other._row.clear()
        self._tell(lambda: self._hear_of_loss(why))
        self.wire._end_if_over()

    def _hear_of_loss(self, why: str) -> None:
        self._is_deaf = True
        self.on_lost(why)

    def _vanish(self) -> None:
        """This end's machine is gone, without a word."""
        self.is_open = False
        self._is_deaf = True
        self._is_gone = True
        self._row.clear()


class _Row:
    """What is under way from one end of a wire to the other, in order."""

    def __init__(self, wires: Wires, way: _Way, wire: Wire) -> None:
        self.bytes = 0
        self._wires = wires
        self._way = way
        self._wire = wire
        self._parcels: deque[_Parcel] = deque()
        self._last_arrival = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_held = False
        self._unheard_since: float | None = None  # an acknowledgement could not come back

    def unacknowledged_since(self) -> float | None:
        if self._is_held and self._parcels:
            return self._parcels[0].arrival
        if not self._wires.is_cut(self._way.receiver, self._way.sender):
            self._unheard_since = None
        return self._unheard_since

    def add(self, size: int, arrive: Callable[[], None]) -> None:
        wires = self._wires
        arrival = max(wires.loop.time() + wires._delay(), self._last_arrival) + size / wires.weather.bytes_per_ms / 1e3
        if wires.weather.reset_chance and size and wires.random.random() < wires.weather.reset_chance:
            arrive = self._break
        self._last_arrival = arrival
        self._parcels.append(_Parcel(arrival, size, arrive))
        self.bytes += size
        if len(self._parcels) == 1 and not self._is_held:
            self._timer = wires._at(arrival, self.move)

    def clear(self) -> None:
        self._parcels.clear()
        self.bytes = 0
        self._last_arrival = self._wires.loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cut_short(self) -> None:
        """Forget some of the last parcels, drawn by chance."""
        if self._parcels:
            for _ in range(self._wires.random.randint(0, len(self._parcels))):
                self.bytes -= self._parcels.pop().size
            if not self._parcels:
                self.clear()

    def move(self) -> None:
        """Let arrive what is due, unless the way is cut."""
        self._timer = None
        self._is_held = False
        now = self._wires.loop.time()
        while self._parcels:
            if self._parcels[0].arrival > now + 1e-9:
                self._timer = self._wires._at(self._parcels[0].arrival, self.move)
                return
            if self._wires.is_cut(*self._way):
                self._is_held = True
                self._wires._when_mended(self._way, self.move)
                return
            parcel = self._parcels.popleft()
            self.bytes -= parcel.size
            self._wires.delivered += 1
            if not self._wires.is_cut(self._way.receiver, self._way.sender):
                self._unheard_since = None
            elif self._unheard_since is None:
                self._unheard_since = now
            parcel.arrive()

    def _break(self) -> None:
        self._wire.reset("connection reset by chance")


class Wire:
    """One connection between two hosts."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self.ends: tuple[End, End]

    def reset(self, why: str) -> None:
        """Break it from outside: both ends are told at once, what was under way is gone."""
        self.wires.resets += 1
        self.wires.note("wire reset", f"{self.ends[0].address} {self.ends[1].address} {why}")
        for end in self.ends:
            end._lose(why)

    def reset_at(self, end: End, why: str) -> None:
        """Only this end is told; the other learns of it once it sends something."""
        self.wires.resets += 1
        self.wires.note("wire reset at one end", f"{end.address} {end.other.address} {why}")
        end._lose(why)

    def _end_if_over(self) -> None:
        if not any(end.is_open for end in self.ends):
            self.wires._living.pop(self, None)


class _Listener(NamedTuple):
    host: str
    on_connection: Callable[[End], None]
    context: Context


class Wires:
    """All hosts and what leads between them. A host is a name; it needs no more than to be used.

    `note(kind, what)` is told what the simulation does to the wires, for its trace.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        random: Random,
        weather: Weather | None = None,
        *,
        note: Callable[[str, str], None] = lambda kind, what: None,
    ) -> None:
        self.loop = loop
        self.random = random
        self.weather = weather or Weather()
        self.delivered = 0
        """Parcels that arrived."""
        self.opened = 0
        self.resets = 0
        self.note = note
        self._context = Context()  # the network's own: it belongs to no process
        self._living: dict[Wire, None] = {}
        self._listeners: dict[str, _Listener] = {}
        self._homes: dict[str, str] = {}
        self._incarnations: dict[str, int] = {}
        self._ports: dict[str, int] = {}
        self._cut: dict[_Way, None] = {}
        self._waiting: dict[_Way, list[Callable[[], None]]] = {}
        self._down: dict[str, None] = {}
        self._ghosts: dict[End, None] = {}

    # For the processes

    def listen(self, host: str, address: str, on_connection: Callable[[End], None]) -> None:
        """Take connections to `address`. `on_connection` is called in the context of this call.

        Raises
            OSError  somebody listens there (EADDRINUSE)
        """
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self._boot(host)
        self._listeners[address] = _Listener(host, on_connection, copy_context())
        self._homes[address] = host

    def stop_listening(self, address: str) -> None:
        """Connections that were made stay."""
        self._listeners.pop(address, None)

    def is_listening(self, address: str) -> bool:
        return address in self._listeners

    def free_address(self, host: str, name: str | None = None) -> str:
        """An address that nobody has, for who listens at port 0 or connects. `name` stands before the colon."""
        at = self._ports.get(host, 0)
        self._ports[host] = at + 1
        return f"{name or host}:{_EPHEMERAL_PORTS[at % len(_EPHEMERAL_PORTS)]}"

    async def connect(self, host: str, address: str) -> End:
        """Connect from `host`. Waits while the way there or back is cut.

        Raises
            ConnectionRefusedError  nobody listens there
            TimeoutError            no answer at all within CONNECT_SECONDS_MAX
        """
        self._boot(host)
        knock = _Knock(self, host, address)
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                end = await knock.answer
        except TimeoutError:
            knock.give_up()
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out") from None
        except BaseException:
            knock.give_up()
            raise
        end._opened()
        return end

    # For the simulation

    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing through in this direction: it waits."""
        self._cut[_Way(sender, receiver)] = None

    def mend(self, sender: str, receiver: str) -> None:
        way = _Way(sender, receiver)
        self._cut.pop(way, None)
        for move in self._waiting.pop(way, ()):
            self._at(self.loop.time() + self.random.uniform(*self.weather.resend_ms) / 1000, move)

    def mend_all(self) -> None:
        for way in list(self._cut):
            self.mend(*way)

    def is_cut(self, sender: str, receiver: str) -> bool:
        return bool(self._cut) and _Way(sender, receiver) in self._cut

    def between(self, one: str, other: str) -> list[Wire]:
        """The living wires between two hosts."""
        return [wire for wire in self._living if {one, other} == {end.host for end in wire.ends}]

    def break_between(self, one: str, other: str) -> None:
        """Reset all wires between two hosts; both sides are told."""
        for wire in self.between(one, other):
            wire.reset("connection reset between the hosts")

    def break_half(self, host: str, other: str) -> None:
        """Reset all wires between two hosts as `host` sees it; `other` learns of it once it sends something."""
        for wire in self.between(host, other):
            for end in wire.ends:
                if end.host == host:
                    wire.reset_at(end, "connection reset at one end")

    def reset_all(self, host: str, *, silently: bool = False) -> None:
        """All processes of `host` died: nobody listens there any more, and its wires end.

        Its kernel tells the other sides; `silently`, with the machine itself gone, nothing does until it is up again
        and something comes for a connection that it does not know (or until it never was: keepalive).
        """
        self._incarnations[host] = self._incarnations.get(host, 0) + 1
        for address in [address for address, listener in self._listeners.items() if listener.host == host]:
            del self._listeners[address]
        if silently:
            self._down[host] = None
        for wire in list(self._living):
            for end in wire.ends:
                if end.host == host and end.is_open:
                    if silently:
                        end._vanish()
                    else:
                        end.reset()
            wire._end_if_over()

    # For the parts

    def _boot(self, host: str) -> None:
        """The host is up: to what its machine forgot it answers by a reset."""
        if host not in self._down:
            return
        del self._down[host]
        for end in [ghost for ghost in self._ghosts if ghost.host == host]:
            del self._ghosts[end]
            self._at(self.loop.time() + self.random.uniform(*self.weather.resend_ms) / 1000, end._reject)

    def _delay(self) -> float:
        """Seconds on the way, drawn."""
        random, weather = self.random, self.weather
        span = weather.late_ms if random.random() < weather.late_chance else weather.delay_ms
        return random.uniform(*span) / 1000

    def _at(self, time: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_at(time, callback, context=self._context)

    def _soon(self, context: Context, callback: Callable[..., None], *args: object) -> None:
        self.loop.call_soon(callback, *args, context=context)

    def _when_mended(self, way: _Way, move: Callable[[], None]) -> None:
        self._waiting.setdefault(way, []).append(move)

    def _go(self, way: _Way, arrive: Callable[[], None]) -> None:
        """Carry something that belongs to no wire yet."""

        def move() -> None:
            if self.is_cut(*way):
                self._when_mended(way, move)
            else:
                arrive()

        self._at(self.loop.time() + self._delay(), move)

    def _join(self, caller: str, address: str, listener: _Listener, context: Context) -> tuple[End, End]:
        wire = Wire(self)
        near = End(wire, caller, self.free_address(caller), context)
        far = End(wire, listener.host, address, listener.context)
        near.other, far.other = far, near
        near._row = _Row(self, _Way(caller, listener.host), wire)
        far._row = _Row(self, _Way(listener.host, caller), wire)
        wire.ends = (near, far)
        self._living[wire] = None
        self.opened += 1
        return near, far


class _Knock:
    """One attempt to connect: out, and back with an answer."""

    def __init__(self, wires: Wires, host: str, address: str) -> None:
        self.answer: asyncio.Future[End] = wires.loop.create_future()
        self._wires = wires
        self._host = host
        self._address = address
        self._context = copy_context()
        self._incarnation = wires._incarnations.get(host, 0)
        self._end: End | None = None
        self._is_given_up = False
        wires._go(_Way(host, self._home), self._arrive)

    @property
    def _home(self) -> str:
        return self._wires._homes.get(self._address, "")

    def give_up(self) -> None:
        self._is_given_up = True
        if self._end is not None:
            self._end.reset()

    def _arrive(self) -> None:
        wires = self._wires
        if self._is_given_up or self._incarnation != wires._incarnations.get(self._host, 0):
            return
        listener = wires._listeners.get(self._address)
        if listener is None:
            wires.note("refused", f"{self._host} {self._address}")
            if self._home not in wires._down:
                wires._go(_Way(self._home, self._host), lambda: wires._soon(self._context, self._refused))
            return
        self._end, far = wires._join(self._host, self._address, listener, self._context)
        self._end._hold_early()
        far._row.add(0, lambda: wires._soon(self._context, self._answered))
        wires._soon(listener.context, listener.on_connection, far)

    def _answered(self) -> None:
        if not self.answer.done() and self._end is not None:
            self.answer.set_result(self._end)

    def _refused(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))
