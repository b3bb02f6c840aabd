"""One Fetch call: a long poll over many partitions, asked and answered in protobuf. `node.fetches` does the rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lograft.v1 import broker_service_pb2 as pb

from ..fetches import SHARES_PER_TURN, Fetching, Share
from ..metrics import Metrics
from .budget import Lease
from .large_messages import fetched
from .limits import FETCH_BYTES_DEFAULT, FETCH_WAIT_MS_MAX, PARTITIONS_PER_REQUEST_MAX, check_count
from .status import partition_error

if TYPE_CHECKING:
    from ...partitions.environment import Buffer
    from ..replicas import Replicas

ANSWER_BYTES_MAX = 2 << 20
"""It is put together, and copied by gRPC, in one turn of the loop, for which everybody else waits. Larger ones brought
readers no more and cost producers beside them twice the time (docs/performance.md)."""


class FetchCall:
    """Carries one Fetch through. `bytes_max` and `wait_ms_max` are the broker's own bounds, and so is `lease`."""

    def __init__(
        self,
        request: pb.FetchRequest,
        replicas: Replicas,
        metrics: Metrics,
        *,
        bytes_max: int,
        wait_ms_max: int,
        lease: Lease | None = None,
    ) -> None:
        check_count(len(request.partitions), PARTITIONS_PER_REQUEST_MAX, "partitions")
        self._fetching = Fetching(
            [Share(asked, _or_default(asked.max_bytes)) for asked in request.partitions],
            replicas,
            metrics,
            bytes_max=min(_or_default(request.max_bytes), bytes_max, ANSWER_BYTES_MAX),
            bytes_min=request.min_bytes,
            wait_ms=min(max(request.max_wait_ms, 0), wait_ms_max, FETCH_WAIT_MS_MAX),
            lease=lease,
        )

    @property
    def size(self) -> int:
        """Bytes of batches gathered so far, all of them taken of the lease."""
        return self._fetching.size

    async def answer(self) -> bytes:
        """What there is, as soon as it is enough or the wait is over: a FetchResponse on the wire."""
        await self._fetching.gather()
        pieces: list[Buffer] = []
        for number, share in enumerate(self._fetching.shares, start=1):
            pieces += _answered(share)
            if number % SHARES_PER_TURN == 0:
                await asyncio.sleep(0)
        return b"".join(pieces)


def _or_default(bytes_max: int) -> int:
    return bytes_max if bytes_max > 0 else FETCH_BYTES_DEFAULT


def _answered(share: Share) -> list[Buffer]:
    answer = pb.FetchResponse.Partition(
        topic=share.topic,
        partition=share.asked.partition,
        next_offset=share.next_offset,
        committed_offset=share.committed_offset,
        log_start_offset=share.start_offset,
        term=share.term,
    )
    if share.error is not None:
        answer.error.CopyFrom(partition_error(share.error))
    return fetched(answer, share.batches)
