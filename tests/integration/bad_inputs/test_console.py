"""The console's part of the HTTP port: whoever asks it for much, or badly, takes nothing from anybody else."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from lograft.proto.record_batch import Compression, NewRecord, encode

from tests.integration.bad_inputs.strangers import connect, crowd, ended
from tests.integration.bad_inputs.watch import Watch
from tests.integration.brokers import Broker, a_batch, eventually
from tests.integration.consoles import Console

BIG = "big-for-the-console"


@pytest.fixture(scope="module")
def console(lone_brokers: object) -> Console:
    """Asked once: so that what it is made of is imported, and is no growth."""
    console = Console(lone_brokers[0])  # type: ignore[index]
    console.told("overview")
    return console


REQUESTS = {
    "no host": (b"GET /console/ HTTP/1.1\r\n\r\n", 400),
    "other name": (b"GET /console/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    "above": (b"GET /console/assets/../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "above, encoded": (b"GET /console/assets/%2e%2e%2f%2e%2e%2fapp.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "zero byte": (b"GET /console/assets/%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "no topic": (b"GET /console/api/topics/%ff%fe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
    "long head": (b"GET /console/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    "long query": (
        b"GET /console/api/topics/t/messages?text=" + b"x" * 5_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        400,
    ),
    "huge body": (b"POST /console/api/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1073741824\r\n\r\n", 413),
    "two lengths": (
        b"POST /console/api/x HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        403,
    ),
    "huge offset": (
        b"GET /console/api/topics/well-behaved/records/0/" + b"9" * 400 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        400,
    ),
    "huge partition": (
        b"GET /console/api/topics/well-behaved/records/" + b"9" * 30 + b"/0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize(("request_bytes", "status"), REQUESTS.values(), ids=REQUESTS)
def test_what_is_asked_badly_gets_its_status(
    broker: Broker, console: Console, watch: Watch, request_bytes: bytes, status: int
) -> None:
    with watch, connect(broker.http_port) as client:
        client.sendall(request_bytes)
        said = ended(client)
        assert (int(said.split()[1]) if said else 0) in ((status,) if len(request_bytes) < 8_000 else (status, 0))


def test_deep_json_is_refused(broker: Broker, console: Console, watch: Watch) -> None:
    with watch:
        for body in (b"[" * 500_000, b'{"records":' * 100_000, b'{"records": [' + b'{"a":' * 200_000):
            answer = console.ask("POST", "/console/api/topics/t/records", body, Content_Type="application/json")
            assert answer.status == 403
            own = {"Content-Type": "application/json", "X-Lograft-Console": "1"}
            assert console.ask("POST", "/console/api/topics/t/records", body, **own).status == 400


@pytest.mark.long
def test_a_body_that_trickles_has_ten_seconds(broker: Broker, console: Console, watch: Watch) -> None:
    with watch, connect(broker.http_port) as client:
        client.sendall(b"POST /console/api/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(300):
                client.sendall(b"x")
                time.sleep(0.1)
        assert 8 < time.monotonic() - began < 15


def test_strangers_that_hold_every_place_keep_nobody_from_the_console(
    broker: Broker, console: Console, watch: Watch
) -> None:
    with watch, crowd(broker.http_port, 300):
        assert console.get("api/overview").status == 200


@pytest.fixture(scope="module")
def big(lone_brokers: object) -> str:
    """Sixty megabytes, of which half unpack to far more."""
    brokers = lone_brokers
    brokers.create_topic(BIG)  # type: ignore[attr-defined]
    leader = eventually(lambda: brokers.leader_of(BIG))  # type: ignore[attr-defined]
    plain = encode([NewRecord(1, b"k", b"%d " % n + b"v" * 500) for n in range(1_500)], compression=Compression.NONE)
    packed = encode(
        [NewRecord(1, b"k", b'{"a": [%s0]}' % (b"0," * 4_000)) for _ in range(1_000)], compression=Compression.LZ4
    )
    for _ in range(40):
        assert not leader.produce(BIG, plain).error.reason
        assert not leader.produce(BIG, packed).error.reason
    return BIG


def test_searches_through_all_of_a_large_topic_leave_the_loop_its_turns(
    broker: Broker, console: Console, big: str
) -> None:
    answers = []

    def search(**asked: str) -> None:
        answers.append(console.search(big, limit=500, **asked).lines[-1])

    searches = [
        threading.Thread(target=search, kwargs=asked)
        for asked in ({"text": "nowhere"}, {"where": "a.0 = 7", "order": "oldest"}, {"text": "/(x+)+y/"})
    ]
    with Watch(broker, "well-behaved", growth_bytes_max=400 << 20):
        for thread in searches:
            thread.start()
        for thread in searches:
            thread.join()
    assert len(answers) == 3
    for last in answers:
        assert last["ended"] in ("all", "time", "bytes") and last["found"] == 0 and last["read"] > 1_000


def test_a_batch_made_to_inflate_is_left_out_and_said_to_be(lone_brokers: object, console: Console) -> None:
    brokers, topic = lone_brokers, "inflates"
    brokers.create_topic(topic)  # type: ignore[attr-defined]
    leader = eventually(lambda: brokers.leader_of(topic))  # type: ignore[attr-defined]
    many = encode([NewRecord(1, None, b"")] * 400_000, compression=Compression.ZSTD)
    large = encode([NewRecord(1, None, bytes(40 << 20))], compression=Compression.ZSTD)
    for batch in (a_batch(b"before"), many, a_batch(b"between"), large, a_batch(b"after")):
        assert not leader.produce(topic, batch).error.reason
    with Watch(leader, "well-behaved", growth_bytes_max=200 << 20):
        for order, wanted in (("oldest", ["before", "between", "after"]), ("newest", ["after", "between", "before"])):
            answer = console.search(topic, order=order)
            assert [row["value"]["text"] for row in answer.rows] == wanted
            assert answer.lines[-1]["unreadable"] >= 2 and answer.lines[-1]["ended"] == "all"


def test_a_search_that_nobody_waits_for_any_more_ends(broker: Broker, console: Console, big: str) -> None:
    assert broker.process is not None
    for _ in range(20):
        with connect(broker.http_port) as client:
            request = f"GET /console/api/topics/{big}/messages?text=nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            client.sendall(request.encode())
            time.sleep(0.05)
    # All places for searches are free again.
    assert eventually(lambda: console.search(big, limit=1).status == 200, seconds=10)


def test_who_downloads_without_reading_takes_no_memory(broker: Broker, console: Console, big: str) -> None:
    with Watch(broker, "well-behaved", growth_bytes_max=200 << 20):
        strangers = []
        for _ in range(6):
            stranger = socket.create_connection(("127.0.0.1", broker.http_port))
            request = f"GET /console/api/topics/{big}/download?limit=1000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            stranger.sendall(request.encode())
            strangers.append(stranger)
        time.sleep(3)
        for stranger in strangers:
            stranger.close()
    assert json.loads(console.get("api/overview").body)["cluster"]
