"""Sightings: which broker is there under which addresses, and who leads what in which term.

Sightings are hints. They are kept in memory, come late, and may be lost altogether: no vote, no acknowledgement and no
stored byte depends on them. A client sent to the wrong broker is sent on.

Invariants
    of one broker only the sighting with the highest (start number, sequence) counts, in whatever order they come
    of one partition only the leader of the highest term counts, whoever told of it; one who gave it up stays so
    a broker's process that ended leads nothing
    what is sent of a sighting is in parts of at most SIGHTING_BYTES_MAX, each of which can be merged alone
They come by three ways, and merging makes any of them, or all together, say the same: handshakes, every broker's own
sighting told to each of its sessions, and the board that pysyncobj replicates (`sightings_board.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from ..partitions.environment import PartitionId
from ..proto.errors import UNDECODABLE, LograftError

SIGHTING_BYTES_MAX = 24 << 10
"""Of one part, encoded. Well under the 64 KiB past which a value can jam pysyncobj."""
LED_PER_PART = 300
LEADERS_MAX = 20_000
"""Partitions whose leaders are remembered; those told of longest ago are forgotten first."""

_Text = Annotated[str, Meta(max_length=300)]


class MalformedSighting(LograftError):
    """A peer sent a sighting that cannot be read."""

    reason, grpc_status = "MALFORMED_SIGHTING", "INVALID_ARGUMENT"


class Led(NamedTuple):
    """One partition that the broker of a sighting leads."""

    topic_id: Annotated[str, Meta(max_length=32)]
    number: int
    term: int


class Addresses(NamedTuple):
    """host:port of each listener, as the broker advertises it; empty where it has none."""

    grpc: _Text
    peer: _Text
    http: _Text


class Sighting(NamedTuple):
    """What one broker says of itself."""

    broker_id: int
    directory_id: _Text
    start_number: int
    """Of the process; the next process on the same data directory has a higher one."""
    sequence: int
    """Counts this process's sightings."""
    addresses: Addresses
    rack: _Text
    version: _Text
    leads: tuple[Led, ...]
    """What it leads, or as much of it as this part tells."""
    left: tuple[Led, ...] = ()
    """What it led and gave up, still in that term."""

    @property
    def order(self) -> tuple[int, int]:
        return self.start_number, self.sequence


class Leading(NamedTuple):
    """Who led a partition in the newest term heard of."""

    broker_id: int | None
    """None: that leader is known to have given it up."""
    term: int


class Sightings(Protocol):
    """What the rest of the broker asks of the sightings, however they come."""

    def publish(self, sighting: Sighting, *, whole: bool = True) -> None:
        """Take this broker's own newest sighting, and let the others see it: the whole, or what changed since."""
        ...

    def broker(self, broker_id: int) -> Sighting | None: ...
    def brokers(self) -> list[Sighting]:
        """The newest sighting of each broker ever seen, by broker id."""
        ...

    def leading(self, partition: PartitionId) -> Leading | None: ...


class _Reign(NamedTuple):
    """What was told of a partition's leader. Of two, the greater is right."""

    term: int
    is_left: bool
    start_number: int
    """Of the leader's process."""
    broker_id: int


class ExchangedSightings:
    """All that this broker has seen, merged, and what it says of itself.

    `send(part)` hands a part of the own sighting to every way there is; `changed()` is called after each one that said
    something new of a broker.
    """

    def __init__(self, send: Callable[[bytes], None], changed: Callable[[], None] = lambda: None) -> None:
        self._send = send
        self._changed = changed
        self._newest: dict[int, Sighting] = {}
        self._in_session: dict[int, str] = {}
        """Broker id -> directory id of the process that is in session with this one."""
        self._reigns: dict[PartitionId, _Reign] = {}
        """By when they were last told of, the oldest first."""
        self._own: Sighting | None = None
        self._left: set[Led] = set()
        """Given up since the last whole publication: told at once and once more with the next, then no more."""

    def publish(self, sighting: Sighting, *, whole: bool = True) -> None:
        earlier = set() if self._own is None else set(self._own.leads)
        self._left |= earlier.difference(sighting.leads)
        self._own = sighting
        told = sighting._replace(left=tuple(sorted(self._left)))
        if whole:
            self._left.clear()
        else:
            told = told._replace(leads=tuple(led for led in sighting.leads if led not in earlier))
        self.session_up(told)
        for part in encode_parts(told):
            self._send(part)

    def own_parts(self) -> list[bytes]:
        """The own sighting as last published, whole, for one who knows nothing of it yet."""
        return [] if self._own is None else encode_parts(self._own)

    def all_parts(self) -> list[bytes]:
        """All that counts of what was seen, for one who knows nothing yet."""
        leads: dict[int, list[Led]] = {broker_id: [] for broker_id in sorted(self._newest)}
        for partition, reign in self._reigns.items():
            if self._lasts(reign) and reign.broker_id in leads:
                leads[reign.broker_id].append(Led(partition.topic_id, partition.number, reign.term))
        whole = (self._newest[broker_id]._replace(leads=tuple(led), left=()) for broker_id, led in leads.items())
        return [part for sighting in whole for part in encode_parts(sighting)]

    def see(self, sighting: Sighting) -> None:
        """Merge what a broker said of itself; what is known, or older than what is known, changes nothing."""
        for is_left, told in ((False, sighting.leads), (True, sighting.left)):
            for led in told:
                reign = _Reign(led.term, is_left, sighting.start_number, sighting.broker_id)
                self._merge(PartitionId(led.topic_id, led.number), reign)
        before = self._newest.get(sighting.broker_id)
        if self._in_session.get(sighting.broker_id, sighting.directory_id) != sighting.directory_id:
            return
        if before is None or before.order < sighting.order:
            self._newest[sighting.broker_id] = sighting
            self._changed()

    def session_up(self, sighting: Sighting) -> None:
        """A broker is in session, as this one always is with itself: what it said on another disk counts no more.

        Start numbers order the processes of one disk only: an empty one begins with a high number, and when the one
        before comes back, that has a lower.
        """
        self._in_session[sighting.broker_id] = sighting.directory_id
        before = self._newest.get(sighting.broker_id)
        if before is not None and before.directory_id != sighting.directory_id:
            del self._newest[sighting.broker_id]
        self.see(sighting)

    def session_down(self, broker_id: int) -> None:
        self._in_session.pop(broker_id, None)

    def see_leader(self, partition: PartitionId, broker_id: int, term: int) -> None:
        """Note a leader that a message or an answer told of."""
        seen = self._newest.get(broker_id)
        self._merge(partition, _Reign(term, False, 0 if seen is None else seen.start_number, broker_id))

    def forget(self, partitions: Iterable[PartitionId]) -> None:
        """Drop what is known of deleted partitions."""
        for partition in partitions:
            self._reigns.pop(partition, None)

    def broker(self, broker_id: int) -> Sighting | None:
        return self._newest.get(broker_id)

    def brokers(self) -> list[Sighting]:
        return [self._newest[broker_id] for broker_id in sorted(self._newest)]

    def leading(self, partition: PartitionId) -> Leading | None:
        reign = self._reigns.get(partition)
        if reign is None:
            return None
        return Leading(reign.broker_id if self._lasts(reign) else None, reign.term)

    def _merge(self, partition: PartitionId, reign: _Reign) -> None:
        known = self._reigns.pop(partition, reign)
        self._reigns[partition] = max(known, reign)
        if len(self._reigns) > LEADERS_MAX:
            del self._reigns[next(iter(self._reigns))]

    def _lasts(self, reign: _Reign) -> bool:
        seen = self._newest.get(reign.broker_id)
        # A later process of that broker is there: it leads in no term in which the earlier one did.
        return not reign.is_left and (seen is None or seen.start_number <= reign.start_number)


def encode_sighting(sighting: Sighting) -> bytes:
    return msgspec.msgpack.encode(sighting)


def encode_parts(sighting: Sighting) -> list[bytes]:
    """The sighting in parts: each says all of the broker, and what it leads as far as there is room."""
    parts = []
    told = [*((led, False) for led in sighting.leads), *((led, True) for led in sighting.left)]
    for start in range(0, max(len(told), 1), LED_PER_PART):
        some = told[start : start + LED_PER_PART]
        leads = tuple(led for led, is_left in some if not is_left)
        left = tuple(led for led, is_left in some if is_left)
        parts.append(encode_sighting(sighting._replace(leads=leads, left=left)))
    return parts


_decoder = msgspec.msgpack.Decoder(Sighting)


def decode_sighting(body: bytes | memoryview) -> Sighting:
    """Raises MalformedSighting."""
    if len(body) > SIGHTING_BYTES_MAX:
        raise MalformedSighting(f"a sighting of {len(body)} bytes is over the limit of {SIGHTING_BYTES_MAX}")
    try:
        return _decoder.decode(body)
    except UNDECODABLE as error:
        raise MalformedSighting(f"a sighting could not be read: {error}") from None
