"""Bounds of single requests that no configuration changes: what is past them is a mistake of the client's."""

from __future__ import annotations

from ...proto.errors import InvalidRequest

PARTITIONS_PER_REQUEST_MAX = 10_000
RECORDS_PER_REQUEST_MAX = 100_000
PUSHED_PER_CALL_MAX = 10_000
"""Partitions that one Stream call may ask for."""
CREDIT_BYTES_MAX = 64 << 20
"""Of one Stream call: what a client may have granted and not yet received."""
HEARTBEAT_MS_MIN = 100
HEARTBEAT_MS_MAX = 60_000
"""Of a Stream call: how often a client may ask to hear something."""
FETCH_WAIT_MS_MAX = 30_000
FETCH_BYTES_DEFAULT = 8 << 20
CALL_SECONDS_MAX = 10.0
"""A unary call that must hear from a majority or from the controller gives up after this long."""


def check_count(count: int, limit: int, what: str) -> None:
    """Raises InvalidRequest past the limit."""
    if count > limit:
        raise InvalidRequest(
            f"a request names at most {limit} {what}, this one {count}; split it", count=count, limit=limit
        )
