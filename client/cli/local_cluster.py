"""A cluster of plain processes on this machine, and the directory that describes it.

    DIR/cluster.json        ports, and the process of each broker by pid and birth
    DIR/secret              proof of membership, readable by its owner alone
    DIR/broker-N/           broker.toml (written anew by each `up`), log (of this start), log.previous, data/
    DIR/prometheus/         of `up --monitoring`; see local_monitoring.py

Always
    cluster.json is replaced as a whole, and changed only under the lock; whoever reads it needs no lock
    a process is signalled only if it is the very one that cluster.json names
    nothing outside these names is ever deleted
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import processes
from .endings import Refused
from .local_monitoring import LocalMonitoring, choose_port
from .ports import HOST, BrokerPorts
from .processes import ProcessIdentity

DEFAULT_DIRECTORY = "lograft-data"
DEFAULT_BASE_PORT = 9600
DEFAULT_BROKERS = 3
STOP_TIMEOUT_S = 15.0
REMOVED_BY = "lograft broker remove"
RESTARTING = "lograft restart"
"""Who ended a broker (`ended_by`) that is about to be started again."""
_KIND = "lograft local cluster"
_FORMAT = 1
_PEERS_TITLE = "[cluster.peers]\n"
# What the shell exports for brokers (LOGRAFT_SECTION__KEY) holds for ours too, except what makes a broker this broker.
_OURS_TO_SAY = ("LOGRAFT_BROKER__", "LOGRAFT_LISTEN__", "LOGRAFT_ADVERTISE__", "LOGRAFT_CLUSTER__")


@dataclass(slots=True)
class LocalBroker:
    """One broker of the cluster: where it listens, and its process as last started."""

    broker_id: int
    ports: BrokerPorts
    directory: Path
    process: ProcessIdentity | None = None
    ended_by: str | None = None
    """The command that ended it (`lograft down`, `lograft kill`); None if it runs, or went by itself."""

    @property
    def is_removed(self) -> bool:
        """Is it no member of the cluster any more? Its directory stays, and its number is not used again."""
        return self.ended_by == REMOVED_BY

    @property
    def is_running(self) -> bool:
        return processes.is_alive(self.process)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def config(self) -> Path:
        return self.directory / "broker.toml"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        return f"http://{self.metrics_address}/metrics"

    @property
    def metrics_address(self) -> str:
        return f"{HOST}:{self.ports.http}"

    @property
    def console_url(self) -> str:
        return f"http://{HOST}:{self.ports.http}/"

    def last_words(self, count: int = 6) -> list[str]:
        """The end of its log, in lines for people."""
        return [_readable(line) for line in processes.last_lines(self.log, count)]


@dataclass(slots=True)
class LocalCluster:
    """The cluster that lives in `directory`, as cluster.json says."""

    directory: Path
    base_port: int
    brokers: list[LocalBroker] = field(default_factory=list)
    monitoring: LocalMonitoring | None = None
    """Its Prometheus, if it ever had one."""

    @classmethod
    def new(cls, directory: Path, broker_count: int, base_port: int) -> LocalCluster:
        cluster = cls(directory, base_port)
        cluster.brokers = [
            LocalBroker(broker_id, BrokerPorts.of(base_port, broker_id), directory / f"broker-{broker_id}")
            for broker_id in range(broker_count)
        ]
        return cluster

    @classmethod
    def load(cls, directory: Path) -> LocalCluster | None:
        """The cluster described in `directory`; None if it describes none. Raises Refused if it cannot be read."""
        path = directory / "cluster.json"
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            described = json.loads(text)
            if described["kind"] != _KIND:
                raise ValueError(f"it describes {described['kind']!r}")
            if described["format"] != _FORMAT:
                raise Refused(
                    f"{path} has format {described['format']}, this lograft reads {_FORMAT}",
                    "use the version of lograft that wrote it",
                )
            cluster = cls.new(directory, len(described["brokers"]), int(described["base_port"]))
            for broker, entry in zip(cluster.brokers, described["brokers"], strict=True):
                if entry["pid"] is not None:
                    broker.process = ProcessIdentity(int(entry["pid"]), str(entry["birth"]))
                broker.ended_by = entry["ended_by"]
            if described.get("prometheus") is not None:
                cluster.monitoring = LocalMonitoring.of_description(directory / "prometheus", described["prometheus"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refused(
                f"{path} cannot be read ({type(error).__name__}: {error})", "repair it, or name another directory"
            ) from None
        return cluster

    def moved_to(self, base_port: int) -> LocalCluster:
        """The same cluster, stopped, with its ports counted from another base."""
        moved = LocalCluster.new(self.directory, len(self.brokers), base_port)
        for broker, known in zip(moved.brokers, self.brokers, strict=True):
            broker.ended_by = REMOVED_BY if known.is_removed else None
        moved.monitoring = self.monitoring
        return moved

    def save(self) -> None:
        described = {
            "kind": _KIND,
            "format": _FORMAT,
            "base_port": self.base_port,
            "brokers": [
                {
                    "broker_id": broker.broker_id,
                    "address": broker.address,
                    "pid": broker.process.pid if broker.process else None,
                    "birth": broker.process.birth if broker.process else None,
                    "ended_by": broker.ended_by,
                }
                for broker in self.brokers
            ],
            "prometheus": self.monitoring.description() if self.monitoring else None,
        }
        _replace(self.directory / "cluster.json", json.dumps(described, indent=2) + "\n")

    @property
    def members(self) -> list[LocalBroker]:
        """The brokers but those that were removed."""
        return [broker for broker in self.brokers if not broker.is_removed]

    @property
    def running(self) -> list[LocalBroker]:
        return [broker for broker in self.brokers if broker.is_running]

    @property
    def addresses(self) -> list[str]:
        return [broker.address for broker in self.members]

    @property
    def shown_directory(self) -> str:
        """The directory as a person would type it from here."""
        try:
            return f"./{self.directory.relative_to(Path.cwd())}"
        except ValueError:
            return str(self.directory)

    @property
    def data_option(self) -> str:
        """What must be added to a command here to mean this cluster; empty where it is found without."""
        return (
            "" if self.directory == Path.cwd() / DEFAULT_DIRECTORY else f" --data {shlex.quote(self.shown_directory)}"
        )

    def broker(self, broker_id: int) -> LocalBroker:
        if not 0 <= broker_id < len(self.brokers):
            raise Refused(
                f"there is no broker {broker_id} in {self.shown_directory}",
                f"it has brokers 0 to {len(self.brokers) - 1}",
            )
        return self.brokers[broker_id]

    def add_broker(self) -> LocalBroker:
        """Describe one broker more, and tell the configurations of the others of it; the caller holds the lock.

        Theirs too: a broker that lost its disk must find the cluster again, however small that was when it was formed.
        """
        known = self.running[0].config.read_text("utf-8", "surrogateescape")
        _, _, rest = known.partition("\n[log]\n")
        broker_id = len(self.brokers)
        added = LocalBroker(
            broker_id, BrokerPorts.of(self.base_port, broker_id), self.directory / f"broker-{broker_id}"
        )
        self.brokers.append(added)
        added.directory.mkdir(exist_ok=True)
        head, log_section, _ = self._broker_toml(added, "info").partition("\n[log]\n")
        _replace(added.config, head + log_section + (rest or 'level = "info"\n'))
        for broker in self.brokers[:-1]:
            if broker.config.exists():
                before, title, after = broker.config.read_text("utf-8", "surrogateescape").partition(_PEERS_TITLE)
                _, blank, rest = after.partition("\n\n")
                if title and blank:
                    _replace(broker.config, before + title + self._peers() + blank + rest)
        self.save()
        self._tell_monitoring()
        return added

    def prepare(self, log_level: str = "info", more_config: str = "") -> None:
        """Write what the brokers need to start, and keep what is there already."""
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self.directory / "secret"
        if not secret.exists():
            with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
        for broker in self.brokers:
            broker.directory.mkdir(exist_ok=True)
            _replace(broker.config, self._broker_toml(broker, log_level) + more_config)
        self.save()

    def _broker_toml(self, broker: LocalBroker, log_level: str) -> str:
        # Absolute paths: started by hand from elsewhere, it must find its data and not begin with an empty directory.
        return f"""\
# Written by each `lograft up`: changes here do not last.
[broker]
id = {broker.broker_id}
data_directory = {json.dumps(str(broker.directory / "data"))}

[listen]
grpc = "{HOST}:{broker.ports.grpc}"
peer = "{HOST}:{broker.ports.peer}"
http = "{HOST}:{broker.ports.http}"
kafka = "{HOST}:{broker.ports.kafka}"

[cluster]
secret_file = {json.dumps(str(self.directory / "secret"))}

{_PEERS_TITLE}{self._peers()}

[log]
level = "{log_level}"
"""

    def _peers(self) -> str:
        return "\n".join(f'{one.broker_id} = "{HOST}:{one.ports.peer}"' for one in self.members[: self._voter_count])

    @property
    def _voter_count(self) -> int:
        """Brokers that form the cluster; an even number bears no more losses than one less, so the others join them."""
        count = len(self.members)
        return count if count <= 3 else 3 if count == 4 else 5

    def launch(self, broker: LocalBroker) -> None:
        """Start the process of a broker that does not run; the caller holds the lock."""
        if broker.log.exists():
            broker.log.replace(broker.log.with_name("log.previous"))
        environment = {name: text for name, text in os.environ.items() if not name.upper().startswith(_OURS_TO_SAY)}
        broker.process = processes.spawn(
            processes.broker_command(["-c", str(broker.config)]),
            directory=broker.directory,
            log=broker.log,
            environment=environment,
        )
        broker.ended_by = None
        self.save()

    def launch_monitoring(self, program: Path) -> LocalMonitoring:
        """Start a Prometheus that watches the members; none runs, and the caller holds the lock."""
        before = self.monitoring.port if self.monitoring else None
        monitoring = LocalMonitoring(self.directory / "prometheus", choose_port(self.base_port, before))
        self.monitoring = monitoring
        self._tell_monitoring()
        monitoring.launch(program)
        self.save()
        return monitoring

    def _tell_monitoring(self) -> None:
        if self.monitoring is not None:
            self.monitoring.configure([broker.metrics_address for broker in self.members])

    @property
    def is_watched(self) -> bool:
        """Does its Prometheus run?"""
        return self.monitoring is not None and self.monitoring.is_running

    def retire(self, broker: LocalBroker) -> None:
        """Stop a broker that was removed from the cluster, for good; the caller holds the lock."""
        broker.ended_by = REMOVED_BY
        self.save()
        self._tell_monitoring()
        if broker.process is not None:
            processes.stop_all([broker.process], STOP_TIMEOUT_S)

    def stop(
        self, ended_by: str, timeout_s: float = STOP_TIMEOUT_S, *, brokers: Sequence[LocalBroker] | None = None
    ) -> list[LocalBroker]:
        """Stop what runs, of `brokers` or of all, and return those that had to be forced; the caller holds the lock.

        With all of them goes their Prometheus.
        """
        running = [broker for broker in self.running if brokers is None or broker in brokers]
        for broker in running:
            broker.ended_by = ended_by
        ending = [broker.process for broker in running if broker.process]
        if brokers is None and self.monitoring is not None:
            if self.monitoring.process is not None and self.is_watched:
                ending.append(self.monitoring.process)
            self.monitoring.ended_by = self.monitoring.ended_by or ended_by  # one that died is no news any more
        self.save()  # first, so that whoever watches sees why they end
        killed = processes.stop_all(ending, timeout_s)
        return [broker for broker in running if broker.process in killed]

    def kill(self, broker: LocalBroker) -> None:
        """kill -9, and wait until it is gone; the caller holds the lock."""
        if broker.process is None or not broker.is_running:
            raise Refused(f"broker {broker.broker_id} is not running", f"`lograft start {broker.broker_id}` starts it")
        broker.ended_by = "lograft kill"
        self.save()
        processes.send_signal(broker.process, signal.SIGKILL)
        if processes.wait_until_gone([broker.process], 5.0):
            raise Refused(
                f"broker {broker.broker_id} (pid {broker.process.pid}) did not go within 5 s of kill -9",
                "it is stuck in the kernel, most likely on its disk",
            )

    def delete(self) -> None:
        """Delete the cluster's files, and its directory if nothing else is in it. Nothing of it may be running."""
        for path in self.directory.glob("broker-*"):
            if path.name.removeprefix("broker-").isdigit() and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        if self.monitoring is not None and not self.monitoring.directory.is_symlink():
            shutil.rmtree(self.monitoring.directory, ignore_errors=True)
        for name in ("secret", "cluster.json"):  # the description last: until then it can be tried again
            (self.directory / name).unlink(missing_ok=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One `lograft` command at a time changes the cluster in `directory`. Raises Refused after 60 s."""
    with open(os.open(directory / "cluster.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "w") as lock:
        import time

        deadline = time.monotonic() + 60.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused(f"another lograft command has been working on {directory} for 60 s") from None
                time.sleep(0.05)
        yield


def find(data: Path | None) -> LocalCluster:
    """The cluster that a command means: `data`, else ./lograft-data, else the one last started. Raises Refused."""
    if data is not None:
        cluster = LocalCluster.load(Path(os.path.abspath(data)))
        if cluster is None:
            raise Refused(f"there is no local cluster in {data}", f"`lograft up --data {data}` makes one")
        return cluster
    candidates = [cluster for cluster in map(LocalCluster.load, _usual_directories()) if cluster is not None]
    for cluster in candidates:
        if cluster.running:
            return cluster
    if candidates:
        return candidates[0]
    raise Refused("there is no local cluster", "`lograft up` makes one, --data DIR names one")


def client_addresses(brokers: str | None) -> list[str]:
    """Where clients find the cluster: as told, else the running local cluster. Raises Refused.

    `brokers` is `host:port` or several with commas; --brokers and LOGRAFT_BROKERS both arrive here.
    """
    if brokers:
        return [address.strip() for address in brokers.split(",")]
    candidates = [cluster for cluster in map(LocalCluster.load, _usual_directories()) if cluster is not None]
    for cluster in candidates:
        if cluster.running:  # those that run first, the others may come back
            return [broker.address for broker in sorted(cluster.members, key=lambda broker: not broker.is_running)]
    if candidates:
        stopped = candidates[0]
        raise Refused(
            f"the local cluster in {stopped.shown_directory} is stopped",
            f"start it with `lograft up{stopped.data_option}`, or name brokers with --brokers or LOGRAFT_BROKERS",
        )
    raise Refused(
        "no cluster to talk to", "start one with `lograft up`, or name brokers with --brokers or LOGRAFT_BROKERS"
    )


def remember(directory: Path) -> None:
    """Note the cluster last started, so that it is found from other directories."""
    path = _state_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, f"{directory}\n")
    except OSError:
        pass  # a home that cannot be written costs a convenience, not the cluster


def _usual_directories() -> list[Path]:
    here = Path.cwd() / DEFAULT_DIRECTORY
    try:
        last = Path(_state_file().read_text("utf-8", "surrogateescape").strip())
    except OSError:
        return [here]
    return [here] if last == here or not last.is_absolute() else [here, last]


def _state_file() -> Path:
    state_home = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(state_home) if os.path.isabs(state_home) else Path.home() / ".local" / "state"
    return base / "lograft" / "local-cluster"


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text, "utf-8", "surrogateescape")
    new.replace(path)


def _readable(line: str) -> str:
    """A line of a broker's log for people: brokers log JSON where no terminal is."""
    try:
        entry = json.loads(line)
        event = entry.pop("event")
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    level = entry.pop("level", "info")
    time = str(entry.pop("timestamp", ""))[11:23]
    facts = _facts(entry)
    return " ".join(part for part in (time, "" if level == "info" else f"{level}:", str(event), facts) if part)


def _facts(entry: Mapping[str, object]) -> str:
    return " ".join(f"{name}={fact}" for name, fact in entry.items() if name not in ("broker", "broker_id"))


def explain(brokers: Sequence[LocalBroker]) -> list[str]:
    """What the logs of these brokers end with, for a person who asks why."""
    lines: list[str] = []
    for broker in brokers:
        words = broker.last_words()
        lines.append(f"  the log of broker {broker.broker_id} ({broker.log}) ends with:" if words else "")
        lines.extend(f"    {word}" for word in words)
    return [line for line in lines if line]
