"""The same client for blocking programs: the same names, without `await`.

Invariants
    all clients of a process share one event loop in one background thread, which is gRPC's only one
    calls may come from any thread but that one; an interrupted call is cancelled, and leaves the client usable
    records are handed out in the caller's thread straight from what was decoded: the loop is crossed once a batch
    what an interrupted read took, and could not return any more, is the next to be handed out

A program uses either this or the asynchronous client, not both: gRPC allows one event loop a process. Never fork
after the first call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from ..proto.errors import InvalidRequest, RequestTimedOut
from . import client as asynchronous
from .admin import ClusterDescription, ClusterSetting, TopicDescription
from .consumer import Consumer as _AsyncConsumer
from .consumer import Reset
from .delivery import DeliveredRange, DeliveryErrors, RecordMetadata
from .delivery import Deliveries as _AsyncDeliveries
from .delivery import Delivery as _AsyncDelivery
from .environment import Environment
from .groups import GroupDescription, GroupListing, Seeked
from .handover import Callback
from .offset_bounds import Bound
from .offsets import Lag
from .producer import Acks, Codec, RecordToSend
from .producer import Producer as _AsyncProducer
from .progress import Offsets
from .rebalance import AT_ONCE, RebalancePlan, RebalanceProgress
from .records import Headers, Record, TopicPartition
from .recoveries import RecoveryPlan
from .seek_plan import SeekGoal, SeekPlan

__all__ = ["Admin", "Client", "Consumer", "Deliveries", "Delivery", "Groups", "Producer"]

BlockingCallback = Callable[[list[TopicPartition]], None]
_Result = TypeVar("_Result")
_READ_AT_ONCE = 2_000
_Listings = list[GroupListing]  # by this name in a class that has a method `list`


class _Background:
    """The process's one loop for blocking clients, started at first use, in a thread that ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = _new_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="lograft-client", daemon=True)
                self._thread.start()
            return self._loop

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run `work` in the loop and wait for it. If the wait is interrupted (Ctrl-C), the work is cancelled."""
        loop = self.loop()
        if threading.current_thread() is self._thread:
            work.close()
            raise InvalidRequest("a blocking call inside lograft's own event loop would wait for itself")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise
        except BaseException:
            if not future.done():
                future.cancel()
            raise

    def do(self, action: Callable[[], _Result]) -> _Result:
        """Do something in the loop that does not wait."""

        async def done() -> _Result:
            return action()

        return self.run(done())


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_background = _Background()


async def _within(delivery: _AsyncDelivery | _AsyncDeliveries, timeout_s: float | None) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            return await delivery
    except TimeoutError:
        raise RequestTimedOut(f"not settled within {timeout_s:g} s; it is still under way") from None


class Delivery:
    """A record on its way."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: _AsyncDelivery) -> None:
        self._delivery = delivery

    @property
    def done(self) -> bool:
        return self._delivery.done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Wait until it is settled, `timeout` seconds at most.

        Raises
            DeliveryFailed   see its outcome
            RequestTimedOut  it is still under way
        """
        metadata: RecordMetadata = _background.run(_within(self._delivery, timeout))
        return metadata


class Deliveries:
    """The records of one `send_many`."""

    __slots__ = ("_deliveries",)

    def __init__(self, deliveries: _AsyncDeliveries) -> None:
        self._deliveries = deliveries

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def done(self) -> bool:
        return self._deliveries.done

    def result(self, timeout: float | None = None) -> list[DeliveredRange]:
        """Wait until all are settled, `timeout` seconds at most.

        Raises
            DeliveryErrors   names what failed of them
            RequestTimedOut  some are still under way
        """
        ranges: list[DeliveredRange] = _background.run(_within(self._deliveries, timeout))
        return ranges


class Producer:
    """Sends records; see the asynchronous Producer."""

    def __init__(self, producer: _AsyncProducer) -> None:
        self._producer = producer

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Hand a record over; waits for room only. Handing over many: `send_many`, which crosses threads once."""
        send = self._producer.send(
            topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
        )
        return Delivery(_background.run(send))

    def send_and_wait(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send a record and wait until it is acknowledged."""
        return _background.run(
            self._producer.send_and_wait(
                topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
            )
        )

    def send_many(
        self,
        topic: str,
        records: Iterable[RecordToSend],
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Deliveries:
        """Hand many records over in one call, in their order."""
        given = list(records)  # in the caller's thread, whose iterable it is
        return Deliveries(
            _background.run(self._producer.send_many(topic, given, partition=partition, timestamp_ms=timestamp_ms))
        )

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all records sent so far are settled. Raises DeliveryErrors."""
        _background.run(self._producer.flush(timeout))

    def close(self) -> None:
        """Flush and stop."""
        _background.run(self._producer.close())

    @property
    def in_flight_bytes(self) -> int:
        return self._producer.in_flight_bytes

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DeliveryErrors as failures:
            if error is None:
                raise
            error.add_note(str(failures))


_in_callback = threading.local()


def _in_a_thread(callback: BlockingCallback | None) -> Callback | None:
    """A callback that runs in a thread of its own, where it may call the consumer: in the loop's it would wait for
    itself."""
    if callback is None:
        return None

    async def run_apart(partitions: list[TopicPartition]) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if done.done():
                return  # it took too long, and is not waited for any more
            if error is None:
                done.set_result(None)
            elif isinstance(error, Exception) and not isinstance(error, StopIteration):
                done.set_exception(error)
            else:  # such as SystemExit: in the loop it would end the loop, or mean something else
                stranger = RuntimeError(f"a callback ended with {error!r}")
                stranger.__cause__ = error
                done.set_exception(stranger)

        def run() -> None:
            _in_callback.is_set = True
            error: BaseException | None = None
            try:
                callback(partitions)
            except BaseException as raised:
                error = raised
            loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=run, name="lograft-callback", daemon=True).start()
        await done

    return run_apart


def _refuse_in_callback(what: str) -> None:
    if getattr(_in_callback, "is_set", False):
        raise InvalidRequest(f"{what} inside on_assign or on_revoke would wait for itself: do it after they return")


class Consumer:
    """Reads records, from one thread at a time; see the asynchronous Consumer."""

    def __init__(self, consumer: _AsyncConsumer) -> None:
        self._consumer = consumer

    def __enter__(self) -> Consumer:
        _background.run(self._consumer.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _refuse_in_callback("leaving the block")
        _background.run(self._consumer.__aexit__(kind, error, trace))

    def close(self) -> None:
        _refuse_in_callback("close()")
        _background.run(self._consumer.close())

    def __iter__(self) -> Iterator[Record]:
        _refuse_in_callback("reading")
        while True:
            position = _background.run(self._consumer.next_ready())
            ready = position.ready
            # The loop may halt the position, or give it other records, at any time: what is handed out is counted by
            # `at` alone, and who wants the partition waits until we are back in `next_ready`.
            while position.ready is ready and not position.halted and (at := position.at) < len(ready):
                position.at = at + 1
                yield ready[at]

    def getone(self) -> Record:
        """The next record, however long it takes."""
        _refuse_in_callback("reading")
        while True:
            position = _background.run(self._consumer.next_ready())
            ready = position.ready
            if not position.halted and (at := position.at) < len(ready):  # as in an iteration
                position.at = at + 1
                return ready[at]

    def getmany(self, timeout_ms: float = 1000, max_records: int | None = None) -> dict[TopicPartition, list[Record]]:
        """The records that are there; {} if there are none within `timeout_ms`."""
        _refuse_in_callback("reading")
        taken: dict[TopicPartition, list[Record]] = {}
        is_awaited = True

        async def take() -> None:
            taken.update(await self._consumer.getmany(timeout_ms, max_records))
            if not is_awaited:
                put_back()

        def put_back() -> None:
            if taken:
                self._consumer.put_back(taken)
                taken.clear()

        try:
            _background.run(take())
            return taken
        except BaseException:
            # Interrupted, and the loop may have taken records just now; or be about to, as it hears of a cancellation
            # only after the first step of what it had not begun.
            is_awaited = False
            _background.loop().call_soon_threadsafe(put_back)
            raise

    def subscribe(self, *topics: str, pattern: str | None = None) -> None:
        _background.do(lambda: self._consumer.subscribe(*topics, pattern=pattern))

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        chosen = list(partitions)
        _background.do(lambda: self._consumer.assign(chosen))

    def assignment(self) -> tuple[TopicPartition, ...]:
        return _background.do(self._consumer.assignment)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        _background.do(lambda: self._consumer.seek(partition, offset))

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        _background.run(self._consumer.seek_to_beginning(*partitions))

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        _background.run(self._consumer.seek_to_end(*partitions))

    def seek_to_time(self, when: datetime | int | str, *partitions: TopicPartition) -> None:
        _background.run(self._consumer.seek_to_time(when, *partitions))

    def position(self, partition: TopicPartition) -> int:
        return _background.run(self._consumer.position(partition))

    def lag(self) -> dict[TopicPartition, Lag]:
        return _background.run(self._consumer.lag())

    def pause(self, *partitions: TopicPartition) -> None:
        _background.do(lambda: self._consumer.pause(*partitions))

    def resume(self, *partitions: TopicPartition) -> None:
        _background.do(lambda: self._consumer.resume(*partitions))

    def paused(self) -> tuple[TopicPartition, ...]:
        return _background.do(self._consumer.paused)

    def commit(self, offsets: Offsets | None = None) -> None:
        _background.run(self._consumer.commit(offsets))

    def committed(self, partition: TopicPartition) -> int | None:
        return _background.run(self._consumer.committed(partition))


class Admin:
    """Administration of a cluster; see the asynchronous Admin."""

    def __init__(self, client: asynchronous.Client) -> None:
        self._admin = client.admin

    def create_topic(
        self,
        name: str,
        partitions: int = 3,
        replication: int | None = None,
        config: dict[str, str] | None = None,
        exist_ok: bool = False,
        validate_only: bool = False,
    ) -> TopicDescription:
        return _background.run(self._admin.create_topic(name, partitions, replication, config, exist_ok, validate_only))

    def grow_topic(self, name: str, partitions: int, *, validate_only: bool = False) -> TopicDescription:
        return _background.run(self._admin.grow_topic(name, partitions, validate_only=validate_only))

    def alter_topic(
        self,
        name: str,
        config: Mapping[str, str] | None = None,
        *,
        unset: Iterable[str] = (),
        validate_only: bool = False,
    ) -> TopicDescription:
        return _background.run(self._admin.alter_topic(name, config, unset=unset, validate_only=validate_only))

    def delete_topic(self, name: str) -> None:
        _background.run(self._admin.delete_topic(name))

    def list_topics(self, *, internal: bool = False) -> list[TopicDescription]:
        return _background.run(self._admin.list_topics(internal=internal))

    def describe_topic(self, name: str) -> TopicDescription:
        return _background.run(self._admin.describe_topic(name))

    def trim_topic(self, name: str, to: Bound | str | int, partitions: Iterable[int] | None = None) -> dict[int, int]:
        return _background.run(self._admin.trim_topic(name, to, partitions))

    def describe_cluster(self) -> ClusterDescription:
        return _background.run(self._admin.describe_cluster())

    def move_partition(self, topic: str, partition: int, broker_ids: Sequence[int]) -> None:
        _background.run(self._admin.move_partition(topic, partition, broker_ids))

    def plan_rebalance(self) -> RebalancePlan:
        return _background.run(self._admin.plan_rebalance())

    def rebalance(
        self,
        plan: RebalancePlan | None = None,
        *,
        at_once: int = AT_ONCE,
        on_progress: Callable[[RebalanceProgress], None] | None = None,
    ) -> RebalanceProgress:
        return _background.run(self._admin.rebalance(plan, at_once=at_once, on_progress=on_progress))

    def plan_recovery(
        self, topic: str, partition: int, broker_id: int | None = None, *, despite_repair: bool = False
    ) -> RecoveryPlan:
        return _background.run(self._admin.plan_recovery(topic, partition, broker_id, despite_repair=despite_repair))

    def recover_partition(
        self,
        topic: str,
        partition: int,
        accepted: RecoveryPlan,
        broker_id: int | None = None,
        *,
        by: str = "",
        despite_repair: bool = False,
    ) -> None:
        _background.run(
            self._admin.recover_partition(topic, partition, accepted, broker_id, by=by, despite_repair=despite_repair)
        )

    def drain_broker(self, broker_id: int) -> None:
        _background.run(self._admin.drain_broker(broker_id))

    def undrain_broker(self, broker_id: int) -> None:
        _background.run(self._admin.undrain_broker(broker_id))

    def remove_broker(self, broker_id: int) -> list[str]:
        return _background.run(self._admin.remove_broker(broker_id))

    def cluster_settings(self) -> list[ClusterSetting]:
        return _background.run(self._admin.cluster_settings())

    def change_cluster_setting(self, name: str, value: str) -> ClusterSetting:
        return _background.run(self._admin.change_cluster_setting(name, value))

    def transfer_leadership(self, topic: str, partition: int, broker_id: int) -> int:
        return _background.run(self._admin.transfer_leadership(topic, partition, broker_id))


class Groups:
    """The consumer groups of a cluster; see the asynchronous Groups."""

    def __init__(self, client: asynchronous.Client) -> None:
        self._groups = client.groups

    def list(self) -> _Listings:
        return _background.run(self._groups.list())

    def describe(self, group: str) -> GroupDescription:
        return _background.run(self._groups.describe(group))

    def resolve(self, topic: str, bound: Bound) -> dict[TopicPartition, int]:
        return _background.run(self._groups.resolve(topic, bound))

    def seek(self, group: str, offsets: Mapping[TopicPartition, int] | SeekPlan, validate_only: bool = False) -> Seeked:
        return _background.run(self._groups.seek(group, offsets, validate_only))

    def plan_seek(
        self,
        group: str,
        to: SeekGoal | datetime | str | int,
        topics: Iterable[str] | None = None,
        partitions: Iterable[int] | None = None,
    ) -> SeekPlan:
        named = topics if topics is None or isinstance(topics, str) else tuple(topics)
        numbers = None if partitions is None else tuple(partitions)
        return _background.run(self._groups.plan_seek(group, to, named, numbers))

    def delete(self, group: str) -> None:
        _background.run(self._groups.delete(group))


class Client:
    """A client of the cluster found at `bootstrap`; see the asynchronous Client. Use it as `with`."""

    def __init__(
        self,
        bootstrap: str | Iterable[str] = asynchronous.DEFAULT_ADDRESS,
        *,
        client_id: str | None = None,
        timeout: float = 30.0,
        environment: Environment | None = None,
    ) -> None:
        addresses = bootstrap if isinstance(bootstrap, str) else list(bootstrap)
        self._client = _background.do(
            lambda: asynchronous.Client(addresses, client_id=client_id, timeout=timeout, environment=environment)
        )
        self.admin = Admin(self._client)
        self.groups = Groups(self._client)

    def __enter__(self) -> Client:
        _background.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _refuse_in_callback("closing the client")
        _background.run(self._client.__aexit__(kind, error, trace))

    def close(self) -> None:
        _refuse_in_callback("closing the client")
        _background.run(self._client.close())

    def producer(
        self,
        *,
        acks: Acks = "quorum",
        linger_ms: float = 5,
        max_batch_bytes: int = 1 << 20,
        compression: Codec | None = "lz4",
        idempotent: bool = True,
        max_in_flight_bytes: int = 64 << 20,
    ) -> Producer:
        return Producer(
            _background.do(
                lambda: self._client.producer(
                    acks=acks,
                    linger_ms=linger_ms,
                    max_batch_bytes=max_batch_bytes,
                    compression=compression,
                    idempotent=idempotent,
                    max_in_flight_bytes=max_in_flight_bytes,
                )
            )
        )

    def consumer(
        self,
        *topics: str,
        group_id: str | None = None,
        pattern: str | None = None,
        auto_offset_reset: Reset = "latest",
        auto_commit: bool = False,
        auto_commit_interval_s: float = 5.0,
        instance_id: str | None = None,
        session_timeout_s: float = 10.0,
        max_handling_s: float | None = 300.0,
        max_poll_records: int = 500,
        prefetch_bytes: int = 8 << 20,
        on_assign: BlockingCallback | None = None,
        on_revoke: BlockingCallback | None = None,
    ) -> Consumer:
        """See the asynchronous client. Callbacks are plain functions here, run in a thread of their own: they may call
        the consumer, but not read from it or close it. The first may come before `with ... as consumer` has given the
        consumer its name: callbacks that use it want `consumer = client.consumer(...)`, then `with consumer`."""
        return Consumer(
            _background.do(
                lambda: self._client.consumer(
                    *topics,
                    group_id=group_id,
                    pattern=pattern,
                    auto_offset_reset=auto_offset_reset,
                    auto_commit=auto_commit,
                    auto_commit_interval_s=auto_commit_interval_s,
                    instance_id=instance_id,
                    session_timeout_s=session_timeout_s,
                    max_handling_s=max_handling_s,
                    max_poll_records=max_poll_records,
                    prefetch_bytes=prefetch_bytes,
                    on_assign=_in_a_thread(on_assign),
                    on_revoke=_in_a_thread(on_revoke),
                )
            )
        )

    def read(
        self,
        topic: str,
        start: Bound | str | int = "start",
        stop: Bound | str | int = "end",
        partitions: Iterable[int] | None = None,
        *,
        group_id: str | None = None,
    ) -> Iterator[Record]:
        """Replay a topic between two pinned bounds."""
        chosen = None if partitions is None else list(partitions)
        records = self._client.read(topic, start, stop, chosen, group_id=group_id)
        try:
            while piece := _background.run(_piece(records)):
                yield from piece
        finally:
            _background.run(_end(records))


async def _piece(records: AsyncIterator[Record]) -> list[Record]:
    piece: list[Record] = []
    async for record in records:
        piece.append(record)
        if len(piece) >= _READ_AT_ONCE:
            break
    return piece


async def _end(records: AsyncIterator[Record]) -> None:
    close = getattr(records, "aclose", None)
    if close is not None:
        await close()
