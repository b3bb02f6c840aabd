"""The network between the brokers: late, lossy, and cut wherever the simulation cuts it.

Invariants
    what is sent belongs to the incarnations of sender and receiver at that moment; it is dropped if either restarts
    nothing that was sent before a reset of a link arrives after it
    what travels is bytes, as they were when they were sent
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from lograft.proto.peer_frames import FrameType

from tests.simulation.virtual_loop import VirtualLoop


class Host(Protocol):
    """One incarnation of a broker, as the network sees it."""

    broker_id: int

    @property
    def is_alive(self) -> bool: ...
    def arrive(self, sender_id: int, letter: Letter) -> None: ...


class Letter(NamedTuple):
    """One frame between two brokers."""

    frame_type: FrameType
    body: bytes


@dataclass(slots=True)
class Weather:
    """How the network treats what is sent."""

    delay_ms: tuple[float, float] = (0.1, 1.0)
    late_chance: float = 0.01
    late_ms: tuple[float, float] = (20.0, 400.0)
    drop_chance: float = 0.0
    double_chance: float = 0.0
    in_order: bool = True
    """As one TCP connection does; else what is sent later may arrive earlier."""


FAIR = Weather(late_chance=0.0)
"""Weather in which progress is demanded."""


class _Link(NamedTuple):
    sender_id: int
    receiver_id: int


class Network:
    """Carries letters between hosts."""

    def __init__(self, *, loop: VirtualLoop, random: Random, weather: Weather) -> None:
        self.weather = weather
        self.delivered = 0
        self.dropped = 0
        self._loop = loop
        self._random = random
        self._hosts: dict[int, Host] = {}
        self._cut: set[_Link] = set()
        self._resets: dict[_Link, int] = {}
        self._last_arrival: dict[_Link, float] = {}

    def connect(self, host: Host) -> None:
        """`host` is the present incarnation of its broker from now on."""
        self._hosts[host.broker_id] = host

    def host(self, broker_id: int) -> Host | None:
        host = self._hosts.get(broker_id)
        return host if host is not None and host.is_alive else None

    def cut(self, sender_id: int, receiver_id: int) -> None:
        """Let nothing through in this direction."""
        self._cut.add(_Link(sender_id, receiver_id))

    def mend(self, sender_id: int, receiver_id: int) -> None:
        self._cut.discard(_Link(sender_id, receiver_id))

    def mend_all(self) -> None:
        self._cut.clear()

    def is_cut(self, sender_id: int, receiver_id: int) -> bool:
        return _Link(sender_id, receiver_id) in self._cut

    def reset(self, one_id: int, other_id: int) -> None:
        """The connection breaks: whatever is under way between the two, in either direction, is lost."""
        for link in (_Link(one_id, other_id), _Link(other_id, one_id)):
            self._resets[link] = self._resets.get(link, 0) + 1
            self._last_arrival.pop(link, None)

    def send(self, sender: Host, receiver_id: int, letter: Letter) -> None:
        link = _Link(sender.broker_id, receiver_id)
        receiver = self.host(receiver_id)
        random, weather = self._random, self.weather
        if receiver is None or link in self._cut or random.random() < weather.drop_chance:
            self.dropped += 1
            return
        copies = 2 if random.random() < weather.double_chance else 1
        for _ in range(copies):
            span = weather.late_ms if random.random() < weather.late_chance else weather.delay_ms
            arrival = self._loop.time() + random.uniform(*span) / 1000.0
            if weather.in_order:
                arrival = max(arrival, self._last_arrival.get(link, 0.0) + 1e-6)
                self._last_arrival[link] = arrival
            self._loop.call_at(arrival, self._deliver, link, self._resets.get(link, 0), sender, receiver, letter)

    def _deliver(self, link: _Link, resets: int, sender: Host, receiver: Host, letter: Letter) -> None:
        lost = link in self._cut or resets != self._resets.get(link, 0)
        if lost or not sender.is_alive or not receiver.is_alive:
            self.dropped += 1
            return
        self.delivered += 1
        receiver.arrive(link.sender_id, letter)
