"""The console's application: its routes, who may ask, and what is kept while somebody does.

Invariants
    every request is checked by `safety` before anything else looks at it
    answers with data are never kept by the browser; errors are one line of JSON that says what to do
    searches, downloads and tails together are at most `console.streams_max`
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from ...client.cli.formats import as_json
from ...client.client import Client
from ...client.offset_bounds import END, START, parse_bound
from ...proto.errors import BrokerUnavailable, InvalidRequest, LograftError, Overloaded, UnknownGroup, UnknownTopic
from ..config import BrokerConfig, host_and_port
from ..controller.facts import CLUSTER_TOPIC, CLUSTER_TOPIC_ID
from ..controller.topic_rules import CONFIG_KEYS
from ..role_changes import ToldChanges
from . import asgi, rendering, safety, views
from .changes import Changes, group_of
from .filters import Filter
from .scan import Budget, Found, Scanner, Search, Tail, one_record
from .snapshot import Snapshot

CLIENT_TIMEOUT_S = 8.0
TAIL_ROWS_PER_S = 50
LIMIT_MAX = 500
DOWNLOAD_RECORDS_MAX = 1_000_000
ELECTIONS_MAX = 300
PATH_LENGTH_MAX = 2_000
"""More than any names; numbers of thousands of digits are not even reckoned with."""
ASSETS = Path(__file__).parent / "assets"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

log = structlog.get_logger("console")


class ConsoleApp:
    """The console of one broker, from the first request for it until `stop`. Made in the event loop."""

    def __init__(
        self,
        config: BrokerConfig,
        is_read_only: bool,
        role_changes: Callable[[], Awaitable[ToldChanges]],
        unready: Callable[[], str | None],
    ) -> None:
        self._config = config
        self._is_read_only = is_read_only
        self._role_changes = role_changes
        self._unready = unready
        self._assets = load_assets(ASSETS)
        self._names = own_names(config)
        self._client = Client(own_address(config), client_id="console", timeout=CLIENT_TIMEOUT_S)
        self._snapshot = Snapshot(self._client)
        self._changes = Changes(self._client, config.limits.batch_bytes_max)
        self._streams = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._app = Starlette(
            routes=[
                Route("/", self._to_page),
                Route("/console", self._to_page),
                Route("/console/", self._page),
                Route("/console/assets/{name:path}", self._asset),
                *(Route(f"/console/api/{path}", self._told(answer)) for path, answer in self._questions().items()),
                Route("/console/api/topics/{topic}/messages", self._streamed(self._messages)),
                Route("/console/api/topics/{topic}/tail", self._streamed(self._tail)),
                Route("/console/api/topics/{topic}/download", self._streamed(self._download)),
                *(
                    Route(f"/console/api/{path}", self._told(self._written(answer)), methods=["POST"])
                    for path, answer in self._changes.answers.items()
                ),
            ]
        )

    # -- one request -------------------------------------------------------------------------------------------------

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await asgi.answer(self._checked, head, reader, writer)
        finally:
            self._serving.discard(task)

    async def stop(self) -> None:
        for task in list(self._serving):
            task.cancel()
        await self._snapshot.stop()
        await self._changes.stop()
        await self._client.close()

    async def _checked(
        self,
        scope: asgi.Message,
        receive: Callable[[], Awaitable[asgi.Message]],
        send: Callable[[asgi.Message], Awaitable[None]],
    ) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        consoles = self._consoles()
        is_api = scope["path"].startswith("/console/api/")
        why = safety.why_refused(scope["method"], headers, self._names, consoles, is_page=not is_api)

        async def send_with_headers(message: asgi.Message) -> None:
            if message["type"] == "http.response.start":
                added = safety.answer_headers(self._consoles())
                if is_api:
                    added.append((b"cache-control", b"no-store"))
                origin = headers.get("origin", "").lower()
                if scope["method"] == "GET" and origin in consoles:
                    added += [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if why is not None:
            await told(403, {"error": why})(scope, receive, send_with_headers)
            return
        if len(scope["path"]) > PATH_LENGTH_MAX:
            too_long = {"error": f"the path has more than {PATH_LENGTH_MAX} characters: nothing here has such a name"}
            await told(414, too_long)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _consoles(self) -> set[str]:
        """Origins of the consoles of this cluster, as far as is known."""
        cluster = self._snapshot.cluster.value
        if cluster is None:
            return set()
        return {origin for broker in cluster.brokers for origin in safety.origins_of(broker.http_address)}

    # -- the page ----------------------------------------------------------------------------------------------------

    async def _to_page(self, request: Request) -> Response:
        return RedirectResponse("/console/", status_code=307)

    async def _page(self, request: Request) -> Response:
        await self._snapshot.watched()  # so that the page may turn to the other brokers, should this one fall silent
        return self._of_assets(request, "index.html")

    async def _asset(self, request: Request) -> Response:
        return self._of_assets(request, request.path_params["name"])

    def _of_assets(self, request: Request, name: str) -> Response:
        found = self._assets.get(name)
        if found is None:
            return told(404, {"error": "the console has no such file"})
        body, content_type, etag = found
        # Asked for anew each time, answered without a body where it is the same: an upgrade is seen at once.
        headers = {"etag": etag, "cache-control": "no-cache", "content-type": content_type}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers)

    # -- questions ---------------------------------------------------------------------------------------------------

    def _questions(self) -> dict[str, Callable[[Request], Awaitable[views.Json]]]:
        return {
            "overview": self._overview,
            "topics": self._topics,
            "topics/{topic}": self._topic,
            "topics/{topic}/records/{partition:int}/{offset:int}": self._record,
            "groups": self._groups,
            "group": self._group,
            "topic-settings": self._topic_settings,
            "elections": self._elections,
            "settings": self._settings,
        }

    def _told(self, answer: Callable[[Request], Awaitable[views.Json]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                if why_not := self._unready():
                    raise BrokerUnavailable(f"this broker is not ready: {why_not}")
                content = await answer(request)
            except LograftError as error:
                return told(status_of(error), trouble_of(error))
            return told(200, content | {"now_ms": time.time_ns() // 1_000_000, "served_by": self._config.broker.id})

        return endpoint

    async def _overview(self, request: Request) -> views.Json:
        await self._snapshot.watched()
        return views.overview(self._snapshot, time.time_ns() // 1_000_000) | {
            "read_only": self._is_read_only,
            "version": version("lograft"),
        }

    async def _topics(self, request: Request) -> views.Json:
        await self._snapshot.watched()
        return {
            "topics": views.topic_rows(self._snapshot),
            "told": views.age(self._snapshot.topics, time.time_ns() // 1_000_000),
        }

    async def _topic(self, request: Request) -> views.Json:
        await self._snapshot.watched()
        name = request.path_params["topic"]
        topic = await self._client.admin.describe_topic(name)
        behind = views.lag_by_topic(one.value for one in self._snapshot.described.values())
        return {"topic": views.topic_json(topic, self._snapshot.history, behind.get(name, []))}

    async def _record(self, request: Request) -> views.Json:
        place = request.path_params
        record = await one_record(self._client, place["topic"], place["partition"], place["offset"])
        if record is None:
            raise InvalidRequest(
                f"{place['topic'][:80]}-{place['partition']} holds no record at offset {place['offset']}: it is not "
                "there yet, was forgotten, or compaction took it out"
            )
        return {"record": rendering.whole(record)}

    async def _groups(self, request: Request) -> views.Json:
        await self._snapshot.watched()
        return {
            "groups": views.group_rows(self._snapshot.groups.value, self._snapshot.described),
            "told": views.age(self._snapshot.groups, time.time_ns() // 1_000_000),
        }

    async def _group(self, request: Request) -> views.Json:
        await self._snapshot.watched()
        described = await self._client.groups.describe(group_of(request))
        return {"group": views.group_json(described, self._snapshot.history)}

    async def _elections(self, request: Request) -> views.Json:
        await self._snapshot.watched()
        names = {topic.topic_id: topic.name for topic in self._snapshot.topics.value} | {
            CLUSTER_TOPIC_ID: CLUSTER_TOPIC
        }
        changes, unheard = await self._role_changes()
        topic, partition = request.query_params.get("topic", ""), request.query_params.get("partition", "")
        if topic:
            changes = [change for change in changes if names.get(change.topic_id) == topic]
        if partition:
            changes = [change for change in changes if str(change.number) == partition]
        return {"elections": views.elections_json(changes, names, ELECTIONS_MAX), "unheard": unheard}

    async def _topic_settings(self, request: Request) -> views.Json:
        """All that can be set for a topic."""
        return {
            "settings": [
                {"name": one.name, "default": one.default, "type": one.type, "explanation": one.doc}
                for one in CONFIG_KEYS.values()
            ]
        }

    async def _settings(self, request: Request) -> views.Json:
        settings = await self._client.admin.cluster_settings()
        return {
            "settings": [
                {"name": one.name, "value": one.value, "default": one.default, "explanation": one.explanation}
                for one in settings
            ]
        }

    # -- streams -----------------------------------------------------------------------------------------------------

    def _streamed(
        self, answer: Callable[[Request], AsyncGenerator[bytes, None]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Lines of JSON. What is wrong with the question is told before the first of them, by the status."""

        async def endpoint(request: Request) -> Response:
            most = self._config.console.streams_max
            if self._streams >= most:
                error = Overloaded(
                    f"{most} searches and tails are under way here already: end one, use another broker's console, or "
                    "raise console.streams_max"
                )
                return told(429, {"error": str(error), "reason": error.reason})
            self._streams += 1
            lines = answer(request)
            try:
                if why_not := self._unready():
                    raise BrokerUnavailable(f"this broker is not ready: {why_not}")
                first = await anext(lines, b"")
            except LograftError as error:
                self._streams -= 1
                await lines.aclose()
                return told(status_of(error), {"error": str(error), "reason": error.reason})
            except BaseException:
                self._streams -= 1
                await lines.aclose()
                raise
            return _Stream(self._pass_on(first, lines), self._stream_over, headers=stream_headers(request))

        return endpoint

    def _stream_over(self) -> None:
        self._streams -= 1

    async def _pass_on(self, first: bytes, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async with aclosing(lines):
            yield first
            try:
                async for line in lines:
                    yield line
            except LograftError as error:
                yield msgspec.json.encode({"error": str(error), "reason": error.reason}) + b"\n"

    def _search(self, request: Request, *, limit: int) -> tuple[Search, Budget]:
        asked = request.query_params
        now_ms = time.time_ns() // 1_000_000
        start, stop = (
            parse_bound(text, now_ms=now_ms) if (text := asked.get(name, "").strip()) else otherwise
            for name, otherwise in (("start", START), ("stop", END))
        )
        if "stored" in (start.base, stop.base):
            raise InvalidRequest(
                "stored offsets belong to groups, and this reads without one: see the group's own page"
            )
        search = Search(
            request.path_params["topic"],
            start,
            stop,
            newest_first=asked.get("order", "newest") != "oldest",
            partitions=numbers(asked.get("partitions", ""), "partitions"),
            limit=limit,
            wanted=Filter(asked.get("text", ""), asked.get("where", "")),
            cursor=cursor_of(asked.get("cursor", "")),
        )
        console = self._config.console
        return search, Budget(console.search_bytes_max, console.search_ms_max / 1000)

    async def _messages(self, request: Request) -> AsyncGenerator[bytes, None]:
        search, budget = self._search(request, limit=limit_of(request))
        async with aclosing(Scanner(self._client).search(search, budget)) as found:
            async for news in found:
                yield msgspec.json.encode(found_json(news)) + b"\n"

    async def _download(self, request: Request) -> AsyncGenerator[bytes, None]:
        search, budget = self._search(request, limit=limit_of(request, most=DOWNLOAD_RECORDS_MAX))
        async with aclosing(Scanner(self._client).search(search, budget)) as found:
            async for news in found:
                for record in news.records:
                    yield as_json(record)

    async def _tail(self, request: Request) -> AsyncGenerator[bytes, None]:
        asked = request.query_params
        wanted = Filter(asked.get("text", ""), asked.get("where", ""))
        chosen = numbers(asked.get("partitions", ""), "partitions")
        tail = Tail(self._client, request.path_params["topic"], chosen, wanted, rows_per_s=TAIL_ROWS_PER_S)
        async with aclosing(tail.news()) as all_news:
            async for news in all_news:
                rows = [rendering.preview(record) for record in news.records]
                yield msgspec.json.encode({"rows": rows, "seen": news.seen, "skipped": news.skipped}) + b"\n"

    # -- changes -----------------------------------------------------------------------------------------------------

    def _written(
        self, answer: Callable[[Request, Any], Awaitable[views.Json]]
    ) -> Callable[[Request], Awaitable[views.Json]]:
        async def endpoint(request: Request) -> views.Json:
            if self._is_read_only and not self._changes.only_looks(answer):
                raise ReadOnly("this console only shows: console.read_only is set, or its port is not a loopback one")
            try:
                asked = msgspec.json.decode(await request.body())
            except (ValueError, RecursionError) as error:
                raise InvalidRequest(f"the request is no JSON, or too deep: {error}") from None
            if not isinstance(asked, dict):
                raise InvalidRequest("the request is no JSON object")
            return await answer(request, asked)

        return endpoint


class ReadOnly(InvalidRequest):
    """This console changes nothing."""


class _Stream(StreamingResponse):
    """Tells when it is over, however it ends, also before its first byte."""

    def __init__(self, lines: AsyncGenerator[bytes, None], over: Callable[[], None], **facts: Any) -> None:
        super().__init__(lines, **facts)
        self._lines = lines
        self._over = over

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()
            await self._lines.aclose()


def told(status: int, content: views.Json) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


FIELD_OF = {"INVALID_TOPIC": "name", "TOPIC_EXISTS": "name", "INVALID_PARTITIONS": "partitions"} | {
    "INVALID_REPLICATION": "replication"
}
"""Of a form: at which of its fields what is wrong is told, where the error does not name a setting."""


def trouble_of(error: LograftError) -> views.Json:
    field = error.facts.get("key") or FIELD_OF.get(error.reason)
    return {"error": str(error), "reason": error.reason} | ({"field": str(field)} if field else {})


def status_of(error: LograftError) -> int:
    if isinstance(error, ReadOnly):
        return 403
    if isinstance(error, UnknownTopic | UnknownGroup):
        return 404
    return 503 if error.retriable else 400


def stream_headers(request: Request) -> dict[str, str]:
    if not request.url.path.endswith("/download"):
        return {"content-type": "application/x-ndjson"}
    name = "".join(
        mark if mark.isascii() and (mark.isalnum() or mark in "._-") else "_" for mark in request.path_params["topic"]
    )
    return {"content-type": "application/x-ndjson", "content-disposition": f'attachment; filename="{name[:100]}.jsonl"'}


def found_json(news: Found) -> views.Json:
    progress = news.progress
    said: views.Json = {
        "rows": [rendering.preview(record) for record in news.records],
        "read": progress.records_read,
        "bytes": progress.bytes_read,
        "total": progress.records_total,
        "found": progress.found,
        "unreadable": progress.unreadable,
        "oldest_ms": progress.oldest_ms,
        "newest_ms": progress.newest_ms,
    }
    if news.ended:
        said |= {"ended": news.ended, "cursor": {str(number): at for number, at in news.cursor.items()}}
    return said


def limit_of(request: Request, *, most: int = LIMIT_MAX) -> int:
    text = request.query_params.get("limit", "50")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidRequest(f"limit={text[:40]!r}: it is a number from 1 to {most}")
    return int(text)


def numbers(text: str, what: str) -> tuple[int, ...] | None:
    """A list such as 0,1,2; None for an empty one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not (part.isascii() and part.isdigit() and len(part) < 10) for part in parts):
        raise InvalidRequest(f"{what}={text[:80]!r} is no list of numbers such as 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts)) or None


def cursor_of(text: str) -> dict[int, int] | None:
    """Where an earlier search ended, as it was told: `0:120,1:77`."""
    if not text:
        return None
    found: dict[int, int] = {}
    for part in text.split(","):
        number, _, offset = part.partition(":")
        if not all(digits.isascii() and digits.isdigit() and len(digits) < 20 for digits in (number, offset)):
            raise InvalidRequest(f"cursor={text[:80]!r} is none that a search told")
        found[int(number)] = int(offset)
    return found


def own_address(config: BrokerConfig) -> str:
    """Where this broker reaches itself by gRPC."""
    host, port = host_and_port(config.listen.grpc)
    if host in ("0.0.0.0", "*"):
        return f"127.0.0.1:{port}"
    return f"[::1]:{port}" if host == "::" else config.listen.grpc


def own_names(config: BrokerConfig) -> frozenset[str]:
    """Names that browsers may call this broker by."""
    names = {name.strip().lower() for name in config.console.hosts.split(",") if name.strip()}
    return frozenset({*names, safety.host_of(config.advertise.http), safety.host_of(config.listen.http)})


def load_assets(folder: Path) -> dict[str, tuple[bytes, str, str]]:
    """Content, type and entity tag of each file, by its path below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in CONTENT_TYPES:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[path.relative_to(folder).as_posix()] = body, CONTENT_TYPES[path.suffix], etag
    return found
