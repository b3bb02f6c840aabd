"""What a core asks to be sent to a follower, filled with what the log holds: the core knows points, not bytes.

Invariants
    what was appended a moment ago is not read back
    a filled message says no other points than the core asked for
"""

from __future__ import annotations

from dataclasses import replace

from .raft.events import Replicate, Sent
from .raft.messages import AppendRequest, HeadOffer
from .raft.points import Item, ItemKind, Point
from .storage.log import PartitionLog


def filled_request(filling: Replicate, log: PartitionLog, appended: tuple[Item, ...]) -> tuple[AppendRequest, Sent]:
    """The request with its items, and what the core is to hear of it. `appended`: the items appended just now.

    Raises DamagedLog.
    """
    request = filling.request
    items = appended if _just_follows(request.prev, appended, filling) else None
    append_time_ms = log.append_time_ms
    if items is None:
        items, append_time_ms = log.read_to_replicate(request.prev, filling.upto, filling.bytes_max)
    through = items[-1].point if items else request.prev
    size = sum(len(item.data) for item in items)
    if items:
        request = replace(request, items=items, append_time_ms=append_time_ms)
    return request, Sent(request.to, request.session, through, size)


def filled_offer(offer: HeadOffer, log: PartitionLog, rewritten_to: int, cleaned_to: int) -> HeadOffer:
    """The offer with the head of the log's first segment. Raises DamagedLog."""
    head = log.first_head()
    assert head.base == offer.base, f"{log.partition} begins at {head.base}, not at {offer.base}"
    head = head.compacted(rewritten_to, cleaned_to)
    return replace(offer, voters=head.voters, head=head.to_bytes(), cleaned_to=head.cleaned_to)


def _just_follows(prev: Point, appended: tuple[Item, ...], filling: Replicate) -> bool:
    """Are the items just appended exactly what is asked for? Then they need not be read back."""
    if not appended or appended[-1].point != filling.upto or appended[0].kind is not ItemKind.RECORDS:
        return False
    first = appended[0].point
    return (
        prev.term == first.term
        and prev.rank == first.rank
        and prev.offset == int.from_bytes(bytes(appended[0].data[:8]), "big")
        and (len(appended) == 1 or sum(len(item.data) for item in appended) <= filling.bytes_max)
    )
