"""lograft by its door for Kafka clients, and Apache Kafka, by the same unmodified clients in turn: A B, A B.

    python -m tests.bench.kafka_door                       five rounds, about 25 minutes, on a machine left alone
    python -m tests.bench.kafka_door --rounds 1 --quick    does all of it work here? The figures are worth little
    python -m tests.bench.kafka_door --systems "lograft-door kafka-fsync"

Three brokers each, R=3, acks=all, idempotent. kafka-producer-perf-test (as it comes, and with batch.size=1 MiB) and
confluent-kafka at 100 B, 1 KiB and 16 KiB; catch-up reads; latency at 1,000 records/s and one by one; requests of one
record, to one broker and to three; requests of 64 KiB batches, beside the bare pipe's frames of 64 KiB in the same
round; with `native` lograft by its own client too. At most 512 MB a figure. How it is done, and what is needed (Java,
Maven), is as in `python -m tests.bench.peers`. The table is printed, ratios to Kafka with it; JSON and a picture go to
--out.
"""

from __future__ import annotations

import sys

from .peers.__main__ import main
from .peers.kafka import REQUEST_LOADS, Kafka
from .peers.lograft_door import LograftDoor
from .peers.lograft_system import Lograft
from .peers.system import System


def systems() -> dict[str, System]:
    door, kafka, synced = LograftDoor(), Kafka(), Kafka("kafka-fsync", flush=True)
    for system in (door, kafka):
        system.request_loads = REQUEST_LOADS
    return {system.name: system for system in (door, kafka, synced, Lograft("native"))}


if __name__ == "__main__":
    sys.exit(
        main(
            systems(),
            prog="python -m tests.bench.kafka_door",
            description=__doc__,
            compared=("lograft-door", "kafka"),
            default="lograft-door kafka",
        )
    )
