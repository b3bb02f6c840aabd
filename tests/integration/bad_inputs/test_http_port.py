"""The HTTP port: a few fixed routes, whatever is asked. Rows 4, 5, 6 and 43 of the list of bad inputs."""

from __future__ import annotations

import contextlib
import time

import pytest

from tests.integration.bad_inputs.strangers import are_closed, connect, crowd, ended
from tests.integration.bad_inputs.watch import Watch
from tests.integration.brokers import Broker


def asked(broker: Broker, request: bytes) -> int:
    """Status of the answer; 0 if the connection is closed without one."""
    with connect(broker.http_port) as client:
        client.sendall(request)
        said = ended(client)
    return int(said.split()[1]) if said else 0


REQUESTS = {
    "above the root": (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
    "above a route": (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
    "encoded": (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n\r\n", 404),
    "absolute": (b"GET http://other/metrics HTTP/1.1\r\n\r\n", 404),
    "zero byte": (b"GET /metrics\0 HTTP/1.1\r\n\r\n", 404),
    "post": (b"POST /metrics HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n", 405),
    "put": (b"PUT /readyz HTTP/1.1\r\n\r\n", 405),
    "connect": (b"CONNECT other:80 HTTP/1.1\r\n\r\n", 405),
    "trace": (b"TRACE / HTTP/1.1\r\n\r\n", 405),
    "no method": (b"\r\n\r\n", 405),
    "nonsense": (b"\xff\x00\x16\x03\r\n\r\n", 405),
    "long head": (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    "many heads": (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n", 431),
}


@pytest.mark.parametrize(("request_bytes", "status"), REQUESTS.values(), ids=REQUESTS)
def test_what_is_no_route_gets_its_status_and_reaches_no_file(
    broker: Broker, watch: Watch, request_bytes: bytes, status: int
) -> None:
    with watch:
        # The status may be lost with the connection where more was sent than is ever read.
        assert asked(broker, request_bytes) in ((status,) if len(request_bytes) < 8_000 else (status, 0))


def test_body_of_a_gigabyte_is_not_read(broker: Broker, watch: Watch) -> None:
    with watch, connect(broker.http_port) as client:
        client.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 1 << 30:
                client.sendall(bytes(1 << 20))
                sent += 1 << 20
        assert sent < 64 << 20  # what fits into buffers before the closing is noticed


@pytest.mark.long
def test_one_byte_a_moment_has_five_seconds(broker: Broker, watch: Watch) -> None:
    with watch, connect(broker.http_port) as client:
        began = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(100):
                client.sendall(b"G")
                time.sleep(0.1)
        assert 4 < time.monotonic() - began < 9


def test_five_hundred_silent_connections_keep_nobody_from_health(broker: Broker, watch: Watch) -> None:
    with watch, crowd(broker.http_port, 500) as strangers:
        assert broker.http("/healthz")[0] == 200
        assert broker.http("/metrics")[0] == 200
        assert are_closed(strangers[:400], 5) == 400


def test_who_asks_for_metrics_without_reading_takes_no_memory(broker: Broker, watch: Watch) -> None:
    with watch:
        clients = [connect(broker.http_port) for _ in range(200)]
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        time.sleep(0.5)
        for client in clients:
            client.close()
