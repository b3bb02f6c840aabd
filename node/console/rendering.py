"""Records as a page shows them: bounded, and as text only where they are text. Pure.

Invariants
    of no record more than `PREVIEW_BYTES` of its value leave for a list; `whole` has `WHOLE_BYTES_MAX`
    bytes are told as text only if all of them are UTF-8; else as base64, so that nothing is made up
"""

from __future__ import annotations

import base64
from typing import Any

from ...client.records import Record

PREVIEW_BYTES = 2 << 10
KEY_PREVIEW_BYTES = 256
HEADERS_MAX = 32
WHOLE_BYTES_MAX = 512 << 10


def preview(record: Record) -> dict[str, Any]:
    """A row in a list."""
    return _render(record, PREVIEW_BYTES, KEY_PREVIEW_BYTES, KEY_PREVIEW_BYTES)


def whole(record: Record) -> dict[str, Any]:
    """One record by itself."""
    return _render(record, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX)


def _render(record: Record, value_bytes: int, key_bytes: int, header_bytes: int) -> dict[str, Any]:
    return {
        "p": record.partition,
        "o": record.offset,
        "t": record.timestamp_ms,
        "term": record.term,
        "key": content(record.key, key_bytes),
        "value": content(record.value, value_bytes),
        "headers": [[name[:200], content(value, header_bytes)] for name, value in record.headers[:HEADERS_MAX]],
        "headers_left_out": max(0, len(record.headers) - HEADERS_MAX),
    }


def content(data: bytes | None, bytes_max: int) -> dict[str, Any] | None:
    """`text` or `b64` of the first `bytes_max` bytes, and `size` of all; None for none."""
    if data is None:
        return None
    shown = data[:bytes_max]
    try:
        return {"size": len(data), "text": shown.decode()}
    except UnicodeDecodeError as error:
        # Cut within a character: that is no reason to take it for something else.
        if len(shown) < len(data) and error.start >= len(shown) - 3 and error.reason == "unexpected end of data":
            return {"size": len(data), "text": shown[: error.start].decode()}
    return {"size": len(data), "b64": base64.b64encode(shown).decode()}
