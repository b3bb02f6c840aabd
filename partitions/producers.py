"""What one partition remembers of its producers, so that a batch sent again is not appended again.

Invariants
    the table is a function of the batches noted in order: replicas with the same log hold the same table
    of each producer the last five batches are known, of each partition the producers that appended last
    checking changes nothing; a batch is noted when it is appended, and never otherwise

A sequence numbers the records of a producer in this partition, from 0; after 2^31 - 1 comes 0 again, as Kafka has it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..proto.errors import UNDECODABLE, OutOfOrderSequence, StaleProducer
from ..proto.record_batch import BatchHeader

BATCHES_PER_PRODUCER = 5
PRODUCERS_MAX = 10_000

_SEQUENCES = 1 << 31


class Fresh(NamedTuple):
    """The batch is the producer's next."""


class Duplicate(NamedTuple):
    """The batch is in the log already; to be answered once the log is committed through `end_offset`."""

    base_offset: int | None
    """Where it stands; None if it is older than the batches remembered."""
    end_offset: int


class _Noted(NamedTuple):
    base_sequence: int
    next_sequence: int
    base_offset: int
    end_offset: int


class _Producer(NamedTuple):
    epoch: int
    batches: tuple[_Noted, ...]
    """Oldest first, never empty."""


_FRESH = Fresh()
_decode = msgspec.msgpack.Decoder(list[tuple[int, _Producer]]).decode


class ProducerTable:
    """The producers of one partition, the least recently appended first."""

    def __init__(self) -> None:
        self._producers: dict[int, _Producer] = {}

    def __len__(self) -> int:
        return len(self._producers)

    def check(self, header: BatchHeader, first_open: int | None) -> Fresh | Duplicate:
        """May this batch be appended now?

        `first_open` is the lowest sequence for which the client has no final answer; None from one that does not say.

        Raises
            OutOfOrderSequence  an earlier batch is missing
            StaleProducer       it has gone on in a later epoch (KIP-360)
        """
        if not header.has_producer:
            return _FRESH
        producer = self._producers.get(header.producer_id)
        if producer is None:
            if first_open is not None and header.base_sequence != first_open:
                raise _out_of_order(header, first_open)
            return _FRESH
        if header.producer_epoch < producer.epoch:
            raise StaleProducer(
                f"producer {header.producer_id} goes on in epoch {producer.epoch}; {header.producer_epoch} is over",
                producer_id=header.producer_id,
                epoch=producer.epoch,
                got=header.producer_epoch,
            )
        if header.producer_epoch > producer.epoch:
            if header.base_sequence != 0:
                raise _out_of_order(header, 0)
            return _FRESH
        expected = producer.batches[-1].next_sequence
        if header.base_sequence == expected:
            return _FRESH
        if header.base_sequence == first_open and _is_behind(expected, first_open):
            # All before it was answered for good: what is missing here was lost with a leader that did not wait for
            # the others, as its client had asked, and never comes again.
            return _FRESH
        end = next_sequence(header)
        for noted in producer.batches:
            if noted.base_sequence == header.base_sequence and noted.next_sequence == end:
                return Duplicate(noted.base_offset, noted.end_offset)
        oldest = producer.batches[0]
        # Of a client that does not say what is open, what is remembered need not begin where it began: a batch before
        # that may never have been appended. Nothing is lost by not knowing it: it has no more than five in flight.
        if first_open is not None and _is_behind(header.base_sequence, oldest.base_sequence):
            return Duplicate(None, oldest.base_offset)
        raise _out_of_order(header, expected)

    def note(self, header: BatchHeader, base_offset: int) -> None:
        """The batch stands in the log at `base_offset`."""
        if not header.has_producer:
            return
        noted = _Noted(header.base_sequence, next_sequence(header), base_offset, base_offset + header.width)
        # Taken out and put in again: the order of the table is that of the last appends.
        known = self._producers.pop(header.producer_id, None)
        batches: tuple[_Noted, ...] = (noted,)
        if known is not None and known.epoch == header.producer_epoch:
            batches = (*known.batches[1 - BATCHES_PER_PRODUCER :], noted)
        self._producers[header.producer_id] = _Producer(header.producer_epoch, batches)
        if len(self._producers) > PRODUCERS_MAX:
            del self._producers[next(iter(self._producers))]

    def known(self) -> list[tuple[int, int, int]]:
        """Producer id, epoch and last sequence of each, the least recently appended first."""
        return [
            (producer_id, producer.epoch, (producer.batches[-1].next_sequence - 1) % _SEQUENCES)
            for producer_id, producer in self._producers.items()
        ]

    def remembered_offsets(self) -> set[int]:
        """Base offsets of all batches remembered: compaction leaves these by themselves, however empty."""
        return {noted.base_offset for producer in self._producers.values() for noted in producer.batches}

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode(list(self._producers.items()))

    @classmethod
    def from_bytes(cls, encoded: bytes) -> ProducerTable:
        """ValueError if `to_bytes` cannot have made it."""
        table = cls()
        try:
            table._producers = dict(_decode(encoded))
        except UNDECODABLE as error:
            raise ValueError(f"no table of producers: {error}") from None
        return table


def next_sequence(header: BatchHeader) -> int:
    """What the producer's batch after this one begins with."""
    # Not the record count: compaction takes records away, and their sequences stay used.
    return (header.base_sequence + header.width) % _SEQUENCES


def _is_behind(sequence: int, other: int) -> bool:
    """Is `sequence` before `other`, the short way round?"""
    return 0 < (other - sequence) % _SEQUENCES < _SEQUENCES // 2


def _out_of_order(header: BatchHeader, expected: int) -> OutOfOrderSequence:
    return OutOfOrderSequence(
        f"producer {header.producer_id} sent sequence {header.base_sequence} where {expected} is next: send that first",
        expected=expected,
        got=header.base_sequence,
    )
