from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import threading
from collections.abc import Iterator

import lograft.sync
import pytest
from lograft.client import sync
from lograft.client.delivery import DeliveryErrors, DeliveryFailed
from lograft.client.position import Position
from lograft.client.records import TopicPartition
from lograft.proto import errors

from tests.unit.client.conftest import run
from tests.unit.client.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    started = FakeCluster()
    run(started.start(2))
    yield started
    run(started.stop())


def test_a_blocking_program_produces_reads_and_administers(cluster: FakeCluster) -> None:
    with lograft.sync.Client(cluster.addresses) as client:
        assert client.admin.create_topic("t", partitions=2).name == "t"
        with client.producer() as producer:
            assert producer.send("t", b"a", partition=0).result().offset == 0
            assert producer.send_and_wait("t", b"b", partition=0).offset == 1
            (told,) = producer.send_many("t", [b"c"] * 100, partition=1).result(timeout=5)
            assert told.count == 100
        assert sum(1 for _ in client.read("t")) == 102
        with client.consumer("t", auto_offset_reset="earliest") as consumer:
            seen = []
            for record in consumer:
                seen.append(record.value)
                if len(seen) == 102:
                    break
            assert sorted(seen)[:3] == [b"a", b"b", b"c"]
            assert consumer.getmany(timeout_ms=1) == {}
            assert consumer.lag() == {TopicPartition("t", 0): (0, 0.0), TopicPartition("t", 1): (0, 0.0)}
            consumer.seek(TopicPartition("t", 0), 1)
            assert consumer.getone().value == b"b"
        client.admin.delete_topic("t")
        assert client.admin.list_topics() == []


def test_many_threads_share_a_producer(cluster: FakeCluster) -> None:
    run(_with_topic(cluster))
    with lograft.sync.Client(cluster.addresses) as client, client.producer() as producer:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            deliveries = list(threads.map(lambda number: producer.send("t", b"%d" % number), range(200)))
        assert sorted(delivery.result().offset for delivery in deliveries) == list(range(200))


async def _with_topic(cluster: FakeCluster) -> None:
    cluster.topic()


def test_a_failed_record_is_told_to_who_asks_or_at_the_end(cluster: FakeCluster) -> None:
    run(_with_topic(cluster))
    cluster.fault = lambda *_: "INVALID_RECORD"
    with lograft.sync.Client(cluster.addresses) as client:
        with pytest.raises(DeliveryErrors, match="1 records were not delivered"), client.producer() as producer:
            producer.send("t", b"x")
        with client.producer() as producer, pytest.raises(DeliveryFailed):
            producer.send("t", b"x").result()
        with pytest.raises(ZeroDivisionError) as first, client:
            client.producer().send("t", b"x")
            raise ZeroDivisionError
        assert "1 records were not delivered" in first.value.__notes__[0]


def test_a_wait_that_is_too_long_says_so(cluster: FakeCluster) -> None:
    run(_with_topic(cluster))
    with lograft.sync.Client(cluster.addresses) as client, client.producer(linger_ms=50) as producer:
        delivery = producer.send("t", b"x")
        with pytest.raises(errors.RequestTimedOut, match="still under way"):
            delivery.result(timeout=0.001)
        assert delivery.result().offset == 0


def test_an_interrupted_call_is_cancelled_and_leaves_the_client_usable(
    cluster: FakeCluster, request: pytest.FixtureRequest
) -> None:
    run(_with_topic(cluster))
    # A test run in the background has SIGINT ignored, and then Python does not make an exception of it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with lograft.sync.Client(cluster.addresses) as client, client.consumer("t") as consumer:
        interrupt = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            consumer.getone()
        interrupt.join()
        with client.producer() as producer:
            producer.send("t", b"after")
        assert consumer.getone().value == b"after"


@pytest.mark.parametrize("read", ["getone", "getmany"])
def test_what_a_read_took_as_it_was_interrupted_is_handed_out_by_the_next_and_not_stored(
    cluster: FakeCluster, read: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    run(_with_topic(cluster))
    partition = TopicPartition("t", 0)
    interrupted = threading.Event()
    decode_next = Position.decode_next

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def interrupts(position: Position) -> bool:
        if position.offset == 10 and not interrupted.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            assert interrupted.wait(10)
        return decode_next(position)

    def next_offset() -> int:
        return consumer.getone().offset if read == "getone" else consumer.getmany()[partition][0].offset

    before = signal.signal(signal.SIGINT, interrupt)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with lograft.sync.Client(cluster.addresses) as client:
        with client.producer() as producer:
            for base in (0, 10):
                producer.send_many("t", [b"%d" % number for number in range(base, base + 10)]).result()
        monkeypatch.setattr(Position, "decode_next", interrupts)
        consumer = client.consumer("t", group_id="g", auto_offset_reset="earliest", auto_commit=True)
        with pytest.raises(KeyboardInterrupt), consumer:
            assert len(consumer.getmany(max_records=10)[partition]) == 10
            next_offset()
        with client.consumer("t", group_id="g", auto_commit=True) as consumer:
            assert consumer.committed(partition) == 10
            interrupted.clear()
            with pytest.raises(KeyboardInterrupt):
                next_offset()
            assert consumer.position(partition) == 10
            assert next_offset() == 10


def test_a_read_that_is_interrupted_before_the_loop_begins_it_skips_nothing(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(_with_topic(cluster))
    partition = TopicPartition("t", 0)
    with lograft.sync.Client(cluster.addresses) as client:
        with client.producer() as producer:
            producer.send_many("t", [b""] * 10)
        with client.consumer("t", auto_offset_reset="earliest") as consumer:
            assert len(consumer.getmany(max_records=5)[partition]) == 5
            loop_is_free = threading.Event()
            sync._background.loop().call_soon_threadsafe(loop_is_free.wait)
            with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
                interrupted.setattr(concurrent.futures.Future, "result", _interrupted)
                consumer.getmany()
            loop_is_free.set()
            assert [record.offset for record in consumer.getmany()[partition]] == [5, 6, 7, 8, 9]


def _interrupted(future: concurrent.futures.Future[None]) -> None:
    raise KeyboardInterrupt


def test_a_blocking_member_shares_reads_stores_and_its_callbacks_may_call_it(cluster: FakeCluster) -> None:
    run(_with_topic(cluster))
    heard: list[tuple[str, int | None]] = []
    partition = TopicPartition("t", 0)

    def on_assign(partitions: list[TopicPartition]) -> None:
        assert partitions == [partition] == list(consumer.assignment())
        heard.append(("assign", consumer.position(partition)))
        consumer.seek(partition, 2)
        with pytest.raises(errors.InvalidRequest, match="reading inside on_assign"):
            consumer.getone()
        with pytest.raises(errors.InvalidRequest, match=r"close\(\) inside on_assign"):
            consumer.close()
        with pytest.raises(errors.InvalidRequest, match="leaving the block inside on_assign"):
            consumer.__exit__(None, None, None)
        with pytest.raises(errors.InvalidRequest, match="closing the client inside on_assign"):
            client.close()

    def on_revoke(partitions: list[TopicPartition]) -> None:
        consumer.commit()
        heard.append(("revoke", consumer.committed(partition)))

    with lograft.sync.Client(cluster.addresses) as client:
        with client.producer() as producer:
            producer.send_many("t", [b"%d" % number for number in range(10)])
        consumer = client.consumer(
            "t", group_id="g", auto_offset_reset="earliest", on_assign=on_assign, on_revoke=on_revoke
        )
        with consumer:
            for record in consumer:
                if record.offset == 4:
                    consumer.commit({partition: (4, "not this one")})
                    break
            assert consumer.committed(partition) == 4
            assert consumer.lag() == {partition: (5, 1.5)}
        assert heard == [("assign", 0), ("revoke", 5)]
        assert [record.offset for record in client.read("t", "stored", group_id="g")] == [5, 6, 7, 8, 9]

        def fails(partitions: list[TopicPartition]) -> None:
            raise ValueError("mine")

        with client.consumer("t", group_id="g", on_assign=fails) as consumer:
            with pytest.raises(ValueError, match="mine"):
                consumer.getone()
            assert consumer.getone().offset == 5
    assert cluster.groups.violations == []


@pytest.mark.parametrize("ending", [SystemExit(3), StopIteration(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_a_blocking_callback_ends_with_is_told_by_the_next_read(
    cluster: FakeCluster, ending: BaseException
) -> None:
    run(_with_topic(cluster))

    def on_assign(partitions: list[TopicPartition]) -> None:
        raise ending

    with lograft.sync.Client(cluster.addresses) as client:
        with client.producer() as producer:
            producer.send_and_wait("t", b"")
        with client.consumer(
            "t", group_id="g", auto_offset_reset="earliest", on_assign=on_assign, max_handling_s=3
        ) as consumer:
            with pytest.raises(RuntimeError, match=type(ending).__name__):
                consumer.getone()
            assert consumer.getone().offset == 0


def test_a_blocking_member_that_stores_by_itself_never_passes_the_record_in_hand(cluster: FakeCluster) -> None:
    run(_with_topic(cluster))
    partition = TopicPartition("t", 0)
    with lograft.sync.Client(cluster.addresses) as client:
        with client.producer() as producer:
            producer.send_many("t", [b""] * 10)
        with (
            pytest.raises(ZeroDivisionError),
            client.consumer("t", group_id="g", auto_offset_reset="earliest", auto_commit=True) as consumer,
        ):
            for record in consumer:
                if record.offset == 6:
                    raise ZeroDivisionError
        with client.consumer(group_id="g") as asking:
            assert asking.committed(partition) == 6


def test_a_blocking_call_inside_the_loop_is_refused_rather_than_waiting_for_itself(cluster: FakeCluster) -> None:
    run(_with_topic(cluster))
    with lograft.sync.Client(cluster.addresses) as client:

        async def inside() -> None:
            client.admin.list_topics()

        with pytest.raises(errors.InvalidRequest, match="would wait for itself"):
            sync._background.run(inside())
