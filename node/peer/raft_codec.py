"""Raft messages as bytes: the body of a RAFT frame.

Always holds
    a body is a bundle: one or more messages, of any partitions, one after the other
    a message is u32 size of the header | u32 size of the items | header | the items' bytes, as stored (of an offer, the
    head's)
    the header is MessagePack, typed and bounded
    an item that decodes is whole, has a good CRC, and follows the item before it (the first follows `prev`)
    a head that decodes can be the first of a log of that partition: who takes it has dropped what it had before
    items are not copied, either way: a decoded item's data is a view of the body
    what tells written from synced is of version 2 of the peer protocol; `spoken_in` leaves it out for an older peer
Anything else is a PeerFrameError; no other exception leaves `decode_raft` and `decode_raft_bundle`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ...partitions.environment import Buffer, PartitionId
from ...partitions.raft.messages import (
    AppendReply,
    AppendRequest,
    CampaignNow,
    HeadOffer,
    Message,
    ReadProbe,
    ReadProbeReply,
    RepairReply,
    RepairRequest,
    Serving,
    Voter,
    VoteReply,
    VoteRequest,
)
from ...partitions.raft.points import ORIGIN, Item, ItemKind, Point
from ...partitions.storage.contents import Contents
from ...partitions.storage.repair import CLAIMS_MAX
from ...partitions.storage.segment_head import SegmentHead
from ...partitions.storage.zero_width import item_of
from ...proto import record_batch
from ...proto.errors import UNDECODABLE, LograftError
from ...proto.peer_frames import PeerFrameError

HEADER_BYTES_MAX = 1 << 20
_SIZES = struct.Struct(">II")

_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Small = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _WirePoint(NamedTuple):
    term: _Number
    offset: _Number
    rank: _Number


class _WireVoter(NamedTuple):
    broker_id: _Small
    directory_id: Annotated[str, Meta(min_length=1, max_length=64)]
    replica_number: _Number


class _WirePartition(NamedTuple):
    topic_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    number: _Small


class _WireItem(NamedTuple):
    point: _WirePoint
    kind: _Small
    size: _Small


class _Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    partition: _WirePartition
    sender: _WireVoter
    to: _WireVoter
    term: _Small
    """As far as a batch's header has room for it: a later one could not be written down by whoever entered it."""


class _VoteRequest(_Header, tag=1, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    last: _WirePoint
    pre: bool
    transfer: bool


class _VoteReply(_Header, tag=2, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    granted: bool
    pre: bool
    doubtful: bool


class _AppendRequest(_Header, tag=3, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    session: _Number
    session_end: _WirePoint
    prev: _WirePoint
    committed: _WirePoint
    append_time_ms: _Number
    items: tuple[_WireItem, ...]


class _WrittenAppend(_AppendRequest, tag=12, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    committed_synced: _WirePoint


class _AppendReply(_Header, tag=4, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    session: _Number
    accepted: bool
    match: _WirePoint
    committed: _WirePoint
    counts: bool


class _WrittenReply(_AppendReply, tag=11, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    synced: _WirePoint


class _ReadProbe(_Header, tag=5, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    round_number: _Number


class _ReadProbeReply(_Header, tag=6, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    round_number: _Number


class _CampaignNow(_Header, tag=7, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    pass


class _HeadOffer(_Header, tag=8, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    session: _Number
    base: _WirePoint
    cleaned_to: _Number


class _RepairRequest(_Header, tag=9, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    number: _Number
    hole: _WirePoint
    after: _WirePoint
    claims: Annotated[tuple[_WirePoint, ...], Meta(max_length=CLAIMS_MAX)]
    base_offset: Annotated[int, Meta(ge=-1, le=2**63 - 1)]
    bytes_max: _Small


class _RepairReply(_Header, tag=10, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    number: _Number
    serving: _Small
    after: _WirePoint
    leads: bool
    conflicts: bool
    rewritten_to: _Number
    head_size: _Small
    items: tuple[_WireItem, ...]


_AnyHeader = (
    _VoteRequest
    | _VoteReply
    | _AppendRequest
    | _AppendReply
    | _ReadProbe
    | _ReadProbeReply
    | _CampaignNow
    | _HeadOffer
    | _RepairRequest
    | _RepairReply
    | _WrittenReply
    | _WrittenAppend
)
_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(_AnyHeader).decode


def spoken_in(protocol: int, message: Message) -> Message:
    """The message as a peer of that version understands it: to an older one, what is synced alone is told."""
    if protocol < 2:
        if isinstance(message, AppendReply) and message.synced is not None:
            return replace(message, match=message.synced, synced=None)
        if isinstance(message, AppendRequest) and message.committed_synced is not None:
            # It would take all that is committed to be on a majority's disks, and supersede records by it.
            return replace(message, committed=message.committed_synced, committed_synced=None)
    return message


def encode_raft(partition: PartitionId, message: Message) -> list[Buffer]:
    """One message: the whole body of a RAFT frame, or a part of one (messages written in a row are a bundle)."""
    header = _encode_header(_header_of(partition, message))
    match message:
        case AppendRequest():
            behind: list[Buffer] = [item.data for item in message.items]
        case HeadOffer():
            behind = [message.head]
        case RepairReply():
            behind = [message.head, *(item.data for item in message.items)]
        case _:
            return [_SIZES.pack(len(header), 0) + header]
    return [_SIZES.pack(len(header), sum(map(len, behind))) + header, *behind]


def decode_raft(body: Buffer) -> tuple[PartitionId, Message]:
    """The one message of a body. Raises PeerFrameError for anything else."""
    messages = decode_raft_bundle(body)
    if len(messages) != 1:
        raise PeerFrameError(f"expected one Raft message, got {len(messages)}")
    return messages[0]


def decode_raft_bundle(body: Buffer) -> list[tuple[PartitionId, Message]]:
    """All messages of a body, in the order in which they were sent. Raises PeerFrameError unless every one is right."""
    view = memoryview(body)
    messages: list[tuple[PartitionId, Message]] = []
    position = 0
    while position < len(view):
        if len(view) - position < _SIZES.size:
            raise PeerFrameError("a Raft message is cut short")
        header_size, items_size = _SIZES.unpack_from(view, position)
        position += _SIZES.size
        items_start = position + header_size
        end = items_start + items_size
        if header_size > HEADER_BYTES_MAX or end > len(view):
            raise PeerFrameError(f"a Raft message of {header_size} + {items_size} bytes is larger than what came of it")
        messages.append(_decode(view[position:items_start], view[items_start:end]))
        position = end
    if not messages:
        raise PeerFrameError("a RAFT frame without a message")
    return messages


def _header_of(partition: PartitionId, message: Message) -> _AnyHeader:
    # The encoder writes Point, Voter and PartitionId as it writes their wire twins: as arrays.
    common = (partition, message.sender, message.to, message.term)
    match message:
        case AppendRequest():
            items = tuple((item.point, int(item.kind), len(item.data)) for item in message.items)
            append = (
                *common,
                message.session,
                message.session_end,
                message.prev,
                message.committed,
                message.append_time_ms,
                items,
            )
            if message.committed_synced is None:
                return _AppendRequest(*append)  # type: ignore[arg-type]
            return _WrittenAppend(*append, message.committed_synced)  # type: ignore[arg-type]
        case AppendReply():
            reply = (*common, message.session, message.accepted, message.match, message.committed, message.counts)
            if message.synced is None:
                return _AppendReply(*reply)  # type: ignore[arg-type]
            return _WrittenReply(*reply, message.synced)  # type: ignore[arg-type]
        case VoteRequest():
            return _VoteRequest(*common, message.last, message.pre, message.transfer)  # type: ignore[arg-type]
        case VoteReply():
            return _VoteReply(*common, message.granted, message.pre, message.doubtful)  # type: ignore[arg-type]
        case ReadProbe():
            return _ReadProbe(*common, message.round_number)  # type: ignore[arg-type]
        case ReadProbeReply():
            return _ReadProbeReply(*common, message.round_number)  # type: ignore[arg-type]
        case CampaignNow():
            return _CampaignNow(*common)  # type: ignore[arg-type]
        case HeadOffer():
            return _HeadOffer(*common, message.session, message.base, message.cleaned_to)  # type: ignore[arg-type]
        case RepairRequest():
            return _RepairRequest(
                *common,  # type: ignore[arg-type]
                message.number,
                message.hole,  # type: ignore[arg-type]
                message.after,  # type: ignore[arg-type]
                message.claims,  # type: ignore[arg-type]
                message.base_offset,
                message.bytes_max,
            )
        case RepairReply():
            return _RepairReply(
                *common,  # type: ignore[arg-type]
                message.number,
                int(message.serving),
                message.after,  # type: ignore[arg-type]
                message.leads,
                message.conflicts,
                message.rewritten_to,
                len(message.head),
                tuple((item.point, int(item.kind), len(item.data)) for item in message.items),  # type: ignore[misc]
            )


def _decode(header_bytes: memoryview, item_bytes: memoryview) -> tuple[PartitionId, Message]:
    try:
        header = _decode_header(header_bytes)
    except UNDECODABLE as error:
        raise PeerFrameError(f"a Raft message's header is wrong: {error}") from None
    partition = PartitionId._make(header.partition)
    sender, to = Voter._make(header.sender), Voter._make(header.to)
    if header.term < 1:
        raise PeerFrameError("a Raft message of no term")
    message: Message
    match header:
        case _AppendRequest():
            prev = Point._make(header.prev)
            items = _decode_items(prev, header.term, header.items, item_bytes)
            return partition, AppendRequest(
                sender=sender,
                to=to,
                term=header.term,
                session=header.session,
                session_end=Point._make(header.session_end),
                prev=prev,
                committed=Point._make(header.committed),
                items=items,
                append_time_ms=header.append_time_ms,
                committed_synced=_committed_synced(header),
            )
        case _HeadOffer():
            base = Point._make(header.base)
            head = _decode_head(partition, base, bytes(item_bytes))
            offer = HeadOffer(
                sender=sender,
                to=to,
                term=header.term,
                session=header.session,
                base=base,
                cleaned_to=header.cleaned_to,
                voters=head.voters,
                head=bytes(item_bytes),
            )
            return partition, offer
        case _RepairReply():
            return partition, _decode_repair(partition, header, sender, to, item_bytes)
        case _RepairRequest():
            message = RepairRequest(
                sender=sender,
                to=to,
                term=header.term,
                number=header.number,
                hole=Point._make(header.hole),
                after=Point._make(header.after),
                claims=tuple(map(Point._make, header.claims)),
                base_offset=header.base_offset,
                bytes_max=header.bytes_max,
            )
        case _AppendReply():
            message = AppendReply(
                sender=sender,
                to=to,
                term=header.term,
                session=header.session,
                accepted=header.accepted,
                match=Point._make(header.match),
                committed=Point._make(header.committed),
                counts=header.counts,
                synced=_synced(header),
            )
        case _VoteRequest():
            last = Point._make(header.last)
            message = VoteRequest(sender, to, header.term, last, pre=header.pre, transfer=header.transfer)
        case _VoteReply():
            message = VoteReply(sender, to, header.term, header.granted, pre=header.pre, doubtful=header.doubtful)
        case _ReadProbe():
            message = ReadProbe(sender, to, header.term, header.round_number)
        case _ReadProbeReply():
            message = ReadProbeReply(sender, to, header.term, header.round_number)
        case _CampaignNow():
            message = CampaignNow(sender, to, header.term)
    if len(item_bytes):
        raise PeerFrameError(f"{len(item_bytes)} bytes behind a Raft message that has no items")
    return partition, message


def _committed_synced(header: _AppendRequest) -> Point | None:
    if not isinstance(header, _WrittenAppend):
        return None
    synced = Point._make(header.committed_synced)
    if synced >= Point._make(header.committed):
        raise PeerFrameError(f"{synced} is committed by synced copies, but {header.committed} by written ones")
    return synced


def _synced(header: _AppendReply) -> Point | None:
    if not isinstance(header, _WrittenReply):
        return None
    synced = Point._make(header.synced)
    if synced >= Point._make(header.match) or not header.accepted:
        raise PeerFrameError(f"{synced} is synced, but {header.match} is written")
    return synced


def _decode_repair(
    partition: PartitionId, header: _RepairReply, sender: Voter, to: Voter, data: memoryview
) -> RepairReply:
    after = Point._make(header.after)
    head = bytes(data[: header.head_size])
    if header.head_size > len(data) or header.serving not in [*map(int, Serving)]:
        raise PeerFrameError("an answer about a hole is cut short, or of an unknown kind")
    if head:
        _decode_head(partition, after, head)
    return RepairReply(
        sender=sender,
        to=to,
        term=header.term,
        number=header.number,
        serving=Serving(header.serving),
        after=after,
        leads=header.leads,
        conflicts=header.conflicts,
        rewritten_to=header.rewritten_to,
        head=head,
        items=_decode_items(after, header.term, header.items, data[header.head_size :]),
    )


def _decode_head(partition: PartitionId, base: Point, content: bytes) -> SegmentHead:
    """The head if a log can begin with it."""
    try:
        head = SegmentHead.from_bytes(content, f"the head of {partition}")
        Contents(head)
    except (ValueError, LograftError) as error:
        raise PeerFrameError(f"the head that is offered for {partition} is unreadable: {error}") from None
    is_none = not base.term and base != ORIGIN
    if (head.partition, head.base) != (partition, base) or is_none or head.start_offset < base.offset:
        raise PeerFrameError(f"the head that is offered for {partition} at {base} is that of {head.partition}")
    return head


def _decode_items(prev: Point, term: int, headers: Iterable[_WireItem], data: memoryview) -> tuple[Item, ...]:
    items = []
    position = 0
    for header in headers:
        end = position + header.size
        if end > len(data):
            raise PeerFrameError("a Raft message's items are cut short")
        item = _decode_item(prev, header, data[position:end])
        if item.point.term > term:
            raise PeerFrameError(f"an item at {item.point} in a message of term {term}")
        items.append(item)
        prev, position = item.point, end
    if position != len(data):
        raise PeerFrameError(f"{len(data) - position} bytes after the last item")
    return tuple(items)


def _decode_item(prev: Point, header: _WireItem, data: memoryview) -> Item:
    """The item if it is whole and could stand right after `prev` in a log."""
    point = Point._make(header.point)
    try:
        kind = ItemKind(header.kind)
    except ValueError:
        raise PeerFrameError(f"an item of unknown kind {header.kind}") from None
    if kind is ItemKind.RECORDS:
        follows = point.term == prev.term >= 1 and point.rank == prev.rank and point.offset > prev.offset
    elif kind is ItemKind.TERM_START:
        follows = point.term > prev.term and point.rank == 1 and point.offset == prev.offset
    else:
        follows = point == (prev.term, prev.offset, prev.rank + 1) and point.term >= 1
    if not follows:
        raise PeerFrameError(f"an item of kind {kind.name} at {point} cannot follow {prev}")
    if kind is ItemKind.TERM_START and not data:
        return Item(point, kind, b"")  # says nothing beyond its point: who stores it writes the bytes
    try:
        batch = record_batch.verify(data)
        if batch.size != len(data) or batch.term != point.term or batch.base_offset != prev.offset:
            raise PeerFrameError(f"an item at {point} holds a batch of {batch.base_offset}@{batch.term}")
        if batch.next_offset != point.offset or batch.is_control != (kind is not ItemKind.RECORDS):
            raise PeerFrameError(
                f"an item of kind {kind.name} at {point} holds a batch that ends at {batch.next_offset}"
            )
        code, payload = record_batch.read_zero_width(data) if batch.is_control else (kind, b"")
        if code != kind:
            raise PeerFrameError(f"an item of kind {kind.name} at {point} holds a control batch of another kind")
        return item_of(point, kind, payload, data)
    except PeerFrameError:
        raise
    except LograftError as error:
        raise PeerFrameError(f"an item at {point} is unreadable: {error}") from None
