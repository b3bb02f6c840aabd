"""Records as a page shows them: bounded, and as text only where they are text. Pure.

Invariants
    of no record more than `PREVIEW_BYTES` of its value leave for a list; `whole` has `WHOLE_BYTES_MAX`, and as much
        again of its key, and of its headers together
    `cut` says that something was left out: what is shown is then no copy of the record
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
WHOLE_HEADERS_MAX = 100
"""As many as the console sends."""


def preview(record: Record) -> dict[str, Any]:
    """A row in a list."""
    return _render(record, PREVIEW_BYTES, KEY_PREVIEW_BYTES, HEADERS_MAX, 2 * KEY_PREVIEW_BYTES * HEADERS_MAX)


def whole(record: Record) -> dict[str, Any]:
    """One record by itself."""
    return _render(record, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX, WHOLE_HEADERS_MAX, WHOLE_BYTES_MAX)


def _render(record: Record, value_bytes: int, key_bytes: int, headers_max: int, headers_bytes: int) -> dict[str, Any]:
    """Of a header's name and its value at most `key_bytes` each; of all headers together `headers_bytes`."""
    headers: list[list[Any]] = []
    cut = len(record.value or b"") > value_bytes or len(record.key or b"") > key_bytes
    for name, value in record.headers[:headers_max]:
        shown = name[: min(key_bytes, headers_bytes)]
        headers_bytes -= len(shown)
        most = min(key_bytes, headers_bytes)
        headers_bytes -= min(most, len(value or b""))
        headers.append([shown, content(value, most)])
        cut = cut or len(shown) < len(name) or len(value or b"") > most
    left_out = max(0, len(record.headers) - headers_max)
    return {
        "p": record.partition,
        "o": record.offset,
        "t": record.timestamp_ms,
        "term": record.term,
        "key": content(record.key, key_bytes),
        "value": content(record.value, value_bytes),
        "headers": headers,
        "headers_left_out": left_out,
        "cut": cut or left_out > 0,
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
