"""Readers of what people write: configuration, offsets, times, settings, formats."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from lograft.client.cli.endings import Refused
from lograft.client.cli.formats import WrongFormat
from lograft.client.cli.formats import parse as parse_format
from lograft.client.cli.local_cluster import LocalCluster
from lograft.client.connection import parse_addresses
from lograft.client.offset_bounds import parse_bound, parse_offsets, parse_time
from lograft.client.seek_plan import parse_goal
from lograft.node.config import load_config
from lograft.node.controller import settings as cluster_settings
from lograft.node.controller.topic_rules import CONFIG_KEYS, TopicLimits, check_config, check_name, check_topic_id
from lograft.proto.errors import InvalidConfig, InvalidRequest, InvalidTopic, NotAuthorized

from tests.fuzz.target import Target

_NOW_MS = 1_700_000_000_000
_TOML = b"""
[broker]
id = 1
data_directory = "data"
rack = "a"
[listen]
grpc = "127.0.0.1:9600"
peer = "[::1]:9601"
[cluster]
secret = "a secret of the fuzzer"
[cluster.peers]
1 = "127.0.0.1:9601"
2 = "127.0.0.1:9611"
[replica]
segment_bytes_max = 1000000
[limits]
batch_bytes_max = 100000
[retention]
ms = -1
"""


def of_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    """Text as a process gets it in its arguments and environment."""
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _load_file(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "broker.toml"
        path.write_bytes(data)
        return load_config(path, {})


def _load_sets(text: str) -> object:
    return load_config(None, {}, ["broker.id=1", "broker.data_directory=d", *text.split("\n")])


def _load_environment(text: str) -> object:
    pairs = (line.partition("=") for line in text.split("\n"))
    environ = {f"LOGRAFT_{name}": value for name, _, value in pairs}
    return load_config(None, {"LOGRAFT_BROKER__ID": "1", "LOGRAFT_BROKER__DATA_DIRECTORY": "d", **environ})


def _check_topic_config(text: str) -> object:
    return check_config(dict(line.partition("=")[::2] for line in text.split("\n")), TopicLimits())


def _parse_setting(text: str) -> object:
    name, _, value = text.partition("=")
    return cluster_settings.known_setting(name).parse(value)


def _load_local_cluster(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "cluster.json").write_bytes(data)
        return LocalCluster.load(Path(directory))


def _local_cluster() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        cluster = LocalCluster.new(Path(directory), 3, 9600)
        cluster.save()
        return (Path(directory) / "cluster.json").read_bytes()


_OFFSETS = [
    *(b"start", b"end", b"stored", b"17", b"+5", b"-5", b"@1700000000000", b"@-48h", b"@2026-01-02"),
    *(b"@2026-01-02T03:04:05Z", b"@2026-01-02T03:04:05.5+01:00", b"3:9", b"@-2h:end", b":5", b"-5:"),
]

TEXT_TARGETS = (
    Target(name="configuration file", read=_load_file, seeds=[_TOML], refusals=(InvalidConfig,)),
    Target(
        name="configuration by --set",
        read=of_text(_load_sets),
        seeds=[
            b"cluster.peers=1=127.0.0.1:9601,2=b:2\nlimits.batch_bytes_max=5000\nlog.level=info\n"
            b"cluster.secret=a secret of the fuzzer\nlisten.grpc=127.0.0.1:5"
        ],
        refusals=(InvalidConfig,),
    ),
    Target(
        name="configuration by environment",
        read=of_text(_load_environment),
        seeds=[
            b"CLUSTER__PEERS=1=127.0.0.1:9601,2=b:2\nCLUSTER__PEERS__3=c:3\nLIMITS__BATCH_BYTES_MAX=5000\n"
            b"CLUSTER__SECRET=a secret of the fuzzer"
        ],
        refusals=(InvalidConfig,),
    ),
    Target(
        name="offsets",
        read=of_text(lambda text: parse_offsets(text, now_ms=_NOW_MS)),
        seeds=_OFFSETS,
        refusals=(InvalidRequest,),
    ),
    Target(
        name="bound",
        read=of_text(lambda text: parse_bound(text, now_ms=_NOW_MS)),
        seeds=_OFFSETS,
        refusals=(InvalidRequest,),
        takes_seeds=False,
    ),
    Target(
        name="time",
        read=of_text(lambda text: parse_time(text, now_ms=_NOW_MS)),
        seeds=[text.removeprefix(b"@") for text in _OFFSETS if text.startswith(b"@")],
        refusals=(InvalidRequest,),
        takes_seeds=False,
    ),
    Target(
        name="goal of a seek",
        read=of_text(lambda text: parse_goal(text, now_ms=_NOW_MS)),
        seeds=[*_OFFSETS, b"shift:+5", b"shift:-5", b"group:other"],
        refusals=(InvalidRequest,),
        takes_seeds=False,
    ),
    Target(
        name="format of records",
        read=of_text(parse_format),
        seeds=[b"%t %p %o %k %v %d %h\\n", b"100%%\\x1f\\t"],
        refusals=(WrongFormat,),
    ),
    Target(
        name="broker addresses",
        read=of_text(parse_addresses),
        seeds=[b"127.0.0.1:9600,[::1]:9610"],
        refusals=(InvalidConfig,),
    ),
    Target(
        name="topic name",
        read=of_text(lambda text: check_name(text, ["a.b"])),
        seeds=[b"orders.v2_x-1"],
        refusals=(InvalidTopic, NotAuthorized),
    ),
    Target(name="topic id", read=of_text(check_topic_id), seeds=[b"0123456789abcdef" * 2], refusals=(InvalidRequest,)),
    Target(
        name="settings of a topic",
        read=of_text(_check_topic_config),
        seeds=[f"{name}={value}".encode() for name in CONFIG_KEYS for value in ("1000", "-1", "compact,delete")],
        refusals=(InvalidConfig,),
        takes_seeds=False,
    ),
    Target(
        name="settings of the cluster",
        read=of_text(_parse_setting),
        seeds=[f"{name}={value}".encode() for name in cluster_settings.SETTINGS for value in ("10m", "5MB/s", "off")],
        refusals=(InvalidConfig,),
        takes_seeds=False,
    ),
    Target(name="local cluster", read=_load_local_cluster, seeds=[_local_cluster()], refusals=(Refused,)),
)
