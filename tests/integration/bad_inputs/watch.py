"""While somebody misbehaves: is the broker's memory bounded, does its loop turn, and are others served?

A `Watch` runs for the length of a `with`: a thread of its own produces and fetches a record again and again, as a
well-behaved client does, and asks for health over HTTP; at the end it asserts what its bounds say.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Self

import grpc
import psutil
from lograft.v1 import broker_service_pb2 as pb
from lograft.v1 import broker_service_pb2_grpc

from tests.integration.brokers import Broker, a_batch

GROWTH_BYTES_MAX = 64 << 20
SERVICE_SECONDS_MAX = 1.0
LOOP_SECONDS_MAX = 0.5
PAUSE_SECONDS = 0.02


class Watch:
    """Over one broker that leads `topic`, while something is done to it."""

    def __init__(self, broker: Broker, topic: str, *, growth_bytes_max: int = GROWTH_BYTES_MAX) -> None:
        assert broker.process is not None
        self._broker = broker
        self._topic = topic
        self._process = psutil.Process(broker.process.pid)
        self._growth_bytes_max = growth_bytes_max
        self._ended = threading.Event()
        self._failure = ""
        self.rounds = 0
        self.worst_service_s = 0.0
        self.worst_health_s = 0.0
        self.largest_bytes = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._began_bytes = self._process.memory_info().rss
        self._errors_before = len(_odd_events(self._broker))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + 5
        while error is None and self.rounds < 3 and not self._failure and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        self._ended.set()
        self._thread.join(timeout=60)
        if error is not None:
            return
        assert not self._failure, self._failure
        assert self._broker.is_running
        assert self.rounds >= 3, "the well-behaved client was not served"
        slack = _slack()
        assert self.worst_service_s < SERVICE_SECONDS_MAX * slack, f"another client waited {self.worst_service_s:.2f} s"
        assert self.worst_health_s < LOOP_SECONDS_MAX * slack, f"health was told after {self.worst_health_s:.2f} s"
        grew = self.largest_bytes - self._began_bytes
        assert grew < self._growth_bytes_max, f"the broker grew by {grew >> 20} MiB"
        odd = _odd_events(self._broker)[self._errors_before :]
        assert not odd, f"the broker's log tells of a failure: {odd[:3]}"

    def _serve(self) -> None:
        try:
            with grpc.insecure_channel(
                self._broker.address, options=[("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
                grpc.channel_ready_future(channel).result(timeout=20)
                while not self._ended.is_set():
                    self._round(stub)
                    self._ended.wait(PAUSE_SECONDS)
        except Exception as error:
            self._failure = f"the well-behaved client failed: {error!r}"

    def _round(self, stub: broker_service_pb2_grpc.BrokerServiceStub) -> None:
        value = b"round %d" % self.rounds
        began = time.monotonic()
        entry = pb.ProduceRequest.Entry(topic=self._topic, partition=0, batch=a_batch(value))
        while True:
            (response,) = stub.Produce(iter([pb.ProduceRequest(request_id=1, entries=[entry])]), timeout=20)
            (result,) = response.results
            if not result.error.retriable or time.monotonic() - began > 20:
                break
            time.sleep(PAUSE_SECONDS)  # as every client does
        assert not result.error.reason, result.error
        asked = pb.FetchRequest.Partition(topic=self._topic, partition=0, offset=result.base_offset)
        while True:
            (fetched,) = stub.Fetch(pb.FetchRequest(partitions=[asked], max_bytes=1), timeout=20).partitions
            if not fetched.error.retriable or time.monotonic() - began > 20:
                break
            time.sleep(PAUSE_SECONDS)
        assert value in fetched.batches, fetched.error
        served = time.monotonic()
        status, _ = self._broker.http("/healthz")
        assert status == 200
        self.worst_service_s = max(self.worst_service_s, served - began)
        self.worst_health_s = max(self.worst_health_s, time.monotonic() - served)
        self.largest_bytes = max(self.largest_bytes, self._process.memory_info().rss)
        self.rounds += 1


def _slack() -> float:
    """How much longer things may take here than on a machine that does nothing else."""
    return max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def _odd_events(broker: Broker) -> list[dict[str, object]]:
    return [event for event in broker.events() if "raw" in event or event.get("level") in ("error", "critical")]


def metric(broker: Broker, name: str) -> float:
    """The value of a metric without labels."""
    for line in broker.http("/metrics")[1].splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"there is no metric {name}")
