"""`produce` and `consume`: records in from standard input, out to standard output."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .completions import complete_group, complete_topic
from .endings import Refused

if TYPE_CHECKING:
    from ..consumer import Reset
    from ..offset_bounds import Bound, OffsetRange

BrokersOption = Annotated[
    str | None,
    typer.Option(
        "--brokers",
        metavar="HOST:PORT,...",
        envvar="LOGRAFT_BROKERS",
        help="Where to find the cluster.  [default: the profile's, or the local one]",
        show_default=False,
    ),
]
TopicArgument = Annotated[str, typer.Argument(show_default=False, autocompletion=complete_topic)]


INT32_MAX = 2**31 - 1
"""What a number of the API can hold."""


class AcksChoice(StrEnum):
    quorum = "quorum"
    leader = "leader"
    none = "none"


class ResetChoice(StrEnum):
    start = "start"
    end = "end"
    error = "error"


_RESETS: dict[ResetChoice, Reset] = {
    ResetChoice.start: "earliest",
    ResetChoice.end: "latest",
    ResetChoice.error: "error",
}


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
        typer.Option(
            "-o",
            "--offsets",
            metavar="OFFSETS",
            help="Where to begin, or a range A:B.  [default: end; with -g stored]",
        ),
    ] = None,
    partitions: Annotated[
        str | None, typer.Option("-p", "--partitions", metavar="N,N,...", help="Only these partitions.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "-g",
            "--group",
            metavar="GROUP",
            help="Share the topic with the other members of this group.",
            autocompletion=complete_group,
        ),
    ] = None,
    reset: Annotated[
        ResetChoice | None,
        typer.Option("--reset", help="With -g: where to begin if nothing is stored.  [default: end]"),
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
    OFFSETS: start, end, N, +N (after start), -N (before end), @T (ms, seconds, date, RFC 3339, -48h), or a range A:B;
    with -g: stored, or stored:B.
    Bytes are written as they are; with --json, bytes that are not UTF-8 become {"base64": "..."}.

    \b
    With -g this process is a member of a group: it gets some of the partitions, goes on at the offsets that are stored,
    and stores what standard output took, every second and at its end, however it ends.

    \b
      lograft consume events                          follow what comes
      lograft consume events -o start -e              all there is, then stop
      lograft consume events -o -10 -e                the last ten of each partition
      lograft consume events -o @-1h -f '%d %k %v\\n'  since an hour ago
      lograft consume events -o 100:200 -p 0 --json   a range of one partition
      lograft consume events -g billing               share it with others, and go on where you stopped
      lograft consume events -g nightly --reset start -e  all that is new since the last time, then stop
    """
    import asyncio
    import time

    from ...proto.errors import InvalidRequest
    from ..offset_bounds import parse_offsets
    from . import formats
    from .local_cluster import client_addresses

    if as_json and fmt is not None:
        raise typer.BadParameter("--json and -f say two things; keep one", param_hint="--json")
    if reset is not None and group is None:
        raise typer.BadParameter(
            "it says where a group begins, and there is no -g; without one -o says it", param_hint="--reset"
        )
    numbers = partition_numbers(partitions, "-p")
    try:
        show = formats.as_json if as_json else formats.printer(fmt if fmt is not None else "%v\\n")
    except formats.WrongFormat as error:
        raise typer.BadParameter(str(error), param_hint="-f") from None
    now_ms = time.time_ns() // 1_000_000
    try:
        wanted = parse_offsets(offsets or ("end" if group is None else "stored"), now_ms=now_ms)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error), param_hint="-o") from None
    _refuse_start_to_come(wanted, now_ms=now_ms)
    if group is not None:
        if numbers is not None:
            raise typer.BadParameter(
                "a group shares the partitions out among its members; leave -p or -g out", param_hint="-p"
            )
        stop = _stop_in_group(group, topic, wanted, offsets or "", exit_at_end=exit_at_end)
        addresses = client_addresses(brokers)

        from .consume_in_group import MemberOrder, consume_in_group

        choice = _RESETS[reset or ResetChoice.end]
        asyncio.run(consume_in_group(addresses, MemberOrder(topic, group, stop, choice, count, show)))
        return
    if "stored" in (wanted.start.base, wanted.stop and wanted.stop.base):
        raise Refused("a stored offset belongs to a group, and there is no -g", "name the group, or use start, N or @T")
    addresses = client_addresses(brokers)

    from .consume import ConsumeOrder, consume_topic  # and gRPC with it, once all that can be refused without it is

    order = ConsumeOrder(topic, wanted, numbers, count, exit_at_end, show)
    asyncio.run(consume_topic(addresses, order))


def partition_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """The numbers of a list such as 0,1,2, each once. Raises BadParameter that names the option."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 0,1,2", param_hint=option) from None


def _refuse_start_to_come(wanted: OffsetRange, *, now_ms: int) -> None:
    from ..seek_plan import check_not_to_come

    check_not_to_come(wanted.start, now_ms=now_ms)


def _stop_in_group(group: str, topic: str, wanted: OffsetRange, text: str, *, exit_at_end: bool) -> Bound | None:
    """Where a member stops; None if it goes on. A group begins where it stands: anything else is for `group seek`."""
    from ..offset_bounds import END

    if wanted.start.base != "stored" or (wanted.stop is not None and wanted.stop.base == "stored"):
        place = text.partition(":")[0] if wanted.stop is not None and wanted.start.base != "time" else text
        place = "start" if place in ("", "stored") else place
        raise Refused(
            f"a member of {group[:80]} begins where the group stands, so -o is stored, or stored:B",
            f"move the group first: lograft group seek {shlex.quote(group)} --to {shlex.quote(place)} "
            f"--topic {shlex.quote(topic)}",
        )
    return END if wanted.stop is None and exit_at_end else wanted.stop
