"""How far a group has come, as one consumer knows it: what there is to store, and under which grant.

Invariants
    what is stored by itself passes no record that the application may still have in its hands
    an offset is stored under the grant by which the newest record handed to the application was fetched, however the
        partition was granted since: what came before a seek or a takeover cannot be stored over it
    stores follow each other, so that an older one that is tried again does not end up above a newer one
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from ..proto.errors import GroupNotEmpty, InvalidRequest, LograftError, LostGrant, UnknownMember
from .coordinator import Coordinator, OffsetToStore
from .position import Position
from .records import TopicPartition

Offsets = Mapping[TopicPartition, int | tuple[int, str]]
"""The next to read in each partition, or that and a text of the application's to keep beside it."""

_INT64_MAX = (1 << 63) - 1
_NAMED_MAX = 10
_log = logging.getLogger("lograft.consumer")


class Progress:
    """Belongs to one consumer. `member_id` is empty for one that is no member of the group."""

    def __init__(self, coordinator: Coordinator, *, tells_of_lost: bool) -> None:
        self.coordinator = coordinator
        self.member_id = ""
        self._tells_of_lost = tells_of_lost
        self._turn = asyncio.Lock()
        self._handed: dict[TopicPartition, int] = {}  # generation, for partitions that are not held as they were then
        self._lost: dict[TopicPartition, OffsetToStore] = {}  # never stored, and its application not told yet

    def begun(self, position: Position) -> None:
        """The partition is held again, or anew."""
        position.handed_generation = self._handed.get(position.topic_partition)

    def ended(self, position: Position, *, lost: bool) -> None:
        """The position is held no more. If it was lost, the application hears so when it stores what it did there."""
        partition = position.topic_partition
        if position.handed_generation is None:
            return
        self._handed[partition] = position.handed_generation
        if lost and self._tells_of_lost and position.offset not in (None, position.settled_offset):
            self._lost[partition] = _entry(position, position.offset or 0)

    # Storing -------------------------------------------------------------------------------------------------------

    async def commit(self, positions: Mapping[TopicPartition, Position], offsets: Offsets | None) -> None:
        """Store `offsets`, or what was handed out since the last store; see Consumer.commit."""
        async with self._turn:
            chosen = self._moved(positions) if offsets is None else self._named(positions, offsets)
            results = await self._store(chosen)
        refused = {entry: why for (_, entry), why in zip(chosen, results, strict=True) if why is not None}
        lost = [TopicPartition(*entry[:2]) for entry, why in refused.items() if isinstance(why, LostGrant)]
        for entry, why in refused.items():
            if not isinstance(why, LostGrant):
                which = TopicPartition(*entry[:2])
                raise type(why)(f"{which} at offset {entry.offset}: {why.message}", **why.facts) from why
        if lost:
            names = ", ".join(map(str, lost[:_NAMED_MAX])) + (", ..." if len(lost) > _NAMED_MAX else "")
            since = "since the records were fetched it went to another member, or the group was sought elsewhere"
            then = "whoever has it now goes on at its stored offset"
            if any(why.facts.get("outcome") == "unknown" for why in refused.values()):
                raise LostGrant(
                    f"an offset may have been stored for {names}: a first try got no answer, the next was refused, as "
                    f"{since}; {then}",
                    partitions=names,
                    outcome="unknown",
                )
            raise LostGrant(f"no offset was stored for {names}: {since}; {then}", partitions=names)

    async def store_finished(self, positions: Iterable[Position], *, timeout_s: float | None = None) -> None:
        """Store what the application has finished with. A failure is only noted: what is not stored is read again."""
        async with self._turn:
            chosen: list[tuple[Position | None, OffsetToStore]] = []
            for position in positions:
                offset, settled = position.finished_offset, position.settled_offset
                in_hand = position.is_stood_at or position.handed_from is not None
                if offset is None or offset == settled or (in_hand and settled is not None and offset < settled):
                    continue
                chosen.append((position, _entry(position, offset)))
            try:
                results = await self._store(chosen, timeout_s)
            except LograftError as error:
                _log.warning("group %s: offsets were not stored for now: %s", self._shown, error)
                return
        for (_, entry), why in zip(chosen, results, strict=True):
            if why is not None and not isinstance(why, LostGrant):
                _log.warning(
                    "group %s: offset %d of %s-%d was not stored: %s", self._shown, entry.offset, *entry[:2], why
                )

    async def store_places(
        self, places: Mapping[Position, int], *, timeout_s: float | None = None
    ) -> dict[Position, LograftError]:
        """Store where reading is about to begin. What could not be stored is returned, with the reason."""
        entries = [
            OffsetToStore(*position.topic_partition, offset, "", position.topic_id, position.generation)
            for position, offset in places.items()
        ]
        async with self._turn:
            results = await self.coordinator.store(entries, member_id=self.member_id, timeout_s=timeout_s)
        refused = {position: error for position, error in zip(places, results, strict=True) if error is not None}
        # Who reads without being a member may look on while the group has some, and stores nothing.
        return {position: error for position, error in refused.items() if not isinstance(error, GroupNotEmpty)}

    def _moved(self, positions: Mapping[TopicPartition, Position]) -> list[tuple[Position | None, OffsetToStore]]:
        chosen: list[tuple[Position | None, OffsetToStore]] = []
        for partition, position in positions.items():
            if (offset := position.offset) is None or offset == position.settled_offset:
                continue
            if position.handed_generation == position.generation:
                self._lost.pop(partition, None)  # the application has gone on under the newer grant
            chosen.append((position, _entry(position, offset)))
        held = {entry[:2] for _, entry in chosen}
        chosen += [(None, entry) for entry in self._lost.values() if entry[:2] not in held]
        return chosen

    def _named(
        self, positions: Mapping[TopicPartition, Position], offsets: Offsets
    ) -> list[tuple[Position | None, OffsetToStore]]:
        chosen: list[tuple[Position | None, OffsetToStore]] = []
        for key, place in offsets.items():
            partition = TopicPartition(*key)
            offset, metadata = place if isinstance(place, tuple) else (place, "")
            _check(partition, offset, metadata)
            position = positions.get(partition)
            if position is not None:
                chosen.append((position, _entry(position, offset, metadata)))
            else:
                generation = self._handed.get(partition, 0)
                chosen.append((None, OffsetToStore(*partition, offset, metadata, generation=generation)))
        return chosen

    async def _store(
        self, chosen: list[tuple[Position | None, OffsetToStore]], timeout_s: float | None = None
    ) -> list[LograftError | None]:
        if not chosen:
            return []
        results: list[LograftError | None]
        try:
            results = await self.coordinator.store(
                [entry for _, entry in chosen], member_id=self.member_id, timeout_s=timeout_s
            )
        except UnknownMember as error:
            results = [LostGrant(error.message, **error.facts)] * len(chosen)
        for (position, entry), why in zip(chosen, results, strict=True):
            if position is not None and why is None:
                position.settled_offset = entry.offset
            if why is None or not why.retriable:
                self._lost.pop(TopicPartition(*entry[:2]), None)
        return results

    @property
    def _shown(self) -> str:
        return self.coordinator.group[:80]


def _entry(position: Position, offset: int, metadata: str = "") -> OffsetToStore:
    generation = position.generation_to_store
    return OffsetToStore(*position.topic_partition, offset, metadata, position.topic_id, generation)


def _check(partition: TopicPartition, offset: object, metadata: object) -> None:
    """What no broker could be asked; the rest is theirs to refuse."""
    if not isinstance(offset, int) or isinstance(offset, bool) or not -_INT64_MAX <= offset <= _INT64_MAX:
        raise InvalidRequest(f"{partition}: {str(offset)[:80]} is no offset: give the next to read, a whole number")
    if not isinstance(metadata, str):
        raise InvalidRequest(f"{partition}: what is kept beside an offset is text, not {type(metadata).__name__}")
    try:
        metadata.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{partition}: the text to keep beside its offset has halves of surrogate pairs") from None
