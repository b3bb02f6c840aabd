"""What a run was asked to do, and what its processes tell each other: values only.

A process of a run is a *worker*: it produces, consumes, or both. Who started it is the *crew*.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["produce", "consume", "latency", "mixed"]
PayloadKind = Literal["random", "zeros", "text", "file"]

WORKERS_MAX = 64
"""Each is a Python process of some 50 MB."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a run. Rates and records are those of all clients together."""

    kind: Kind
    topic: str | None = None
    """None: a temporary one."""
    keep: bool = False
    partitions: int | None = None
    replicas: int | None = None
    durability: str | None = None
    records: int | None = None
    """To be measured, after the warm-up."""
    seconds: float | None = None
    """To be measured, after the warm-up."""
    warmup_s: float = 2.0
    size: int = 1024
    """Bytes of a value."""
    payload: PayloadKind = "random"
    payload_file: str = ""
    batch_bytes: int = 1 << 20
    linger_ms: float = 5.0
    compression: Literal["none", "gzip", "lz4", "zstd"] = "none"
    acks: Literal["quorum", "leader", "none"] = "quorum"
    idempotent: bool = True
    in_flight_bytes: int = 64 << 20
    """For each client."""
    one_by_one: bool = False
    """A call of `send` for each record, not `send_many`."""
    one_at_a_time: bool = False
    """The next record goes once the one before is acknowledged."""
    rate: float | None = None
    """Records per second, whatever the answers do. None: as fast as they are taken."""
    clients: int = 1
    consumers: int = 1
    """Of mixed: for each group, or of the only set without groups."""
    groups: int = 0
    apart: bool = False
    """Of latency: consumers in processes of their own."""

    @property
    def edge_s(self) -> float:
        """Half the time between two records of the schedule: a record due at the edge of the time measured, but for
        the rounding of floats, belongs to what follows that edge."""
        return 0.5 / self.rate if self.rate else 0.0

    @property
    def workers(self) -> int:
        """How many processes it takes."""
        match self.kind:
            case "mixed":
                return self.clients + max(1, self.groups) * self.consumers
            case "latency":
                return self.clients * (2 if self.apart else 1)
        return self.clients


class ConsumerPart(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker reads."""

    partitions: dict[int, int] | None = None
    """By hand: each with the offset to begin at. None: as a member of `group`."""
    stops: dict[int, int] | None = None
    """Where each ends; None: it follows what comes."""
    group: str | None = None
    records: int | None = None
    """End after so many, at the latest."""
    stamped: Literal["no", "some", "all"] = "no"
    """Which records' stamps are looked at: reading all is slow where there are many."""


class ProducerPart(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker sends: its number among the producers, and how many there are."""

    number: int
    of: int
    stamped: bool = False


class WorkerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The first line a worker gets."""

    addresses: list[str]
    run_id: str
    """Hexadecimal."""
    topic: str
    order: Order
    producer: ProducerPart | None = None
    consumer: ConsumerPart | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A later line: begin at this time of the monotonic clock, or stop consuming, or stop it all now."""

    start_at: float | None = None
    stop_consuming: bool = False
    stop: bool = False


class Told(msgspec.Struct, kw_only=True):
    """A line from a worker: what was counted since the one before. See Timeline and Histogram for what is packed."""

    state: Literal["ready", "working", "produced", "done", "failed"]
    """`produced`: nothing more to send, and all answers are here."""
    why: str = ""
    """Of `failed`."""
    produced: list[int] = []
    consumed: list[int] = []
    acknowledged: list[int] = []
    end_to_end: list[int] = []
    late: list[int] = []
    """How late a record was handed over by this process, against the schedule."""
    produce_span: tuple[float, float] | None = None
    """Once it is over: the time measured."""
    consume_span: tuple[float, float] | None = None
    not_sent: int = 0
    """Due, and not handed over in time."""
    unanswered: int = 0
    weakest: tuple[str, int, int] | None = None
    """Of all acknowledgements: medium, copies, replicas."""
    cpu_s: float = 0.0
    """Of this process, in the time measured. Told at the end."""
