"""Apache Kafka in KRaft mode: three nodes, each broker and controller, min.insync.replicas=2, by jars from Maven.

The heap is bounded, since the page cache is what a Kafka broker lives on. With `flush` topics have flush.messages=1:
every append is fsynced, on each replica, before it counts.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_ports

from .figures import PRODUCE, REQUESTS
from .processes import CannotBeHad, Failed, Servers, run
from .system import LARGE_BYTES, Cluster, Lane, System, installed, need_program
from .tool_output import kafka_consumer_performance, kafka_producer_performance
from .work import IN_FLIGHT_BYTES, PARTITIONS

VERSION = "4.3.1"
"""The newest release whose tools are on Maven Central too."""
JAVA_LEAST = 17
HEAP = "-Xmx512m"
# As its own start script has them.
JVM = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
LOGGING = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
PERF = "kafka-producer-perf-test"
PERF_LARGE_BATCHES = "kafka-producer-perf-test, batch.size=1 MiB"
CONSUMER_PERF = "kafka-consumer-perf-test"
ONE_BROKER, THREE_BROKERS = "to one broker, 1 copy", "to three brokers, 3 copies"
BATCHES_OF_64_KIB = "requests of 4 batches of 64 KiB, 16 MB under way"
MORE_UNDER_WAY = "requests of 4 batches of 64 KiB, 63 MB under way"
"""As much as with the bare pipe. The other has what clients keep under way: 5 requests a connection."""
REQUEST_LOADS = {
    ONE_BROKER: (REQUESTS, 100),
    THREE_BROKERS: (REQUESTS, 100),
    BATCHES_OF_64_KIB: (PRODUCE, 1024),
    MORE_UNDER_WAY: (PRODUCE, 1024),
}
"""By `tests.bench.kafka_requests`, which does as good as nothing itself."""
_FOUR_BATCHES = [
    "--connections",
    "12",
    "--partitions-each",
    "4",
    "--batch-bytes",
    str(64 << 10),
    "--record-bytes",
    "1024",
]
_REQUESTS = {
    ONE_BROKER: ["--connections", "8", "--brokers-max", "1"],
    THREE_BROKERS: ["--connections", "12"],
    BATCHES_OF_64_KIB: [*_FOUR_BATCHES, "--in-flight", "5"],
    MORE_UNDER_WAY: [*_FOUR_BATCHES, "--in-flight", "20"],
}
POM = Path(__file__).with_name("kafka-pom.xml")


class Kafka(System):
    client = "confluent_client"
    reads_by = "confluent-kafka (Python)"
    start_seconds = 20.0
    warm_up_factor = 4.0
    tool_start_seconds = 3.0

    def __init__(self, name: str = "kafka", *, flush: bool = False) -> None:
        self.name = name
        self.flush = flush
        self.keeps = (
            "R=3, fsync: acks=all and flush.messages=1, synced by all replicas in sync before the answer"
            if flush
            else "R=3, page cache: acks=all, written by all replicas in sync (two at least) before the answer"
        )
        each, batch = Lane("confluent-kafka produce", "produce"), Lane("confluent-kafka produce_batch", "produce_batch")
        self.lanes = (batch,) if flush else (each, batch)
        self.is_read = not flush
        self.produce_tools = () if flush else (PERF, PERF_LARGE_BATCHES)
        self.read_tools = () if flush else (CONSUMER_PERF,)

    def prepare(self) -> None:
        self._java = need_program("java", f"Kafka needs Java {JAVA_LEAST} or newer")
        said = subprocess.run([self._java, "-version"], capture_output=True, text=True, check=False).stderr
        found = re.search(r'version "(\d+)', said)
        if not found or int(found[1]) < JAVA_LEAST:
            raise CannotBeHad(f"Kafka needs Java {JAVA_LEAST} or newer; java -version says: {said.splitlines()[:1]}")
        self._java_version = said.splitlines()[0]
        try:
            import confluent_kafka  # noqa: F401
        except ImportError:
            raise CannotBeHad("confluent-kafka is not installed: pip install -e '.[peers]'") from None
        self._jars = installed(f"kafka-{VERSION}", _install)

    def versions(self) -> dict[str, str]:
        import confluent_kafka

        return {
            "Apache Kafka": f"{VERSION}, {HEAP} each, {self._java_version}",
            "confluent-kafka": f"{confluent_kafka.version()} (librdkafka {confluent_kafka.libversion()[0]})",
        }

    def produce_tools_for(self, record_bytes: int) -> tuple[str, ...]:
        """Without large batches, each large record would be a batch of its own."""
        return self.produce_tools if record_bytes < LARGE_BYTES else self.produce_tools[-1:]

    @property
    def servers_of(self) -> str:
        return "kafka"

    def on(self, cluster: Cluster) -> Cluster:
        return KafkaCluster(cluster.servers, cluster.addresses, self)

    def java(self, main: str, *words: str, heap: str = HEAP) -> list[str]:
        return [self._java, heap, *JVM, LOGGING, "-cp", f"{self._jars}/*", main, *words]

    @contextmanager
    def running(self, directory: Path) -> Iterator[Cluster]:
        ports = free_ports(6)
        brokers, controllers = ports[:3], ports[3:]
        voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(controllers, 1))
        configs = []
        for number in range(3):
            config = directory / f"kafka-{number + 1}.properties"
            config.write_text(_properties(number + 1, brokers[number], controllers[number], voters, directory))
            configs.append(config)
        cluster_id = run(self.java("kafka.tools.StorageTool", "random-uuid"), "kafka-storage random-uuid").split()[-1]
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda config: self._format(cluster_id, config), configs))
        with Servers() as servers:
            for number, config in enumerate(configs, 1):
                servers.start(
                    f"kafka {number}", self.java("kafka.Kafka", str(config)), directory / f"kafka-{number}.log"
                )
            cluster = KafkaCluster(servers, ",".join(f"127.0.0.1:{port}" for port in brokers), self)
            servers.wait_until("kafka", cluster.is_whole, seconds=120)
            yield cluster

    def _format(self, cluster_id: str, config: Path) -> None:
        run(
            self.java("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)),
            "kafka-storage format",
        )


class KafkaCluster(Cluster):
    def __init__(self, servers: Servers, addresses: str, kafka: Kafka) -> None:
        from confluent_kafka.admin import AdminClient

        super().__init__(servers, addresses)
        self._kafka = kafka
        self._admin = AdminClient({"bootstrap.servers": addresses, "log_level": 0})

    def is_whole(self) -> bool:
        from confluent_kafka import KafkaException

        try:
            return len(self._admin.list_topics(timeout=2).brokers) == 3
        except KafkaException:
            return False

    def make_topic(self, name: str, copies: int = 3) -> None:
        from confluent_kafka.admin import NewTopic

        config = {"min.insync.replicas": str(copies // 2 + 1), "compression.type": "producer"}
        if self._kafka.flush:
            config["flush.messages"] = "1"
        topic = NewTopic(name, num_partitions=PARTITIONS, replication_factor=copies, config=config)
        self._admin.create_topics([topic])[name].result(60)
        deadline = time.monotonic() + 60
        while not self._is_whole(name, copies):
            if time.monotonic() > deadline:
                raise Failed(f"kafka: topic {name} has not all replicas in sync after 60 s")
            time.sleep(0.2)

    def _is_whole(self, name: str, copies: int) -> bool:
        partitions = self._admin.list_topics(name, timeout=10).topics[name].partitions.values()
        return len(partitions) == PARTITIONS and all(
            partition.leader >= 0 and len(partition.isrs) == copies for partition in partitions
        )

    def produce_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        output = run(
            self._kafka.java(
                "org.apache.kafka.tools.ProducerPerformance",
                *("--bootstrap-server", self.addresses, "--topic", topic),
                *("--num-records", str(records), "--record-size", str(record_bytes), "--throughput", "-1"),
                # Its own JVM is cold: it leaves the first third out of what it says at the end.
                *("--warmup-records", str(records // 3)),
                *("--command-property", "acks=all", "compression.type=none", f"buffer.memory={IN_FLIGHT_BYTES}"),
                *(["batch.size=1048576"] if tool == PERF_LARGE_BATCHES else []),
            ),
            PERF,
        )
        return {**kafka_producer_performance(output, record_bytes), "in_topic": records}

    def requests_by_tool(self, load: str, topic: str, seconds: float, bytes_max: int) -> dict[str, float]:
        self.make_topic(topic, copies=1 if load == ONE_BROKER else 3)
        there = ("--servers", self.addresses, "--topic", topic)
        bounds = ("--seconds", f"{seconds:g}", "--bytes-max", str(bytes_max))
        output = run(
            [sys.executable, "-m", "tests.bench.kafka_requests", *there, *bounds, *_REQUESTS[load]],
            "tests.bench.kafka_requests",
        )
        found: dict[str, float] = json.loads(output.splitlines()[-1])
        return found

    def read_by_tool(self, tool: str, topic: str, record_bytes: int, records: int) -> dict[str, float]:
        output = run(
            self._kafka.java(
                "org.apache.kafka.tools.ConsumerPerformance",
                *("--bootstrap-server", self.addresses, "--topic", topic, "--num-records", str(records)),
            ),
            CONSUMER_PERF,
        )
        return kafka_consumer_performance(output, record_bytes)


def _install(directory: Path) -> None:
    maven = need_program("mvn", "Kafka's jars come with Maven")
    try:
        run(
            [
                *(maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"),
                *(f"-Dkafka.version={VERSION}", f"-DoutputDirectory={directory}"),
            ],
            "mvn dependency:copy-dependencies",
            seconds=900,
        )
    except Failed as failure:
        raise CannotBeHad(str(failure)) from None


def _properties(number: int, port: int, controller_port: int, voters: str, directory: Path) -> str:
    return f"""\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={directory}/kafka-{number}
num.partitions={PARTITIONS}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
"""
