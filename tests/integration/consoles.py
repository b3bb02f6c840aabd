"""The console of a running broker, asked as its page asks."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from tests.integration.brokers import Broker

OWN = {"Content-Type": "application/json", "X-Lograft-Console": "1"}


class Answer:
    """Status, headers and body of what a console said."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def told(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def rows(self) -> list[Any]:
        assert self.status == 200, self.body
        return [row for line in self.lines for row in line["rows"]]


class Console:
    """Of one broker."""

    def __init__(self, broker: Broker) -> None:
        self.port = broker.http_port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", f"/console/{path}", **headers)

    def told(self, path: str) -> Any:
        answer = self.get(f"api/{path}")
        assert answer.status == 200, answer.body
        return answer.told

    def search(self, topic: str, **asked: object) -> Answer:
        return self.get(f"api/topics/{topic}/messages?{urlencode(asked)}")

    def post(self, path: str, content: object, headers: dict[str, str] | None = None) -> Answer:
        return self.ask(
            "POST", f"/console/api/{path}", json.dumps(content).encode(), **(OWN if headers is None else headers)
        )

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[Any]]:
        """Lines as they come; closed at the end, whatever is still to come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/console/api/{path}")
            response = connection.getresponse()
            assert response.status == 200, response.read()
            yield (json.loads(line) for line in iter(response.readline, b""))
            response.close()
        finally:
            connection.close()


def group_path(group: str, what: str) -> str:
    """`what` is describe, plan or seek."""
    return f"group{'' if what == 'describe' else f'/{what}'}?name={quote(group, safe='')}"
