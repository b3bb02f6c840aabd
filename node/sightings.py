"""The sightings board: which broker is there under which addresses, and who leads what in which term.

Sightings are hints. They are kept in memory, come late, and may be lost altogether: no vote, no acknowledgement and no
stored byte depends on them. A client sent to the wrong broker is sent on.

Invariants
    of one broker only the sighting with the highest (start number, sequence) counts, in whatever order they come
    of one partition only the leader of the highest term counts, whoever told of it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from ..partitions.environment import PartitionId
from ..proto.errors import LograftError


class MalformedSighting(LograftError):
    """A peer sent a sighting that cannot be read."""

    reason, grpc_status = "MALFORMED_SIGHTING", "INVALID_ARGUMENT"


class Led(NamedTuple):
    """One partition that the broker of a sighting leads."""

    topic_id: str
    number: int
    term: int


class Addresses(NamedTuple):
    """host:port of each listener, as the broker advertises it; empty where it has none."""

    grpc: str
    peer: str
    http: str


class Sighting(NamedTuple):
    """What one broker says of itself."""

    broker_id: int
    directory_id: str
    start_number: int
    """Of the process; the next process on the same data directory has a higher one."""
    sequence: int
    """Counts this process's sightings."""
    addresses: Addresses
    rack: str
    version: str
    leads: tuple[Led, ...]

    @property
    def order(self) -> tuple[int, int]:
        return self.start_number, self.sequence


class Leading(NamedTuple):
    """Who led a partition in the newest term heard of."""

    broker_id: int | None
    """None: that leader is known to have given it up."""
    term: int


class Sightings(Protocol):
    """What the rest of the broker asks of the board, however it is kept."""

    def publish(self, sighting: Sighting) -> None:
        """Take this broker's own newest sighting, and let the others see it."""
        ...

    def broker(self, broker_id: int) -> Sighting | None: ...
    def brokers(self) -> list[Sighting]:
        """The newest sighting of each broker ever seen, by broker id."""
        ...

    def leading(self, partition: PartitionId) -> Leading | None: ...


class ExchangedSightings:
    """The board as peers tell it each other: every broker sends its own sighting to all its sessions.

    `send(body)` hands a sighting to every session; `changed()` is called after each one that said something new.
    """

    def __init__(self, send: Callable[[bytes], None], changed: Callable[[], None] = lambda: None) -> None:
        self._send = send
        self._changed = changed
        self._newest: dict[int, Sighting] = {}
        self._leading: dict[PartitionId, Leading] = {}

    def publish(self, sighting: Sighting) -> None:
        self.see(sighting)
        self._send(encode_sighting(sighting))

    def see(self, sighting: Sighting) -> None:
        """Merge what a broker said of itself; older news than what is known changes nothing."""
        before = self._newest.get(sighting.broker_id)
        if before is not None and before.order >= sighting.order:
            return
        self._newest[sighting.broker_id] = sighting
        self._withdraw(before, sighting)
        for led in sighting.leads:
            self.see_leader(PartitionId(led.topic_id, led.number), sighting.broker_id, led.term)
        self._changed()

    def see_leader(self, partition: PartitionId, broker_id: int, term: int) -> None:
        """Note a leader that a message or an answer told of."""
        known = self._leading.get(partition)
        if known is None or known.term < term:
            self._leading[partition] = Leading(broker_id, term)

    def forget(self, partitions: Iterable[PartitionId]) -> None:
        """Drop what is known of deleted partitions."""
        for partition in partitions:
            self._leading.pop(partition, None)

    def broker(self, broker_id: int) -> Sighting | None:
        return self._newest.get(broker_id)

    def brokers(self) -> list[Sighting]:
        return [self._newest[broker_id] for broker_id in sorted(self._newest)]

    def leading(self, partition: PartitionId) -> Leading | None:
        return self._leading.get(partition)

    def _withdraw(self, before: Sighting | None, now: Sighting) -> None:
        """What the broker led and does not list any more has no leader in that term."""
        if before is None:
            return
        for led in set(before.leads).difference(now.leads):
            partition = PartitionId(led.topic_id, led.number)
            if self._leading.get(partition) == Leading(now.broker_id, led.term):
                self._leading[partition] = Leading(None, led.term)


def encode_sighting(sighting: Sighting) -> bytes:
    return msgspec.msgpack.encode(sighting)


_decoder = msgspec.msgpack.Decoder(Sighting)


def decode_sighting(body: bytes | memoryview) -> Sighting:
    """Raises MalformedSighting."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise MalformedSighting(f"a sighting could not be read: {error}") from None
