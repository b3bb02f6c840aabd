"""`produce` and `consume`: records in from standard input, out to standard output."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .endings import Refused

BrokersOption = Annotated[
    str | None,
    typer.Option(
        "--brokers",
        metavar="HOST:PORT,...",
        envvar="LOGRAFT_BROKERS",
        help="Where to find the cluster.  [default: the local one]",
        show_default=False,
    ),
]
TopicArgument = Annotated[str, typer.Argument(show_default=False)]


INT32_MAX = 2**31 - 1
"""What a number of the API can hold."""


class AcksChoice(StrEnum):
    quorum = "quorum"
    leader = "leader"
    none = "none"


class CompressionChoice(StrEnum):
    none = "none"
    gzip = "gzip"
    lz4 = "lz4"
    zstd = "zstd"


def produce(
    topic: TopicArgument,
    key: Annotated[str | None, typer.Option("-k", "--key", help="Key of every record.")] = None,
    partition: Annotated[
        int | None,
        typer.Option("-p", "--partition", min=0, max=INT32_MAX, help="All to this partition; else keys decide."),
    ] = None,
    headers: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="NAME=VALUE", help="A header of every record.")
    ] = None,
    fmt: Annotated[
        str, typer.Option("-f", "--format", metavar="FMT", help="How records stand in the input: %k %v %p %d(ms).")
    ] = "%v\\n",
    acks: Annotated[AcksChoice, typer.Option(help="Who must hold a record before it counts.")] = AcksChoice.quorum,
    compression: Annotated[
        CompressionChoice, typer.Option("-z", "--compression", help="How batches are packed.")
    ] = CompressionChoice.lz4,
    brokers: BrokersOption = None,
) -> None:
    """Send the lines of standard input as records.

    Ends with exit code 0 only if every record was acknowledged; otherwise says how many were not.

    \b
      echo hello | lograft produce events
      lograft produce events < events.log
      printf 'k1 one\\nk2 two\\n' | lograft produce events -f '%k %v\\n'
      lograft produce events -k sensor-1 -H source=lab -p 0
      find . -print0 | lograft produce files -f '%v\\x00'
    """
    import asyncio

    from .formats import InputFormat, WrongFormat
    from .local_cluster import client_addresses

    pairs = []
    for header in headers or ():
        name, equals, value = header.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{header!r} is not NAME=VALUE", param_hint="-H")
        pairs.append((name, value.encode("utf-8", "surrogateescape")))
    try:
        input_format = InputFormat(fmt)
    except WrongFormat as error:
        raise typer.BadParameter(str(error), param_hint="-f") from None
    if key is not None and input_format.has_key:
        raise typer.BadParameter("the format has %k, so -k has nothing to say", param_hint="-k")
    if partition is not None and input_format.has_partition:
        raise typer.BadParameter("the format has %p, so -p has nothing to say", param_hint="-p")
    addresses = client_addresses(brokers)

    from .produce import ProduceOrder, produce_input  # and gRPC with it, once all that can be refused without it is

    order = ProduceOrder(
        topic=topic,
        input_format=input_format,
        key=None if key is None else key.encode("utf-8", "surrogateescape"),
        partition=partition,
        headers=tuple(pairs),
        acks=acks.value,
        compression=compression.value,
    )
    asyncio.run(produce_input(addresses, order))


def consume(
    topic: TopicArgument,
    offsets: Annotated[
        str | None,
        typer.Option("-o", "--offsets", metavar="OFFSETS", help="Where to begin, or a range A:B.  [default: end]"),
    ] = None,
    partitions: Annotated[
        str | None, typer.Option("-p", "--partitions", metavar="N,N,...", help="Only these partitions.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("-g", "--group", help="Consumer groups come with a later release.")
    ] = None,
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Stop after so many records.")] = None,
    exit_at_end: Annotated[bool, typer.Option("-e", "--exit", help="Stop at the end as it is now.")] = False,
    fmt: Annotated[
        str | None,
        typer.Option("-f", "--format", metavar="FMT", help="%t %p %o %k %v %d %h, \\n \\t \\xNN.  [default: %v\\n]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    brokers: BrokersOption = None,
) -> None:
    """Write records to standard output: those that come from now on, or any part of the log.

    \b
    OFFSETS: start, end, N, +N (after start), -N (before end), @T (ms, seconds, date, RFC 3339, -48h), or a range A:B.
    Bytes are written as they are; with --json, bytes that are not UTF-8 become {"base64": "..."}.

    \b
      lograft consume events                          follow what comes
      lograft consume events -o start -e              all there is, then stop
      lograft consume events -o -10 -e                the last ten of each partition
      lograft consume events -o @-1h -f '%d %k %v\\n'  since an hour ago
      lograft consume events -o 100:200 -p 0 --json   a range of one partition
    """
    import asyncio
    import time

    from ...proto.errors import InvalidRequest
    from ..offset_bounds import parse_offsets
    from . import formats
    from .local_cluster import client_addresses

    if group is not None:
        raise Refused("consumer groups come with a later release", "leave -g out, and choose where to begin with -o")
    if as_json and fmt is not None:
        raise typer.BadParameter("--json and -f say two things; keep one", param_hint="--json")
    numbers = None
    if partitions is not None:
        try:
            numbers = tuple(dict.fromkeys(int(number) for number in partitions.split(",")))
        except ValueError:
            raise typer.BadParameter(f"{partitions!r} is no list of numbers such as 0,1,2", param_hint="-p") from None
    try:
        show = formats.as_json if as_json else formats.printer(fmt if fmt is not None else "%v\\n")
    except formats.WrongFormat as error:
        raise typer.BadParameter(str(error), param_hint="-f") from None
    try:
        wanted = parse_offsets(offsets or "end", now_ms=time.time_ns() // 1_000_000)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error), param_hint="-o") from None
    if "stored" in (wanted.start.base, wanted.stop and wanted.stop.base):
        raise Refused("a stored offset belongs to a group, and groups come later", "use start, end, N or @T")
    addresses = client_addresses(brokers)

    from .consume import ConsumeOrder, consume_topic  # and gRPC with it, once all that can be refused without it is

    order = ConsumeOrder(topic, wanted, numbers, count, exit_at_end, show)
    asyncio.run(consume_topic(addresses, order))
