"""Real broker processes on free ports of this machine, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from lograft.proto.errors import BY_REASON
from lograft.proto.record_batch import Compression, NewRecord, decode, encode, split
from lograft.v1 import admin_service_pb2 as admin_pb
from lograft.v1 import admin_service_pb2_grpc, broker_service_pb2_grpc, groups_service_pb2_grpc
from lograft.v1 import broker_service_pb2 as pb

from tests.ports import free_ports

T = TypeVar("T")
SECRET = "a secret of the integration tests"
READY_SECONDS_MAX = 20.0
HEARS_CTRL_C = (
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
)
"""To be put before a command: tests run in the background have SIGINT ignored, and what they start inherits that."""
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", 32 << 20),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class Broker:
    """One broker process: its configuration file, its log, and a channel to it."""

    def __init__(
        self,
        broker_id: int,
        directory: Path,
        ports: tuple[int, int, int],
        peers: dict[int, int],
        kafka_port: int | None = None,
    ) -> None:
        self.broker_id = broker_id
        self.directory = directory
        self.grpc_port, self.peer_port, self.http_port = ports
        self.address = f"127.0.0.1:{self.grpc_port}"
        self.kafka_address = f"127.0.0.1:{kafka_port}"
        kafka_line = "" if kafka_port is None else f'kafka = "{self.kafka_address}"'
        self.data_directory = directory / f"broker-{broker_id}"
        self.config_path = directory / f"broker-{broker_id}.toml"
        self.log_path = directory / f"broker-{broker_id}.log"
        self.process: subprocess.Popen[bytes] | None = None
        peer_lines = "\n".join(f'{other} = "127.0.0.1:{port}"' for other, port in peers.items())
        self.config_path.write_text(
            f"""
[broker]
id = {broker_id}
data_directory = "{self.data_directory}"
[listen]
grpc = "{self.address}"
peer = "127.0.0.1:{self.peer_port}"
http = "127.0.0.1:{self.http_port}"
{kafka_line}
[cluster]
secret = "{SECRET}"
[cluster.peers]
{peer_lines}
"""
        )
        self._channel: grpc.Channel | None = None

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        return self._channel

    @property
    def records(self) -> broker_service_pb2_grpc.BrokerServiceStub:
        return broker_service_pb2_grpc.BrokerServiceStub(self.channel)

    @property
    def admin(self) -> admin_service_pb2_grpc.AdminServiceStub:
        return admin_service_pb2_grpc.AdminServiceStub(self.channel)

    @property
    def groups(self) -> groups_service_pb2_grpc.GroupsServiceStub:
        return groups_service_pb2_grpc.GroupsServiceStub(self.channel)

    def produce(
        self,
        topic: str,
        batch: bytes,
        *,
        partition: int = 0,
        acks: int = pb.ACKS_QUORUM,
        topic_id: str = "",
        first_open: int | None = None,
    ) -> pb.ProduceResponse.Result:
        """Send one batch by a stream of its own; its result."""
        entry = pb.ProduceRequest.Entry(topic=topic, partition=partition, topic_id=topic_id, batch=batch)
        if first_open is not None:
            entry.first_open = first_open
        request = pb.ProduceRequest(request_id=7, acks=acks, entries=[entry])  # type: ignore[arg-type]
        (response,) = self.records.Produce(iter([request]), timeout=15)
        assert response.request_id == 7 and len(response.results) == 1
        return response.results[0]

    def fetch(
        self, topic: str, offset: int = 0, *, partition: int = 0, max_bytes: int = 0, max_wait_ms: int = 0
    ) -> pb.FetchResponse.Partition:
        """One partition's part of the answer."""
        asked = pb.FetchRequest.Partition(topic=topic, partition=partition, offset=offset)
        request = pb.FetchRequest(partitions=[asked], max_bytes=max_bytes, max_wait_ms=max_wait_ms)
        (answer,) = self.records.Fetch(request, timeout=40).partitions
        return answer

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        """Every record's value, from the start to the committed end."""
        found: list[bytes | None] = []
        offset = 0
        deadline = time.monotonic() + 30
        while True:
            answer = self.fetch(topic, offset, partition=partition)
            # Elected a moment ago, it knows soon what is committed.
            if answer.error.reason == "NO_LEADER" and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            assert not answer.error.reason, answer.error
            if not answer.batches:
                return found
            for _, batch in split(answer.batches):
                found += [record.value for record in decode(batch)]
            offset = answer.next_offset

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lograft.node", "-c", str(self.config_path)], stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As a crash of the process would: nothing is flushed, nobody is told."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Cleanly. Returns the exit code."""
        return self._end(signal.SIGTERM)

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, with_signal: signal.Signals) -> int:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(timeout=20)

    def http(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def is_ready(self) -> bool:
        try:
            return self.http("/readyz")[0] == 200
        except OSError:
            return False

    def events(self) -> list[dict[str, Any]]:
        """What the broker logged, line by line; a line that is none of ours under the key `raw`."""
        found = []
        for line in self.log_path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": "", "raw": line})
        return found


class Brokers:
    """A cluster of them."""

    def __init__(self, directory: Path, count: int = 3, *, settings: str = "", kafka: bool = False) -> None:
        """`settings`: lines of TOML for every broker's configuration file. `kafka`: with a door for Kafka clients."""
        ports = free_ports((4 if kafka else 3) * count)
        peers = {broker_id: ports[3 * broker_id + 1] for broker_id in range(count)}
        self.all = [
            Broker(
                broker_id,
                directory,
                tuple(ports[3 * broker_id : 3 * broker_id + 3]),  # type: ignore[arg-type]
                peers,
                ports[3 * count + broker_id] if kafka else None,
            )
            for broker_id in range(count)
        ]
        for broker in self.all:
            with broker.config_path.open("a") as config:
                config.write(settings)

    def __getitem__(self, broker_id: int) -> Broker:
        return self.all[broker_id]

    @property
    def running(self) -> list[Broker]:
        return [broker for broker in self.all if broker.is_running]

    def start(self) -> None:
        for broker in self.all:
            if not broker.is_running:
                broker.start()
        self.await_ready()

    def await_ready(self) -> None:
        for broker in self.all:
            try:
                eventually(broker.is_ready, seconds=READY_SECONDS_MAX)
            except AssertionError:
                raise AssertionError(
                    f"broker {broker.broker_id} is not ready; its log ends:\n" + broker.log_path.read_text()[-4000:]
                ) from None

    def stop(self) -> None:
        for broker in self.all:
            if broker.is_running:
                broker.resume()
                assert broker.process is not None
                broker.process.terminate()
        for broker in self.all:
            broker.stop()

    def create_topic(
        self, name: str, partitions: int = 1, replication: int = 0, config: dict[str, str] | None = None
    ) -> admin_pb.TopicDescription:
        request = admin_pb.CreateTopicRequest(
            name=name, partitions=partitions, replication=replication, topic_id=os.urandom(16).hex(), config=config
        )

        def create() -> admin_pb.TopicDescription | None:
            try:
                return self.running[0].admin.CreateTopic(request, timeout=20).topic
            except grpc.RpcError as error:
                if not may_pass(error):
                    raise AssertionError(f"topic {name!r} was not created: {error}") from error
                return None

        return eventually(create, seconds=30)  # its id makes another try the same request

    def leader_of(self, topic: str, partition: int = 0) -> Broker:
        """The broker that leads, once all running ones agree, and it knows what is committed."""

        said: dict[int, int] = {}

        def agreed() -> Broker | None:
            said.clear()
            for broker in self.running:
                metadata = broker.records.Metadata(pb.MetadataRequest(topics=[topic]), timeout=5)
                said.update((broker.broker_id, found.partitions[partition].leader_id) for found in metadata.topics)
            ids = {*said.values()}
            if len(ids) != 1 or ids == {-1}:
                return None
            leader = self.all[ids.pop()]
            if (
                not leader.is_running
                or leader.fetch(topic, partition=partition, max_bytes=1).error.reason == "NO_LEADER"
            ):
                return None
            return leader

        try:
            return eventually(agreed)
        except AssertionError as error:
            logs = "".join(f"\n{broker.broker_id}: {entry}" for broker in self.all for entry in broker.events()[-12:])
            raise AssertionError(f"who leads {topic}-{partition}, by broker: {said}; {error}{logs}") from error


def a_batch(*values: bytes, key: bytes | None = None, timestamp_ms: int = 1_700_000_000_000, **producer: int) -> bytes:
    """Records with these values, in one batch."""
    records = [NewRecord(timestamp_ms + number, key, value) for number, value in enumerate(values)]
    return encode(records, compression=Compression.NONE, **producer)


def may_pass(error: grpc.RpcError) -> bool:
    """Is it an error of which another try may be rid?"""
    if rpc_status.from_call(error) is None:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return BY_REASON[error_info(error)[1]].retriable


def error_info(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """gRPC code, reason and facts of a call that failed with google.rpc.Status."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = ErrorInfo()
    assert status.details[0].Unpack(info) and info.domain == "lograft"
    return error.code(), info.reason, dict(info.metadata)


def eventually(what: Callable[[], T | None], seconds: float = 15.0) -> T:
    """What `what` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = what()
        except grpc.RpcError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"still failing after {seconds} s: {error}") from error
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)
