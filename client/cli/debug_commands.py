"""`debug bundle`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .endings import Refused, say
from .local_commands import DataOption
from .record_commands import BrokersOption


def bundle(
    out: Annotated[
        Path | None,
        typer.Option("-O", "--out", metavar="FILE", help="Where to write it.  [default: ./lograft-debug-TIME.tar.gz]"),
    ] = None,
    configs: Annotated[
        list[Path] | None,
        typer.Option(
            "-c", "--config", metavar="FILE", help="TOML file of a broker that runs on this machine; may be repeated."
        ),
    ] = None,
    data: DataOption = None,
    brokers: BrokersOption = None,
) -> None:
    """Pack what helps somebody elsewhere to understand this cluster: one .tar.gz, to be sent or attached to an issue.

    It holds versions, configuration, health and its reasons, descriptions of topics, partitions and groups, metrics of
    every broker, and of brokers on this machine the ends of their logs and the names and sizes of their files.
    It holds no records, and secrets are blanked. Names of topics, groups, clients and hosts are in it: look before you
    send it. A cluster that is stopped or does not answer is packed as far as it can be.

    \b
      lograft debug bundle
      lograft debug bundle --brokers broker-1:9600 -O /tmp/for-support.tar.gz
      lograft debug bundle -c /etc/lograft/broker.toml      on a broker's machine: its files too
      tar xzOf lograft-debug-*.tar.gz '*/README.txt'        what it holds
    """
    import asyncio

    from .local_cluster import client_addresses, find
    from .ports import HOST
    from .tables import columns, show, size

    path = out or Path(f"lograft-debug-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz")
    if path.exists():
        raise Refused(f"{path} is there already", "name another file with --out, or remove it")
    for config in configs or ():
        if not config.is_file():
            raise Refused(f"{config} is no file", "name the TOML file that the broker was started with")
    local, stopped = None, None
    try:
        local = find(data)
    except Refused:
        if data is not None:
            raise
    try:
        if data is not None and local is not None:
            addresses = local.addresses if local.running else []
        else:
            addresses = client_addresses(brokers)
    except Refused as error:
        if local is None and not configs:
            raise
        addresses, stopped = [], error
    if local is not None and data is None and not set(addresses) & set(local.addresses) and stopped is None:
        local = None  # another cluster is meant

    from .bundle import Bundle, add_broker_config, add_cluster, add_local_cluster, add_this_machine

    packed = Bundle()
    add_this_machine(packed)
    if local is not None:
        add_local_cluster(packed, local)
    for number, config in enumerate(configs or ()):
        add_broker_config(packed, config, number)
    if addresses:
        say("asking the cluster")
        doors = {one.broker_id: f"{HOST}:{one.ports.http}" for one in local.members} if local is not None else {}
        asyncio.run(add_cluster(packed, addresses, doors))
    else:
        packed.note_missing("what the cluster tells of itself", stopped or "it is stopped")
    packed.write(path)
    show(columns(("FILE", "SIZE", "WHAT"), [(name, size(length), what) for name, length, what in packed.contents()]))
    for line in packed.missing:
        say(f"could not be had: {line}")
    say(f"\nwrote {path} ({size(path.stat().st_size)}), readable by you alone; no records and no secrets are in it,")
    say("names of topics, groups, clients and hosts are: look before you send it")
