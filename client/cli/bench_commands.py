"""`bench produce|consume|latency|mixed`: what a running cluster does, measured from here."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .endings import Ended, Refused, say
from .local_commands import OutputOption
from .record_commands import INT32_MAX, AcksChoice, BrokersOption, CompressionChoice
from .tables import OutputFormat
from .topic_commands import YesOption

if TYPE_CHECKING:
    from ..bench.order import Order, PayloadKind

WORKERS_MAX = 64
BATCH_BYTES = (1 << 10, 12 << 20)
STAMP_BYTES = 16
"""As in the modules of bench, which are imported only when they are needed; a test holds them together."""
LINGER_MS_MAX = 60_000
SECONDS = 10.0
WARMUP_S = 2.0
LATENCY_RATE = 1000.0


class DurabilityChoice(StrEnum):
    fsync = "fsync"
    memory = "memory"


TopicOption = Annotated[
    str | None,
    typer.Option("--topic", metavar="TOPIC", help="Made if it does not exist.  [default: a temporary one]"),
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Do not delete the topic that was made.")]
PartitionsOption = Annotated[
    int | None,
    typer.Option("--partitions", max=INT32_MAX, help="Of the topic that is made.  [default: 12]"),
]
ReplicasOption = Annotated[
    int | None,
    typer.Option("--replicas", max=INT32_MAX, help="Copies of each record.  [default: 3, or fewer brokers]"),
]
DurabilityOption = Annotated[
    DurabilityChoice | None,
    typer.Option("--durability", help="When a replica's copy counts; a setting of the topic.  [default: fsync]"),
]
RecordsOption = Annotated[
    int | None, typer.Option("--records", help="Measure so many records, of all clients together.")
]
SecondsOption = Annotated[
    float | None, typer.Option("--seconds", help=f"Measure for so long.  [default: {SECONDS:g}, without --records]")
]
ReadRecordsOption = Annotated[
    int | None, typer.Option("--records", help="Read so many, all clients together.  [default: all there are]")
]
ReadSecondsOption = Annotated[float | None, typer.Option("--seconds", help="Stop after so long.")]
WarmupOption = Annotated[float, typer.Option("--warmup", metavar="SECONDS", help="Run for so long before measuring.")]
SizeOption = Annotated[str, typer.Option("--size", metavar="BYTES", help="Of each value: 100, 1KiB, 1MB.")]
PayloadOption = Annotated[
    str, typer.Option("--payload", metavar="random|zeros|text|FILE", help="What values are cut from.")
]
BatchOption = Annotated[str, typer.Option("--batch", metavar="BYTES", help="Largest batch, before compression.")]
LingerOption = Annotated[float, typer.Option("--linger", metavar="MS", help="How long a batch waits for more records.")]
PackOption = Annotated[CompressionChoice, typer.Option("-z", "--compression", help="How batches are packed.")]
AcksOption = Annotated[AcksChoice, typer.Option("--acks", help="Who must hold a record before it counts.")]
InFlightOption = Annotated[
    str, typer.Option("--in-flight", metavar="BYTES", help="Sent and not yet acknowledged, at most, of each client.")
]
ClientsOption = Annotated[int, typer.Option("--clients", help="Processes that send.")]
ReadersOption = Annotated[int, typer.Option("--clients", help="Processes that read, partitions dealt out to them.")]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", metavar="RECORDS/S", help="Of all clients, whatever the answers do.  [default: as fast as it goes]"
    ),
]
IdempotentOption = Annotated[bool, typer.Option("--idempotent/--no-idempotent", help="Sent again, never doubled.")]
OneByOneOption = Annotated[bool, typer.Option("--one-by-one", help="A call of `send` for each, not `send_many`.")]


def produce(
    records: RecordsOption = None,
    seconds: SecondsOption = None,
    size: SizeOption = "1KiB",
    clients: ClientsOption = 1,
    batch: BatchOption = "1MiB",
    linger: LingerOption = 5.0,
    compression: PackOption = CompressionChoice.none,
    payload: PayloadOption = "random",
    rate: RateOption = None,
    acks: AcksOption = AcksChoice.quorum,
    durability: DurabilityOption = None,
    partitions: PartitionsOption = None,
    replicas: ReplicasOption = None,
    in_flight: InFlightOption = "64MiB",
    one_by_one: OneByOneOption = False,
    idempotent: IdempotentOption = True,
    warmup: WarmupOption = WARMUP_S,
    topic: TopicOption = None,
    keep: KeepOption = False,
    yes: YesOption = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """How many records a second the cluster acknowledges.

    \b
      lograft bench produce                                 1 KiB records for 10 seconds
      lograft bench produce --size 100 --clients 2          two processes, small records
      lograft bench produce --records 1000000 -z lz4 --payload text
      lograft bench produce --rate 20000 --seconds 60       at a steady rate: latencies without omission
      lograft bench produce --acks leader -o json > produce.json

    Counts what is acknowledged within the measured time, of values' bytes before compression. Random values are not
    worth compressing, so nothing is compressed unless asked for.
    """
    order = _order(
        kind="produce", topic=topic, keep=keep, partitions=partitions, replicas=replicas, durability=durability,
        records=records, seconds=seconds, warmup=warmup, size=size, payload=payload, batch=batch, linger=linger,
        compression=compression, acks=acks, in_flight=in_flight, rate=rate, clients=clients,
        one_by_one=one_by_one, idempotent=idempotent,
    )  # fmt: skip
    _run(order, yes=yes, output=output, brokers=brokers)


def consume(
    topic: Annotated[
        str | None,
        typer.Option("--topic", metavar="TOPIC", help="Read this one.  [default: one is made, filled and deleted]"),
    ] = None,
    records: ReadRecordsOption = None,
    seconds: ReadSecondsOption = None,
    clients: ReadersOption = 1,
    size: SizeOption = "1KiB",
    payload: PayloadOption = "random",
    compression: PackOption = CompressionChoice.none,
    batch: BatchOption = "1MiB",
    durability: DurabilityOption = None,
    partitions: PartitionsOption = None,
    replicas: ReplicasOption = None,
    warmup: WarmupOption = 0.0,
    keep: KeepOption = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """How many records a second can be read, from the start of the log to its end.

    \b
      lograft bench consume --topic orders                  all that orders holds
      lograft bench consume --topic orders --clients 3 --seconds 30
      lograft bench consume --size 100                      a topic is made, filled with 2,000,000 records, and read
      lograft bench consume --size 1KiB --records 1000000 -o json

    Without --topic, a topic is made and filled first (512 MiB or 2,000,000 records, or what --records says), which is
    not measured; --size, --payload, --compression and --batch say with what. Measured from the first request on: a
    log just written is in the brokers' memory, and what this reads says little about their disks.
    """
    order = _order(
        kind="consume", topic=topic, keep=keep, partitions=partitions, replicas=replicas, durability=durability,
        records=records, seconds=seconds, warmup=warmup, size=size, payload=payload, batch=batch, linger=5.0,
        compression=compression, acks=AcksChoice.quorum, in_flight="64MiB", rate=None, clients=clients,
    )  # fmt: skip
    _run(order, yes=True, output=output, brokers=brokers)


def latency(
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="RECORDS/S", help="Of all clients together.  [default: 1000]"),
    ] = None,
    records: RecordsOption = None,
    seconds: SecondsOption = None,
    size: SizeOption = "1KiB",
    clients: ClientsOption = 1,
    apart: Annotated[bool, typer.Option("--apart", help="Consumers in processes of their own.")] = False,
    one_at_a_time: Annotated[
        bool, typer.Option("--one-at-a-time", help="Send the next once the one before is acknowledged; no --rate.")
    ] = False,
    batch: BatchOption = "1MiB",
    linger: LingerOption = 0.0,
    compression: PackOption = CompressionChoice.none,
    payload: PayloadOption = "random",
    acks: AcksOption = AcksChoice.quorum,
    durability: DurabilityOption = None,
    partitions: PartitionsOption = None,
    replicas: ReplicasOption = None,
    idempotent: IdempotentOption = True,
    warmup: WarmupOption = WARMUP_S,
    topic: TopicOption = None,
    keep: KeepOption = False,
    yes: YesOption = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """How long a record takes: until it is acknowledged, and until a consumer has it.

    \b
      lograft bench latency                                 1,000 records/s for 10 seconds
      lograft bench latency --rate 20000 --size 100 --seconds 60
      lograft bench latency --one-at-a-time                 one record after the other
      lograft bench latency --rate 5000 --clients 2 --apart -o json

    Records are due on a schedule that waits for no answer, and each latency counts from then: while the cluster stands
    still, records go on to be due and to wait, and are counted so (no coordinated omission). A consumer in the same
    process (--apart: in another) takes what arrives. With --one-at-a-time there is no schedule.
    """
    if one_at_a_time and rate is not None:
        raise typer.BadParameter(
            "--one-at-a-time sends the next after each answer; leave --rate out", param_hint="--rate"
        )
    order = _order(
        kind="latency", topic=topic, keep=keep, partitions=partitions, replicas=replicas, durability=durability,
        records=records, seconds=seconds, warmup=warmup, size=size, payload=payload, batch=batch, linger=linger,
        compression=compression, acks=acks, in_flight="64MiB", clients=clients,
        rate=None if one_at_a_time else LATENCY_RATE if rate is None else rate,
        one_at_a_time=one_at_a_time, idempotent=idempotent, apart=apart,
    )  # fmt: skip
    _run(order, yes=yes, output=output, brokers=brokers)


def mixed(
    records: RecordsOption = None,
    seconds: SecondsOption = None,
    size: SizeOption = "1KiB",
    clients: ClientsOption = 1,
    consumers: Annotated[int, typer.Option("--consumers", help="Processes that read; with --groups, of each.")] = 1,
    groups: Annotated[
        int, typer.Option("--groups", help="Each reads everything; 0: partitions dealt out by hand.")
    ] = 0,
    batch: BatchOption = "1MiB",
    linger: LingerOption = 5.0,
    compression: PackOption = CompressionChoice.none,
    payload: PayloadOption = "random",
    rate: RateOption = None,
    acks: AcksOption = AcksChoice.quorum,
    durability: DurabilityOption = None,
    partitions: PartitionsOption = None,
    replicas: ReplicasOption = None,
    in_flight: InFlightOption = "64MiB",
    idempotent: IdempotentOption = True,
    warmup: WarmupOption = WARMUP_S,
    topic: TopicOption = None,
    keep: KeepOption = False,
    yes: YesOption = False,
    output: OutputOption = OutputFormat.text,
    brokers: BrokersOption = None,
) -> None:
    """Producers and consumers at once: what both get done beside each other.

    \b
      lograft bench mixed                                   one producer, one consumer that follows
      lograft bench mixed --rate 50000 --size 100 --seconds 60
      lograft bench mixed --clients 2 --consumers 3 --groups 2
      lograft bench mixed --groups 1 -o json

    With --groups G there are G consumer groups of --consumers members, each of which reads everything and stores its
    offsets; without, the partitions are dealt out to --consumers by hand. Both rates are of the producers' time.
    """
    order = _order(
        kind="mixed", topic=topic, keep=keep, partitions=partitions, replicas=replicas, durability=durability,
        records=records, seconds=seconds, warmup=warmup, size=size, payload=payload, batch=batch, linger=linger,
        compression=compression, acks=acks, in_flight=in_flight, rate=rate, clients=clients, consumers=consumers,
        groups=groups, idempotent=idempotent,
    )  # fmt: skip
    _run(order, yes=yes, output=output, brokers=brokers)


# What was asked for --------------------------------------------------------------------------------------------------


def _order(
    *,
    kind: str,
    records: int | None,
    seconds: float | None,
    warmup: float,
    size: str,
    batch: str,
    in_flight: str,
    payload: str,
    linger: float,
    rate: float | None,
    clients: int,
    consumers: int = 1,
    groups: int = 0,
    partitions: int | None,
    replicas: int | None,
    durability: DurabilityChoice | None,
    compression: CompressionChoice,
    acks: AcksChoice,
    **rest: object,
) -> Order:
    """The order for these options. Raises BadParameter that names the one that cannot be."""
    _above_zero("--seconds", seconds)
    _above_zero("--rate", rate)
    _least("--warmup", warmup, 0)
    if not 0 <= linger <= LINGER_MS_MAX:
        raise typer.BadParameter(f"{linger:g}: it is 0 to {LINGER_MS_MAX:,} ms", param_hint="--linger")
    if records is not None and seconds is not None and kind != "consume":
        raise typer.BadParameter("--records and --seconds each say when to end; keep one", param_hint="--seconds")
    if records is None and seconds is None and kind != "consume":
        seconds = SECONDS
    for option, number in (("--records", records), ("--partitions", partitions), ("--replicas", replicas)):
        _least(option, 1 if number is None else number, 1)
    for option, number, least in (("--clients", clients, 1), ("--consumers", consumers, 1), ("--groups", groups, 0)):
        _least(option, number, least)
    if records is not None and records < clients:
        raise typer.BadParameter(f"{records:,} cannot be shared by {clients} clients", param_hint="--records")
    size_bytes, batch_bytes = _size("--size", size), _size("--batch", batch)
    in_flight_bytes = _size("--in-flight", in_flight)
    least, most = BATCH_BYTES
    if not least <= batch_bytes <= most:
        raise typer.BadParameter(f"a batch of {batch_bytes:,} B: it has {least:,} to {most:,}", param_hint="--batch")
    if kind in ("latency", "mixed") and size_bytes < STAMP_BYTES:
        raise typer.BadParameter(
            f"{size_bytes} B have no room for the time a record was due; {STAMP_BYTES} or more", param_hint="--size"
        )
    if size_bytes + 100 > batch_bytes:
        remedy = "raise --batch" if size_bytes + 100 <= most else f"{most - 100:,} is the most"
        raise typer.BadParameter(
            f"a record of {size_bytes:,} B and its header do not fit a batch of {batch_bytes:,}; {remedy}",
            param_hint="--size",
        )
    payload_kind, payload_file = _payload(payload)

    from ..bench.order import Order

    order = Order(
        kind=kind,  # type: ignore[arg-type]
        records=records,
        seconds=seconds,
        warmup_s=warmup,
        size=size_bytes,
        payload=payload_kind,
        payload_file=payload_file,
        batch_bytes=batch_bytes,
        in_flight_bytes=in_flight_bytes,
        linger_ms=linger,
        rate=rate,
        clients=clients,
        consumers=consumers,
        groups=groups,
        partitions=partitions,
        replicas=replicas,
        durability=None if durability is None else durability.value,
        compression=compression.value,
        acks=acks.value,
        **rest,  # type: ignore[arg-type]
    )
    if order.workers > WORKERS_MAX:
        raise typer.BadParameter(
            f"that takes {order.workers:,} processes, and {WORKERS_MAX} is the most; ask for fewer",
            param_hint="--clients",
        )
    return order


def _above_zero(option: str, number: float | None) -> None:
    if number is not None and not 0 < number < float("inf"):
        raise typer.BadParameter(f"{number:g}: it must be above 0", param_hint=option)


def _least(option: str, number: float, least: int) -> None:
    if not least <= number < float("inf"):
        raise typer.BadParameter(f"{number:g}: it must be {least} or more", param_hint=option)


def _size(option: str, text: str) -> int:
    from ..bench.units import parse_size

    try:
        size = parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    _least(option, size, 1)
    return size


def _payload(text: str) -> tuple[PayloadKind, str]:
    if text in ("random", "zeros", "text"):
        return text, ""  # type: ignore[return-value]
    try:
        with open(text, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise typer.BadParameter(
            f"{text!r} is none of random, zeros and text, and cannot be read as a file: {error.strerror}",
            param_hint="--payload",
        ) from None
    if empty:
        raise typer.BadParameter(f"{text} is empty", param_hint="--payload")
    from pathlib import Path

    return "file", str(Path(text).resolve())


# The run -------------------------------------------------------------------------------------------------------------


def _run(order: Order, *, yes: bool, output: OutputFormat, brokers: str | None) -> None:
    import asyncio

    from .local_cluster import client_addresses
    from .tables import show, show_json

    addresses = client_addresses(brokers)
    if order.topic is not None and not yes:
        _agree_to_append(order.topic, addresses)

    from ..bench.report import as_json, as_text
    from ..bench.run import Run  # and gRPC with it, once all that can be refused without it is

    run = Run(addresses, order, say if sys.stderr.isatty() else None)
    try:
        result = asyncio.run(run.run())
    except asyncio.CancelledError:
        say("lograft: interrupted before there was a result")
        raise Ended(128 + (run.signal or 2)) from None
    if output is OutputFormat.json:
        show_json(as_json(result))
    else:
        show(as_text(result))
    if run.signal is not None:
        raise Ended(128 + run.signal)


def _agree_to_append(topic: str, addresses: list[str]) -> None:
    """What is appended to a topic in use stays there, and its readers get it: nobody should do that by mistake."""
    from ...proto.errors import UnknownTopic
    from .tables import count
    from .topic_commands import run_with_client

    async def held(client: object) -> int:
        try:
            described = await client.admin.describe_topic(topic)  # type: ignore[attr-defined]
        except UnknownTopic:
            return 0
        return sum(max(0, one.committed_offset - one.log_start_offset) for one in described.partitions)

    there = run_with_client(",".join(addresses), held)
    if not there:
        return
    if not sys.stdin.isatty():
        raise Refused(
            f"topic {topic} holds {count(there, 'record')}, and what bench appends stays there and is read by others",
            "add --yes, or name a topic that does not exist",
        )
    if not typer.confirm(f"append to {topic}, which holds {count(there, 'record')}, for good?", err=True):
        raise Refused(f"nothing was appended to {topic}")
