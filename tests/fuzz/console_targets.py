"""Readers of what browsers, and whoever writes records, send to a broker's console."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
from lograft.client.records import Record
from lograft.node.console import asgi
from lograft.node.console.app import cursor_of, numbers
from lograft.node.console.changes import record_of
from lograft.node.console.filters import Filter
from lograft.node.console.rendering import preview, whole
from lograft.proto.errors import InvalidRequest
from lograft.proto.record_batch import Header

from tests.fuzz.target import Target
from tests.fuzz.text_targets import of_text

_GET = b"GET /console/api/topics/a%20b/messages?limit=5 HTTP/1.1\r\nHost: 127.0.0.1:9602\r\n\r\n"
_POST = b"POST /console/api/topics/a/records HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 4\r\n\r\nbody"
_CHUNKED = b"POST /console/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
_RECORD = (
    b'{"key": {"text": "k"}, "value": {"b64": "/wA="}, "headers": [["a", {"text": "1"}], ["b", null]], "partition": 2}'
)
_FILTERS = [
    Filter("x"),
    Filter("/a+b|[0-9]{2,5}$/"),
    Filter(where='order.total >= 100 and status != "a" and items.0.sku ~ a and exists b and key = 1'),
]


class _Writer:
    """Takes what is written, and keeps none of it."""

    transport = SimpleNamespace(is_closing=lambda: False, set_write_buffer_limits=lambda high: None)

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _request(data: bytes) -> None:
    """What comes by a connection, as the door gives it: the head, then the rest."""

    async def scene() -> None:
        head, _, rest = data.partition(b"\r\n\r\n")
        reader = asyncio.StreamReader()
        reader.feed_data(rest)
        reader.feed_eof()
        writer: Any = _Writer()
        await asgi.answer(_answer, head + b"\r\n\r\n", reader, writer)

    asyncio.run(scene())


def _change(data: bytes) -> object:
    try:
        asked = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise InvalidRequest("no JSON") from None
    return record_of(asked, 0)


def _shown(data: bytes) -> None:
    record = Record("t", 0, 1, 2, data[:9], data, (Header("h", data[:30]),), 1)
    preview(record)
    whole(record)
    for wanted in _FILTERS:
        wanted.matches(record)


CONSOLE_TARGETS = (
    Target(name="request to the console", read=_request, seeds=[_GET, _POST, _CHUNKED]),
    Target(name="record to produce by the console", read=_change, seeds=[_RECORD], refusals=(InvalidRequest,)),
    Target(
        name="record shown by the console",
        read=_shown,
        seeds=[b'{"order": {"total": 100}, "items": [{"sku": "a"}], "b": null, "status": 7}', "é\u20ac".encode()],
    ),
    Target(
        name="text that the console looks for",
        read=of_text(lambda text: Filter(text)),
        seeds=[b"refund", b"/refund-[0-9]+|a{2,3}(b|c)*$/"],
        refusals=(InvalidRequest,),
    ),
    Target(
        name="condition of the console",
        read=of_text(lambda text: Filter(where=text)),
        seeds=[b'status = "failed" and order.total >= 1.5e3 and exists a.b', b"items.0.sku ~ a"],
        refusals=(InvalidRequest,),
    ),
    Target(name="cursor of the console", read=of_text(cursor_of), seeds=[b"0:120,1:77"], refusals=(InvalidRequest,)),
    Target(
        name="partitions that the console reads",
        read=of_text(lambda text: numbers(text, "partitions")),
        seeds=[b"0,1,2"],
        refusals=(InvalidRequest,),
    ),
)
