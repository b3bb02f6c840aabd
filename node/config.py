"""A broker's configuration: typed, explained and checked in one place.

A value comes from the TOML file, over it from the environment (`LOGRAFT_SECTION__KEY`), over that from
`--set section.key=value`. Whatever is wrong stops the broker at start with one line that names the source, the key, the
value and the reason. Quantities carry their unit at the end of their name: `_ms` milliseconds, `_bytes` bytes.
"""

from __future__ import annotations

import difflib
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Meta

from ..partitions.environment import ReplicaConfig
from ..proto.errors import InvalidConfig

ENVIRONMENT_PREFIX = "LOGRAFT_"
SECRET_BYTES_MIN = 16
INITIAL_VOTERS_MAX = 7
METADATA_BYTES_HIGHEST = 64 << 10
"""What `groups.metadata_bytes_max` may be raised to."""

_DOORS = ("grpc", "peer", "http", "kafka")

BrokerId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Address = str
"""`host:port`, or `[address]:port` for IPv6."""


class BrokerSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which broker this is."""

    id: BrokerId
    """The number of this broker, unlike any other's in the cluster. It stays with the data directory for good."""
    data_directory: Annotated[str, Meta(min_length=1)]
    """Where the logs live. Relative to where the broker is started."""
    rack: Annotated[str, Meta(max_length=100)] = ""
    """What fails together with this broker (a rack, a zone); replicas are spread over racks."""


class ListenSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where this broker accepts connections: host:port each. A host of 0.0.0.0 or [::] is every interface."""

    grpc: Address = "127.0.0.1:9600"
    """Clients."""
    peer: Address = "127.0.0.1:9601"
    """The other brokers."""
    http: Address = "127.0.0.1:9602"
    """Metrics, health and the console."""
    kafka: Address = ""
    """Kafka clients. Left out, there is no door for them."""


class AdvertiseSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where others reach this broker: host:port each.

    Left out, an address is the one listened on; where that is every interface, this machine's host name with its port.
    `peer` is first of all what `cluster.peers` says of this broker.
    """

    grpc: Address = ""
    peer: Address = ""
    http: Address = ""
    kafka: Address = ""


class ClusterSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The brokers to begin with, and what proves that a broker belongs to them."""

    peers: dict[BrokerId, Address] = {}
    """Peer address of each initial voter of the cluster, the same on every broker. A broker not among them joins the
    cluster through them; left out, this broker is a cluster of its own."""
    secret: str = ""
    """Shared by all brokers of the cluster, at least 16 bytes. Without one, this broker speaks to no other."""
    secret_file: str = ""
    """A file that holds the secret (white space around it is left out)."""

    def __repr__(self) -> str:
        # A configuration ends up in logs and debug bundles; the secret must not.
        shown = "'...'" if self.secret else "''"
        return f"ClusterSection(peers={self.peers!r}, secret={shown}, secret_file={self.secret_file!r})"


class LimitsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client, or all of them, can take of this broker."""

    message_bytes_max: Positive = 16 << 20
    """Of one gRPC message, either way."""
    batch_bytes_max: Positive = 1 << 20
    """Of one record batch, as stored; a topic may set less."""
    produce_in_flight_bytes_max: Positive = 32 << 20
    """Received on one produce stream and not yet answered; past it the broker stops reading from the stream."""
    fetch_bytes_max: Positive = 8 << 20
    """Of records in one fetch reply, over all its partitions. Of gRPC's 2 MiB are enough, unless a batch is larger."""
    fetch_wait_ms_max: Positive = 60_000
    """How long a fetch may be parked until there is something to fetch."""
    partitions_max: Positive = 4000
    """Replicas on this broker. Creation beyond it is refused."""
    connections_max: Positive = 10_000
    """Of clients, on the gRPC port. Further ones are closed at once."""
    connect_ms_max: Positive = 10_000
    """From a client's connection until it has said that it speaks HTTP/2."""
    calls_max: Positive = 20_000
    """Calls of all clients being carried out, waiting ones included; further ones are answered OVERLOADED."""
    calls_per_host_max: Positive = 5_000
    """The same, of one remote address."""
    http_connections_max: Positive = 64
    """On the HTTP port. Past it the oldest gives way to the one that comes."""


class KafkaSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door for Kafka clients, if `listen.kafka` opens it. The same on every broker."""

    auto_create_topics: bool = False
    """Is a topic made that a client asks for and that is not there? Then a misspelt name makes one too."""
    auto_create_partitions: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Of a topic made so."""
    idle_ms_max: Positive = 600_000
    """A connection on which nothing is asked for so long is closed; clients connect anew when they have to."""
    rebalance_delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1000
    """How long the first member of a group of Kafka clients waits for others before partitions are shared out."""
    consumer_session_ms: Annotated[int, Meta(ge=1000, le=1_800_000)] = 45_000
    """How long a member with `group.protocol=consumer` may be silent before its partitions go to others, within
    `groups.session_ms_min` and `groups.session_ms_max`."""
    consumer_heartbeat_ms: Annotated[int, Meta(ge=100, le=600_000)] = 5000
    """How often such a member is to be heard. Members learn that partitions move when they are heard.
    A third of the session at most."""


class DiskSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens before the disk is full: produce stops first, replication later, deletion and votes never."""

    produce_stop_free_bytes: Positive = 512 << 20
    """With less space free than this, batches of clients are refused (DISK_FULL)."""
    replication_stop_free_bytes: Positive = 256 << 20
    """With less space free than this, this broker's replicas accept no more items from their leaders."""


class PeerSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The links between brokers."""

    heartbeat_interval_ms: Positive = 100
    """Between two pings on each of the two links of a pair."""
    silence_ms_max: Positive = 3000
    """A session on one of whose links no ping was answered for so long is ended, and dialled anew."""
    handshake_ms_max: Positive = 10_000
    """From the first byte of a connection until both sides have proved who they are."""
    reconnect_ms_min: Positive = 50
    """First wait before dialling again; it doubles with each failure, and is shortened by chance by up to a half."""
    reconnect_ms_max: Positive = 1000
    control_bytes_max: Positive = 16 << 20
    """Waiting to be sent on the control link to one broker; past it the session is ended."""
    bulk_bytes_max: Positive = 64 << 20
    """Waiting to be sent on the bulk link to one broker; past it messages are dropped, and Raft sends them again."""
    handshakes_max: Positive = 256
    """Connections that have not yet proved who they are. Past it the oldest of them gives way to the one that comes."""
    handshakes_per_host_max: Positive = 64
    """The same, of one remote address."""
    calls_in_flight_max: Positive = 256
    """Calls of one broker being carried out here; further ones are answered OVERLOADED."""


class GroupsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Consumer groups. The same on every broker, as any may come to coordinate any group."""

    offsets_partitions: Annotated[int, Meta(ge=1, le=64)] = 6
    """Partitions of `__offsets`, over which groups and so their coordinators are spread. Used once, when the cluster
    makes that topic; later changes mean nothing."""
    members_max: Positive = 1000
    """Of one group. Further ones are refused (GROUP_FULL)."""
    groups_max: Positive = 10_000
    """In one partition of `__offsets`."""
    session_ms_min: Positive = 1000
    """The shortest session that a member may ask for."""
    session_ms_max: Positive = 1_800_000
    """The longest: a member that died holds its partitions for so long."""
    settle_ms: Annotated[int, Meta(ge=0, le=60_000)] = 50
    """Members that come and go within so long are answered by one new assignment."""
    metadata_bytes_max: Positive = 4096
    """Of the text that an application keeps beside a stored offset, as UTF-8."""
    offsets_retention_ms: Positive = 7 * 24 * 3_600_000
    """Offsets of a group that has had no members, and stored nothing, for so long are forgotten. The time counts from
    when its coordinator began, by that one's own timer: no clock that is wrong makes a group older."""


class RetentionSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a topic's records is kept if the topic does not say. The same on every broker."""

    ms: Annotated[int, Meta(ge=-1)] = -1
    """How long after they were appended. -1: for good; nothing is forgotten unless somebody asked for it."""
    bytes: Annotated[int, Meta(ge=-1)] = -1
    """Of each partition. -1: all."""
    follower_bytes: Annotated[int, Meta(ge=0)] = 1 << 30
    """Of each partition, kept longer for a replica that lags; one further behind begins anew where the log starts."""
    check_interval_ms: Annotated[int, Meta(ge=100)] = 30_000
    """Between two looks at what can go."""


class CompactionSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of topics that keep the newest record of each key. Another process does it, when nothing else wants the CPU."""

    bytes_per_s: Positive = 50 << 20
    """Read and written by it, at most."""
    table_bytes_max: Annotated[int, Meta(ge=1 << 20)] = 64 << 20
    """Of its memory, for keys. Where they find no room, the log is read again, for the others."""
    dirty_bytes_max: Positive = 256 << 20
    """A log is compacted once it has grown by so much since the last time, or else by as much as it was."""
    check_interval_ms: Annotated[int, Meta(ge=100)] = 15_000
    """Between two looks at what can be compacted."""


class ScrubSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The slow reading of all that is stored here, which finds decay while another replica can repair it."""

    interval_ms: Annotated[int, Meta(ge=100)] = 7 * 24 * 3_600_000
    """Each log is read once in so long."""
    bytes_per_s: Positive = 10 << 20
    """Read, at most."""


class BoardSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The board on which brokers show each other where they are and what they lead."""

    enabled: bool = True
    """false: this broker takes no part in it. Nothing depends on the board; brokers then know of each other only what
    they tell each other directly."""


class ConsoleSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The console, a page at `listen.http`. Whoever reaches that port can use it: there are no passwords."""

    enabled: Literal["auto", "yes", "no"] = "auto"
    """auto: where `listen.http` is a loopback address, which only this machine reaches. With it records can be read.
    `true` and `false` are taken as well, here and for `read_only`."""
    read_only: Literal["auto", "yes", "no"] = "auto"
    """yes: nothing can be made, produced or moved with it. auto: so unless `listen.http` is a loopback address."""
    hosts: str = ""
    """Names by which browsers may call it, separated by commas, beside `localhost`, IP addresses and what
    `advertise.http` says. Any other is refused: somebody else could have pointed it here."""
    streams_max: Annotated[int, Meta(ge=1, le=1000)] = 8
    """Searches, downloads and live tails at a time; further ones are refused."""
    search_bytes_max: Positive = 256 << 20
    """Of records that one search looks through before it stops and says how far it came."""
    search_ms_max: Positive = 30_000
    """How long one search lasts before it stops likewise."""


class LogSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this broker writes to standard error about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "human", "json"] = "auto"
    """auto: human on a terminal, else json."""


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that one broker is told when it starts."""

    broker: BrokerSection
    listen: ListenSection = ListenSection()
    advertise: AdvertiseSection = AdvertiseSection()
    """Complete once loaded: no address is empty, but that of a door which is not open."""
    cluster: ClusterSection = ClusterSection()
    """Once loaded, `peers` is not empty, and `secret` holds what was in `secret_file`."""
    replica: ReplicaConfig = ReplicaConfig()
    """The same on every broker."""
    limits: LimitsSection = LimitsSection()
    kafka: KafkaSection = KafkaSection()
    disk: DiskSection = DiskSection()
    peer: PeerSection = PeerSection()
    groups: GroupsSection = GroupsSection()
    retention: RetentionSection = RetentionSection()
    compaction: CompactionSection = CompactionSection()
    scrub: ScrubSection = ScrubSection()
    board: BoardSection = BoardSection()
    console: ConsoleSection = ConsoleSection()
    log: LogSection = LogSection()

    @property
    def is_initial_voter(self) -> bool:
        """Is this broker one of those that form the cluster? Any other joins it."""
        return self.broker.id in self.cluster.peers


def load_config(path: str | Path | None, environ: Mapping[str, str], sets: Sequence[str] = ()) -> BrokerConfig:
    """The configuration from the file at `path` (None: no file), `environ` and `sets` ("section.key=value"), in order.

    Raises InvalidConfig; its one line names source, key, value and reason. A secret's value is never shown.
    """
    given = _Given()
    if path is not None:
        for key, value in _of_file(Path(path)):
            given.take(key, value, source=str(path), strict=True)
    for key, value, variable in _of_environment(environ):
        given.take(key, value, source=variable, strict=False)
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidConfig(f"--set {name}: expected section.key=value")
        given.take(tuple(name.strip().split(".")), value, source="--set", strict=False)
    return given.complete()


def host_and_port(address: Address) -> tuple[str, int]:
    """The two parts of `host:port`. Raises ValueError that says what is wrong."""
    host, colon, digits = address.rpartition(":")
    if not colon or not digits.isascii() or not digits.isdigit():
        raise ValueError("expected host:port")
    port = int(digits) if len(digits) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ValueError("the port must be from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write an IPv6 address as [address]:port")
    if not host or len(host) > 253 or any(mark <= " " or mark in "/@[]" for mark in host):
        raise ValueError("expected host:port")
    return host, port


class _Given:
    """The values given so far, and who gave them."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, str] = {}

    def take(self, key: tuple[str, ...], value: object, *, source: str, strict: bool) -> None:
        """Check one value by itself, and let it replace what an earlier source said."""
        name = ".".join(key)
        section, field = _find(key, source)
        if isinstance(value, str) and not _is_utf8(value):
            raise _wrong(source, name, value, "not UTF-8 text")
        if (section, field) == ("cluster", "peers"):
            self._take_peers(key[2:], value, source)
            return
        if len(key) > 2:
            raise InvalidConfig(f"{source}: {name}: {section}.{field} is one value, not a table")
        if not field:
            known = ", ".join(_fields(_sections()[section]))
            raise InvalidConfig(f"{source}: {name} names no key; name one of {known}")
        kind = _fields(_sections()[section])[field]
        if {"yes", "no"} <= {*get_args(kind)}:  # also as TOML has it
            value = {"true": "yes", "false": "no"}.get(str(value).lower(), value)
        try:
            value = msgspec.convert(value, kind, strict=strict)
        except ValueError as error:  # msgspec's are such
            raise _wrong(source, name, value, _reason(error)) from None
        self._values.setdefault(section, {})[field] = value
        self._sources[f"{section}.{field}"] = source

    def complete(self) -> BrokerConfig:
        """Fill in what follows from the rest, then check what must agree."""
        for needed in ("id", "data_directory"):
            if needed not in self._values.get("broker", {}):
                variable = f"{ENVIRONMENT_PREFIX}BROKER__{needed.upper()}"
                raise InvalidConfig(
                    f"broker.{needed} is not set; set it in the file, as {variable} or with --set broker.{needed}=...",
                    key=f"broker.{needed}",
                )
        config = BrokerConfig(**{name: kind(**self._values.get(name, {})) for name, kind in _sections().items()})
        self._check_addresses(config)
        config = self._with_advertise(config)
        config = self._with_cluster(config)
        self._check_sizes(config)
        return config

    def _take_peers(self, rest: tuple[str, ...], value: object, source: str) -> None:
        """`cluster.peers` as a table, or as "1=host:port,2=host:port"; a single peer as `cluster.peers.1`."""
        peers: dict[int, str] = self._values.setdefault("cluster", {}).setdefault("peers", {})
        name = ".".join(("cluster.peers", *rest))
        if len(rest) > 1:
            raise InvalidConfig(f"{source}: {name}: a peer is one value, not a table")
        if rest:
            table: dict[Any, Any] = {rest[0]: value}
        else:
            peers.clear()
            if isinstance(value, str):
                pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
                table = {broker_id.strip(): address.strip() for broker_id, _, address in pairs}
            elif isinstance(value, dict):
                table = value
            else:
                raise _wrong(source, name, value, "expected a table of broker id to host:port")
        for broker_id, address in table.items():
            digits = str(broker_id)
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) < 2**31):
                raise _wrong(source, name, broker_id, "a peer is named by its broker id, a number")
            try:
                host_and_port(msgspec.convert(address, str))
            except (msgspec.ValidationError, ValueError) as error:
                raise _wrong(source, f"cluster.peers.{broker_id}", address, _reason(error)) from None
            peers[int(broker_id)] = address
            self._sources[f"cluster.peers.{broker_id}"] = source
        self._sources["cluster.peers"] = source

    def _check_addresses(self, config: BrokerConfig) -> None:
        listened: dict[str, str] = {}
        for section in ("listen", "advertise"):
            for field in _DOORS:
                address = getattr(getattr(config, section), field)
                if not address and (section == "advertise" or field == "kafka"):
                    continue
                try:
                    host, _ = host_and_port(address)
                except ValueError as error:
                    raise self._refuse(f"{section}.{field}", address, str(error)) from None
                if section == "advertise" and _is_every_interface(host):
                    raise self._refuse(f"advertise.{field}", address, "others cannot connect to a wildcard address")
                if section == "listen" and address in listened:
                    raise self._refuse(f"listen.{field}", address, f"listen.{listened[address]} is the same")
                if section == "listen":
                    listened[address] = field

    def _with_advertise(self, config: BrokerConfig) -> BrokerConfig:
        complete: dict[str, str] = {}
        own_peer = config.cluster.peers.get(config.broker.id, "")
        for field in _DOORS:
            address = getattr(config.advertise, field)
            if field == "kafka" and not config.listen.kafka:
                if address:
                    raise self._refuse("advertise.kafka", address, "listen.kafka is not set, so nobody would answer")
                continue
            if field == "peer" and address and own_peer and address != own_peer:
                raise self._refuse(
                    "advertise.peer", address, f"cluster.peers.{config.broker.id} says {own_peer}; the two must agree"
                )
            if not address and field == "peer" and own_peer:
                if host_and_port(own_peer)[1] != host_and_port(config.listen.peer)[1]:
                    raise self._refuse(
                        "listen.peer",
                        config.listen.peer,
                        f"cluster.peers.{config.broker.id} says {own_peer}; "
                        "set advertise.peer too if the ports are meant to differ",
                    )
                address = own_peer
            if not address:
                address = getattr(config.listen, field)
                host, port = host_and_port(address)
                if _is_every_interface(host):
                    address = f"{socket.gethostname()}:{port}"
            complete[field] = address
        return msgspec.structs.replace(config, advertise=AdvertiseSection(**complete))

    def _with_cluster(self, config: BrokerConfig) -> BrokerConfig:
        cluster = config.cluster
        peers = dict(sorted(cluster.peers.items())) or {config.broker.id: config.advertise.peer}
        if len(peers) > INITIAL_VOTERS_MAX:
            raise self._refuse("cluster.peers", len(peers), f"at most {INITIAL_VOTERS_MAX} initial voters")
        seen: dict[str, int] = {}
        for broker_id, address in peers.items():
            if address in seen:
                raise self._refuse(
                    f"cluster.peers.{broker_id}", address, f"broker {seen[address]} has this address too"
                )
            if _is_every_interface(host_and_port(address)[0]):
                raise self._refuse(f"cluster.peers.{broker_id}", address, "others cannot connect to a wildcard address")
            seen[address] = broker_id
        secret = cluster.secret
        source = "cluster.secret"
        if cluster.secret_file:
            source = "cluster.secret_file"
            if secret:
                raise self._refuse(source, cluster.secret_file, "cluster.secret is set too; keep one of them")
            try:
                secret = Path(cluster.secret_file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise self._refuse(source, cluster.secret_file, _os_reason(error)) from None
        elif not secret and set(peers) != {config.broker.id}:
            raise InvalidConfig(
                "cluster.secret is not set, and cluster.peers names other brokers; "
                "give all brokers the same secret or secret_file",
                key="cluster.secret",
            )
        if (secret or cluster.secret_file) and len(secret.encode()) < SECRET_BYTES_MIN:
            shown = cluster.secret_file or "..."
            raise self._refuse(
                source, shown, f"a secret has at least {SECRET_BYTES_MIN} bytes, this one {len(secret.encode())}"
            )
        return msgspec.structs.replace(
            config, cluster=ClusterSection(peers=peers, secret=secret, secret_file=cluster.secret_file)
        )

    def _check_sizes(self, config: BrokerConfig) -> None:
        replica, limits, disk, peer, groups = config.replica, config.limits, config.disk, config.peer, config.groups
        for field in _fields(ReplicaConfig):
            value = getattr(replica, field)
            if isinstance(value, int | float) and value <= 0:
                raise self._refuse(f"replica.{field}", value, "must be above zero")
        # Each pair: the value that must not be larger, and the one that it must fit in.
        segment = replica.segment_bytes_max
        entry = replica.append_bytes_max
        batch, message = limits.batch_bytes_max, limits.message_bytes_max
        room = message - 4096  # for what goes around records in a message
        ordered = (
            ("replica.election_timeout_ms", replica.election_timeout_ms, "peer.silence_ms_max", peer.silence_ms_max),
            ("replica.mark_interval_ms", replica.mark_interval_ms, "(a second)", 1000),
            # Else a follower whose disk keeps up would look as if it did not: by what is synced voters are changed.
            (
                "replica.memory_flush_ms",
                replica.memory_flush_ms,
                "replica.election_timeout_ms",
                replica.election_timeout_ms,
            ),
            (
                "replica.memory_flush_bytes",
                replica.memory_flush_bytes,
                "replica.memory_unsynced_bytes_max",
                replica.memory_unsynced_bytes_max,
            ),
            ("replica.append_bytes_max", entry, "(a peer frame's room)", 16 << 20),
            ("replica.append_bytes_max", entry, "replica.in_flight_bytes_max", replica.in_flight_bytes_max),
            ("replica.index_interval_bytes", replica.index_interval_bytes, "replica.segment_bytes_max", segment),
            ("replica.segment_bytes_max", segment, "(positions have 31 bits)", 2**31 - 1),
            ("limits.batch_bytes_max", batch, "limits.message_bytes_max", room),
            ("limits.batch_bytes_max", batch, "replica.segment_bytes_max", segment),
            ("limits.batch_bytes_max", batch, "limits.fetch_bytes_max", limits.fetch_bytes_max),
            ("limits.batch_bytes_max", batch, "peer.bulk_bytes_max", peer.bulk_bytes_max // 2),
            ("limits.batch_bytes_max", batch, "(a peer frame's room)", 16 << 20),
            ("limits.fetch_bytes_max", limits.fetch_bytes_max, "limits.message_bytes_max", room),
            ("limits.message_bytes_max", message, "(a gRPC message's room)", 256 << 20),
            (
                "limits.message_bytes_max",
                message,
                "limits.produce_in_flight_bytes_max",
                limits.produce_in_flight_bytes_max,
            ),
            ("peer.reconnect_ms_min", peer.reconnect_ms_min, "peer.reconnect_ms_max", peer.reconnect_ms_max),
            ("peer.handshakes_per_host_max", peer.handshakes_per_host_max, "peer.handshakes_max", peer.handshakes_max),
            ("limits.calls_per_host_max", limits.calls_per_host_max, "limits.calls_max", limits.calls_max),
            ("limits.connections_max", limits.connections_max, "(gRPC's own bound)", 2**31 - 1),
            ("limits.connect_ms_max", limits.connect_ms_max, "(an hour)", 3_600_000),
            ("groups.session_ms_min", groups.session_ms_min, "groups.session_ms_max", groups.session_ms_max),
            ("groups.metadata_bytes_max", groups.metadata_bytes_max, "(a record's room)", METADATA_BYTES_HIGHEST),
        )
        for key, value, bound_key, bound in ordered:
            if value > bound:
                raise self._refuse(key, value, f"must not be above {bound}, for {bound_key}")
        if 2 * peer.heartbeat_interval_ms >= replica.election_timeout_ms:
            raise self._refuse(
                "peer.heartbeat_interval_ms",
                peer.heartbeat_interval_ms,
                f"two of them must be shorter than replica.election_timeout_ms ({replica.election_timeout_ms})",
            )
        for field, limit in (("ms", config.retention.ms), ("bytes", config.retention.bytes)):
            if limit == 0:
                raise self._refuse(f"retention.{field}", limit, "must be above zero, or -1 for no limit")
        if disk.replication_stop_free_bytes >= disk.produce_stop_free_bytes:
            raise self._refuse(
                "disk.replication_stop_free_bytes",
                disk.replication_stop_free_bytes,
                f"must be below disk.produce_stop_free_bytes ({disk.produce_stop_free_bytes}): produce stops first",
            )

    def _refuse(self, key: str, value: object, reason: str) -> InvalidConfig:
        return _wrong(self._sources.get(key, "default"), key, value, reason)


class _Key(NamedTuple):
    section: str
    field: str


def _of_file(path: Path) -> Iterator[tuple[tuple[str, ...], object]]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: {_os_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path}: no valid TOML: {_one_line(str(error))}") from None
    for section, table in tables.items():
        if not isinstance(table, dict):
            if section in _sections():
                raise _wrong(str(path), section, table, f"expected a section, [{section}]")
            _find((section,), str(path))
        elif not table:
            _find((section, ""), str(path))
        else:
            for field, value in table.items():
                yield (section, field), value


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    # A variable without `__` belongs to the command line (LOGRAFT_BROKERS) and is not ours to judge.
    for variable in sorted(environ):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name != variable and "__" in name:
            yield tuple(name.lower().split("__")), environ[variable], variable


def _find(key: tuple[str, ...], source: str) -> _Key:
    """The section and field that `key` names. Raises InvalidConfig with the nearest name for an unknown one."""
    name = ".".join(key)
    kind = _sections().get(key[0])
    if kind is not None and len(key) > 1 and (key[1] in _fields(kind) or not key[1]):
        return _Key(key[0], key[1])
    known = [f"{section}.{field}" for section, kind in _sections().items() for field in _fields(kind)]
    if kind is None and len(key) > 1 and not key[1]:
        name, known = key[0], list(_sections())
    elif len(key) == 1 and kind is not None:
        raise InvalidConfig(f"{source}: {name} is a section; name a key in it: {', '.join(_fields(kind))}", key=name)
    elif len(key) == 1:
        known += [*_sections()]
        # The bare name of a key that wants its section is the likeliest slip of all.
        known.sort(key=lambda full: full.partition(".")[2] != key[0])
        if known[0].partition(".")[2] == key[0]:
            raise InvalidConfig(f"{source}: unknown key {name}; did you mean {known[0]}?", key=name)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"sections are {', '.join(_sections())}"
    raise InvalidConfig(f"{source}: unknown key {_one_line(name)}; {hint}", key=name)


def _sections() -> dict[str, Any]:
    return _SECTIONS


def _fields(kind: type) -> dict[str, Any]:
    return _FIELDS[kind]


_SECTIONS: dict[str, Any] = get_type_hints(BrokerConfig, include_extras=True)
_FIELDS: dict[type, dict[str, Any]] = {kind: get_type_hints(kind, include_extras=True) for kind in _SECTIONS.values()}


def _wrong(source: str, key: str, value: object, reason: str) -> InvalidConfig:
    shown = "..." if key == "cluster.secret" else _one_line(repr(value))
    return InvalidConfig(f"{source}: {key} = {shown}: {reason}", key=key, value=shown, source=source)


def _one_line(text: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in text[:200])


def _reason(error: Exception) -> str:
    text = str(error).replace("`", "")
    return text[0].lower() + text[1:] if text else type(error).__name__


def _os_reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return (getattr(error, "strerror", None) or type(error).__name__).lower()


def _is_utf8(text: str) -> bool:
    """Arguments and the environment may hold other bytes, which Python then keeps as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_every_interface(host: str) -> bool:
    return host in ("0.0.0.0", "::", "*")
