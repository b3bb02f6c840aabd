"""What `lograft debug bundle` packs: one .tar.gz that tells somebody elsewhere how a cluster is.

Always
    no record: keys, values and headers are never asked for, log files are listed by name and size and never read
    no secret: settings that sound like one are blanked, and the cluster's secret is blanked wherever it stands
    what could not be had is named with its reason, and the rest is packed all the same
    bounded: every question has a deadline, every file a size from which on only its end is packed
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
import platform
import re
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ...proto.errors import LograftError
from ..client import Client
from .broker_http import Unanswered, get
from .endings import Refused, one_line
from .health_command import Condition
from .local_cluster import LocalCluster
from .tables import count, size

LOG_BYTES_MAX = 2 << 20
GROUPS_MAX = 500
LISTED_FILES_MAX = 50_000
_ASK_TIMEOUT_S = 10.0
_REMOVED = "(removed)"
_SECRET_KEYS = re.compile(r"(?i)secret|password|passwd|token|credential|private|api_?key")
_SETTING = re.compile(r"""^(?P<before>\s*["']?(?P<key>[\w.\-]+)["']?\s*[=:]\s*)(?P<value>.+)$""")
_PACKAGES = (
    "lograft", "grpcio", "protobuf", "pysyncobj", "lz4", "zstandard", "prometheus-client", "crc32c", "aiokafka",
    "uvloop", "msgspec", "typer", "rich", "structlog", "psutil", "google-re2",
)  # fmt: skip
_ENVIRONMENT = ("LOGRAFT_", "PYTHON", "GRPC_", "LANG", "LC_")


class Bundle:
    """Gathers files in memory; `write` packs them."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        self._missing: list[str] = []
        self._secrets: set[str] = set()

    def keep_secret(self, text: str) -> None:
        """Blank this wherever it stands. What is too short to be told from ordinary words is left to the keys."""
        if len(text) >= 8:
            self._secrets.add(text)

    def add(self, name: str, content: str | bytes, what: str) -> None:
        self._files[name] = (content.encode() if isinstance(content, str) else content, what)

    def add_json(self, name: str, value: object, what: str) -> None:
        self.add(name, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n", what)

    def note_missing(self, what: str, why: object) -> None:
        self._missing.append(f"{what}: {one_line(str(why)) or type(why).__name__}")

    @property
    def missing(self) -> list[str]:
        return [self._clean(line.encode()).decode() for line in self._missing]

    def contents(self) -> list[tuple[str, int, str]]:
        """Name, bytes and meaning of each file."""
        return [(name, len(content), what) for name, (content, what) in sorted(self._files.items())]

    def write(self, path: Path) -> None:
        """Readable by its owner alone. Raises Refused if the file is there already."""
        folder = path.name.removesuffix(".tar.gz").removesuffix(".tgz")
        now_s = int(time.time())
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise Refused(f"{path} is there already", "name another file with --out, or remove it") from None
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content in [("README.txt", self._readme().encode()), *self._cleaned()]:
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), now_s, 0o600
                archive.addfile(entry, io.BytesIO(content))

    def _cleaned(self) -> Iterable[tuple[str, bytes]]:
        for name, (content, _) in sorted(self._files.items()):
            yield name, self._clean(content)

    def _clean(self, content: bytes) -> bytes:
        for secret in self._secrets:
            content = content.replace(secret.encode(), _REMOVED.encode())
        return content

    def _readme(self) -> str:
        named = [f"  {name:<42} {what}" for name, _, what in self.contents()]
        missing = [f"  {line}" for line in self.missing] or ["  nothing"]
        return "\n".join(
            [
                f"lograft debug bundle, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}",
                "",
                "It holds no records: no keys, values or headers; log files are listed, not read.",
                "Secrets are blanked. It does hold names of topics, groups, hosts and clients, and addresses.",
                "",
                "Files:",
                *named,
                "",
                "Could not be had:",
                *missing,
                "",
            ]
        )


def without_secrets(text: str) -> str:
    """A TOML file or list of settings with the values of whatever sounds like a secret blanked; paths of files stay."""
    cleaned = []
    for line in text.splitlines():
        found = _SETTING.match(line)
        if found and _SECRET_KEYS.search(found["key"]) and not found["key"].lower().endswith("_file"):
            line = f'{found["before"]}"{_REMOVED}"'
        cleaned.append(line)
    return "\n".join(cleaned) + "\n"


# What is gathered -------------------------------------------------------------------------------------------------


def add_this_machine(bundle: Bundle) -> None:
    """Versions, the machine and the settings of the environment; nothing of the cluster."""
    import psutil

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    machine: dict[str, Any] = {
        "python": sys.version,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
        "memory_bytes": psutil.virtual_memory()._asdict(),
        "clock_unix_s": time.time(),
        "packages": versions,
    }
    bundle.add_json("machine.json", machine, "versions of lograft and what it uses; processors, memory, load")
    environment = "".join(
        f"{name}={text}\n" for name, text in sorted(os.environ.items()) if name.startswith(_ENVIRONMENT)
    )
    bundle.add("environment.txt", without_secrets(environment), "settings in the environment of this command")


async def add_cluster(bundle: Bundle, addresses: list[str], known_doors: Mapping[int, str]) -> None:
    """What the cluster tells of itself, and each broker of its own, also where no broker speaks for the cluster.

    `known_doors` are HTTP addresses by broker, as far as they are known before anybody is asked.
    """
    doors = dict(known_doors)
    try:
        await _ask_cluster(bundle, addresses, doors)
    except LograftError as error:
        bundle.note_missing("what the cluster tells of itself", error)
    await asyncio.gather(*(_add_broker(bundle, number, address) for number, address in doors.items()))


async def _ask_cluster(bundle: Bundle, addresses: list[str], doors: dict[int, str]) -> None:
    async with Client(addresses, client_id="lograft-debug", timeout=_ASK_TIMEOUT_S) as client:

        async def cluster() -> object:
            described = await client.admin.describe_cluster()
            doors.update({one.broker_id: one.http_address for one in described.brokers if one.http_address})
            return {"condition": Condition.of(described).name, **dataclasses.asdict(described)}

        async def groups() -> object:
            listed = await client.groups.list()
            if len(listed) > GROUPS_MAX:
                bundle.note_missing("cluster/groups.json", f"of {len(listed)} groups the first {GROUPS_MAX}")
            return [await _group_of(client, one.group) for one in listed[:GROUPS_MAX]]

        async def topics() -> object:
            return [dataclasses.asdict(one) for one in await client.admin.list_topics(internal=True)]

        async def settings() -> object:
            return [dataclasses.asdict(one) for one in await client.admin.cluster_settings()]

        await _gather(bundle, "cluster/cluster.json", cluster, "brokers, controller, health and why it is not whole")
        await _gather(bundle, "cluster/topics.json", topics, "topics: settings, partitions, leaders, replicas, offsets")
        await _gather(bundle, "cluster/settings.json", settings, "settings of the whole cluster")
        await _gather(bundle, "cluster/groups.json", groups, "groups: members, owners, stored offsets, lag")


async def _gather(bundle: Bundle, name: str, ask: Callable[[], Awaitable[object]], what: str) -> None:
    try:
        bundle.add_json(name, await ask(), what)
    except LograftError as error:
        bundle.note_missing(name, error)


async def _group_of(client: Client, group: str) -> object:
    try:
        described = dataclasses.asdict(await client.groups.describe(group))
    except LograftError as error:
        return {"group": group, "failed": str(error)}
    for partition in described["partitions"]:
        partition.pop("metadata", None)  # an application's own words: they may be of its records
    return described


_DOORS = {
    "/metrics": ("metrics.txt", "its metrics"),
    "/metrics/partitions": ("metrics-partitions.txt", "its metrics of each partition"),
    "/readyz": ("readyz.txt", "is it ready, and if not, why"),
    "/healthz": ("healthz.txt", "does it live"),
}


async def _add_broker(bundle: Bundle, broker_id: int, address: str) -> None:
    for path, (name, what) in _DOORS.items():
        try:
            bundle.add(f"brokers/{broker_id}/{name}", await get(address, path), f"broker {broker_id}: {what}")
        except Unanswered as error:
            bundle.note_missing(f"brokers/{broker_id}/{name}", error)


def add_local_cluster(bundle: Bundle, cluster: LocalCluster) -> None:
    """Configurations, ends of logs and lists of files of a cluster of this machine, whether it runs or not."""
    try:
        bundle.keep_secret((cluster.directory / "secret").read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        bundle.note_missing("the secret, to be blanked", error)
    _add_text(bundle, "local/cluster.json", cluster.directory / "cluster.json", "ports and processes of the brokers")
    for broker in cluster.brokers:
        place = f"local/{broker.directory.name}"
        _add_text(bundle, f"{place}/broker.toml", broker.config, "its configuration, without secrets")
        for name in ("log", "log.previous"):
            if (broker.directory / name).exists():
                since = "its last start" if name == "log" else "the start before"
                _add_text(bundle, f"{place}/{name}.txt", broker.directory / name, f"end of its log since {since}")
        bundle.add(f"{place}/files.txt", listing(broker.directory / "data"), "its data directory: names and sizes")


def add_broker_config(bundle: Bundle, config: Path, number: int) -> None:
    """A broker of this machine by its configuration: that, and its data directory's names and sizes."""
    import tomllib

    place = f"configured/{number}-{config.stem}"
    _add_text(bundle, f"{place}/{config.name}", config, "a broker's configuration, without secrets")
    try:
        settings = tomllib.loads(config.read_text())
        cluster = settings.get("cluster", {})
        bundle.keep_secret(str(cluster.get("secret", "")))
        if secret_file := cluster.get("secret_file"):
            bundle.keep_secret((config.parent / secret_file).read_text().strip())
        data = config.parent / settings["broker"]["data_directory"]
        bundle.add(f"{place}/files.txt", listing(data), "its data directory: names and sizes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        bundle.note_missing(f"{place}/files.txt", error)


def _add_text(bundle: Bundle, name: str, path: Path, what: str) -> None:
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - LOG_BYTES_MAX, 0))
            content = file.read(LOG_BYTES_MAX)
    except OSError as error:
        bundle.note_missing(name, error)
        return
    text = content.decode("utf-8", "replace")
    if length > LOG_BYTES_MAX:
        text = f"({size(length - LOG_BYTES_MAX)} before this left out)\n" + text.partition("\n")[2]
    bundle.add(name, without_secrets(text) if path.suffix == ".toml" else text, what)


def listing(directory: Path) -> str:
    """Every file below `directory`: bytes, time of its last change and name. No file is opened."""
    lines = []
    for parent, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            try:
                found = path.lstat()
            except OSError as error:
                lines.append(f"{'?':>14}  {error.strerror}  {path.relative_to(directory)}")
                continue
            changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.st_mtime))
            lines.append(f"{found.st_size:>14}  {changed}  {path.relative_to(directory)}")
            if len(lines) >= LISTED_FILES_MAX:
                return "\n".join([*lines, f"and more than these {count(LISTED_FILES_MAX, 'file')}", ""])
    return "\n".join([*lines, ""]) if lines else f"nothing in {directory}\n"
