"""`make demo`: real input through a real cluster that loses its leader, and a proof that nothing else was lost.

Every line of Python's own standard library becomes an event, keyed by its file's path, in a topic of 12 partitions with
three replicas, while two consumers of one group share it. In mid-stream one consumer is killed with SIGKILL, and the
other takes over; then the broker that leads most partitions is killed, and comes back later. At the end every file is
put together again from what the consumers did and its SHA-256 compared with the disk.

Always
    whatever happens, Ctrl-C included, everything started here is stopped and the data directory is removed
    the exit code is 0 only if every single file came out equal, in what the consumers did and in a replay at the end,
        and records came twice only behind the offsets that the dead consumer had stored
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from ...proto.errors import LograftError
from ..client import Client
from ..delivery import Deliveries
from ..offset_bounds import END
from ..producer import Producer
from ..records import NewRecord
from . import ports
from .demo_ledger import Account, read_ledger, settle
from .demo_reader import Assembly
from .endings import DONE, FAILED, INTERRUPTED, Refused, one_line
from .health import wait_until
from .local_cluster import LocalBroker, LocalCluster, explain
from .tables import count, size

TOPIC = "stdlib"
PARTITIONS = 12
BROKERS = 3
READERS = 2
GROUP = "demo"
_SESSION_S = 2.5
"""How long a consumer may be silent before its partitions go to the other."""
READER_KILL_AT, KILL_AT, BACK_AT = 0.15, 0.40, 0.75
"""Parts of the input after which a consumer is killed, the leader is killed, and the leader is brought back."""
_IN_FLIGHT_BYTES = 8 << 20
"""Little beside the input, so that the leader dies in the middle of it."""
_LINES_MIN = 10_000
"""With less, all is sent before the leader can be killed."""
_READY_TIMEOUT_S = 60.0
_CATCH_UP_TIMEOUT_S = 60.0
_READERS_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.1
# A temporary directory is often small, and the demo needs little of it.
_CONFIG = """
[disk]
produce_stop_free_bytes = 67108864
replication_stop_free_bytes = 33554432
"""


class SourceFile(NamedTuple):
    """One file of the input: what is sent of it, and what must come back."""

    name: str
    path: Path
    lines: int
    size_bytes: int


class Sources:
    """The *.py files of a directory tree, read when they are needed."""

    def __init__(self, root: Path, files_max: int | None = None) -> None:
        self.root = root
        paths = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts and path.is_file())
        self.files = [self._of(path) for path in paths[:files_max]]
        self.lines = sum(file.lines for file in self.files)
        self.size_bytes = sum(file.size_bytes for file in self.files)

    def _of(self, path: Path) -> SourceFile:
        content = path.read_bytes()
        return SourceFile(path.relative_to(self.root).as_posix(), path, len(split_lines(content)), len(content))


def split_lines(content: bytes) -> list[bytes]:
    """The lines of a file with their endings, so that joined they are the file again, to the byte."""
    *whole, rest = content.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Story:
    """What the demo tells: lines that stay, and below them a bar where there is a terminal."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._total = total
        self._steps = 0

    @contextmanager
    def bar(self, what: str) -> Iterator[None]:
        """Show progress below the lines until the block is left."""
        if not sys.stdout.isatty():
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        look = (TextColumn("   {task.description}"), BarColumn(40), TextColumn("{task.percentage:>3.0f}%"))
        with Progress(*look, TimeElapsedColumn(), transient=True) as self._bar:
            self._task = self._bar.add_task(what, total=self._total)
            yield
        self._bar = None

    def progress(self, done: int, what: str | None = None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, **({"description": what} if what else {}))

    def step(self, *lines: str) -> None:
        """The next thing that happened, numbered."""
        self._steps += 1
        for number, line in enumerate(lines):
            self.tell(f"{self._steps:2}. {line}" if not number else f"    {line}")

    def tell(self, line: str = "") -> None:
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, flush=True)


@dataclass(slots=True)
class Acknowledgements:
    """When records were sent and acknowledged, as far as the story needs it."""

    acknowledged: int = 0
    killed_at: float | None = None
    longest_wait_s: float = 0.0
    """From the kill, or from their sending if that was later, for records under way then or sent within 5 s of it."""

    async def follow(self, deliveries: Deliveries, sent_at: float) -> None:
        ranges = await deliveries
        now = time.monotonic()
        for one in ranges:
            self.acknowledged += one.count
        if self.killed_at is not None and now > self.killed_at and sent_at < self.killed_at + 5.0:
            self.longest_wait_s = max(self.longest_wait_s, now - max(sent_at, self.killed_at))


class Reader:
    """One consumer process, as the demo sees it."""

    def __init__(self, process: asyncio.subprocess.Process, ledger: Path) -> None:
        self.ledger = ledger
        self.records = 0
        self.partitions = 0
        """How many it holds."""
        self.is_killed = False
        self._process = process
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, addresses: Sequence[str], ledger: Path) -> Reader:
        arguments = [",".join(addresses), TOPIC, GROUP, str(_SESSION_S), str(ledger)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "lograft.client.cli.demo_reader", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo to take
        )
        return cls(process, ledger)

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            self.records, self.partitions = told["records"], told["partitions"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises Refused if it ended by itself."""
        code = self._process.returncode
        if code is not None and not self.is_killed:
            raise Refused(f"a consumer ended early, with exit code {code}")

    async def kill(self) -> None:
        self.is_killed = True
        self._process.kill()
        await self._process.wait()

    async def finish(self) -> None:
        """Let it store, leave the group and end. Raises Refused if it fails or takes too long."""
        if self.is_killed:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), _READERS_TIMEOUT_S)
        except TimeoutError:
            raise Refused(f"a consumer did not leave its group within {_READERS_TIMEOUT_S:.0f} s") from None
        if code:
            raise Refused(f"a consumer ended with exit code {code}")

    async def stop(self) -> None:
        self._listening.cancel()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Demo:
    """The whole story, in the order in which it is told."""

    def __init__(self, sources: Sources, cluster: LocalCluster, story: Story) -> None:
        self._sources = sources
        self._cluster = cluster
        self._story = story
        self._acknowledgements = Acknowledgements()
        self._taking_over: asyncio.Task[None] | None = None
        """Done once one consumer has the partitions of the other, which was killed."""
        self._begun_at = time.monotonic()

    async def run(self) -> bool:
        """True if every file came out equal."""
        await self._bring_up()
        async with Client(self._cluster.addresses, client_id="demo") as client, self._readers(client) as readers:
            begun_at = time.monotonic()
            with self._story.bar("sending lines"):
                await self._stream(client, readers)
                self._story.progress(self._sources.lines, "reading on")
                sent_in_s = time.monotonic() - begun_at
                ends = await self._ends(client)
                await self._read_up_to(ends, client, readers)
                self._story.progress(self._sources.lines, "reading all of it again")
                account = await asyncio.to_thread(settle, (read_ledger(reader.ledger) for reader in readers), ends)
                replayed = await self._replay(client)
            rate = self._sources.lines / sent_in_s
            self._story.step(
                f"all {self._sources.lines:,} are acknowledged after {sent_in_s:.1f} s ({rate:,.0f} a second),",
                f"handled by the group and read once more {time.monotonic() - begun_at - sent_in_s:.1f} s later",
            )
            await self._wait_until_whole()
            return await self._verdict(client, ends, account, replayed)

    async def _bring_up(self) -> None:
        cluster = self._cluster
        for broker in cluster.brokers:
            cluster.launch(broker)
        begun_at = time.monotonic()
        health = await wait_until(
            cluster.addresses,
            lambda health: health.whole,
            timeout_s=_READY_TIMEOUT_S,
            give_up=lambda: len(cluster.running) < len(cluster.brokers),
        )
        if not health.whole:
            dead = [broker for broker in cluster.brokers if not broker.is_running]
            raise Refused(f"broker {dead[0].broker_id} died at its start" if dead else health.reason)
        self._story.step(
            f"three brokers are up after {time.monotonic() - begun_at:.1f} s, on ports "
            f"{', '.join(str(broker.ports.grpc) for broker in cluster.brokers)}"
        )
        async with Client(cluster.addresses, client_id="demo") as client:
            await client.admin.create_topic(TOPIC, partitions=PARTITIONS, replication=BROKERS)
        self._story.step(f"topic {TOPIC!r} is made: {PARTITIONS} partitions, {BROKERS} copies of each record")

    @asynccontextmanager
    async def _readers(self, client: Client) -> AsyncIterator[list[Reader]]:
        """The consumers, once they have shared the partitions out."""
        readers: list[Reader] = []
        try:
            for number in range(READERS):
                ledger = self._cluster.directory / f"consumer-{number}"
                readers.append(await Reader.start(self._cluster.addresses, ledger))
            await self._until(
                lambda: all(reader.partitions == PARTITIONS // READERS for reader in readers),
                readers,
                "the consumers did not share the partitions out",
            )
            self._story.step(
                f"every line becomes an event, keyed by its file; {READERS} consumers of group {GROUP!r} read along,",
                f"{PARTITIONS // READERS} partitions each",
            )
            yield readers
        finally:
            if self._taking_over is not None:
                self._taking_over.cancel()
            await asyncio.gather(*(reader.stop() for reader in readers))

    async def _until(self, condition: Callable[[], bool], readers: Sequence[Reader], otherwise: str) -> None:
        deadline = time.monotonic() + _READERS_TIMEOUT_S
        while not condition():
            for reader in readers:
                reader.check()
            if time.monotonic() > deadline:
                raise Refused(f"{otherwise} within {_READERS_TIMEOUT_S:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_S / 2)

    async def _read_up_to(self, ends: dict[int, int], client: Client, readers: Sequence[Reader]) -> None:
        """Until the group has stored that it handled everything, whoever did; then its members leave."""
        deadline = time.monotonic() + _READERS_TIMEOUT_S
        while True:
            described = await client.groups.describe(GROUP)
            stored = {one.partition.partition: one.stored_offset or 0 for one in described.partitions}
            if all(stored.get(partition, 0) >= end for partition, end in ends.items()):
                break
            for reader in readers:
                reader.check()
            if time.monotonic() > deadline:
                raise Refused(f"the group did not come to the end of the log within {_READERS_TIMEOUT_S:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_S)
        if self._taking_over is not None:
            await self._taking_over
        await asyncio.gather(*(reader.finish() for reader in readers))

    async def _stream(self, client: Client, readers: list[Reader]) -> None:
        """Send it all; kill the busiest leader on the way, and bring it back."""
        acknowledgements = self._acknowledgements
        total = self._sources.lines
        victim: LocalBroker | None = None
        following: list[asyncio.Task[None]] = []
        back = False

        async def look() -> None:
            """Do what is due by now."""
            nonlocal victim, back
            done = acknowledgements.acknowledged
            self._story.progress(done)
            if self._taking_over is None and done >= READER_KILL_AT * total:
                await self._kill_reader(readers)
            if victim is None and done >= KILL_AT * total:
                victim = await self._kill_busiest_leader(client, readers)
            elif victim is not None and not back and done >= BACK_AT * total:
                back = self._bring_back(victim)

        async with client.producer(max_in_flight_bytes=_IN_FLIGHT_BYTES) as producer:
            for file in self._sources.files:
                lines = split_lines(file.path.read_bytes())
                if not lines:
                    continue
                following.append(await self._send(producer, file, lines))
                await look()
            while not all(task.done() for task in following):
                await asyncio.wait(following, timeout=_LOOK_EVERY_S)
                await look()
            for task in following:
                task.result()
        if victim is None or self._taking_over is None:
            raise Refused("all was sent before a consumer and the leader could be killed", "use more input")
        if not back:
            self._bring_back(victim)

    async def _kill_reader(self, readers: Sequence[Reader]) -> None:
        victim, other = readers
        handled, held = victim.records, victim.partitions
        await victim.kill()
        killed_at = time.monotonic()
        self._story.step(
            f"kill -9 consumer {victim.pid}, which reads {held} of {PARTITIONS} partitions: {handled:,} lines handled"
        )

        async def take_over() -> None:
            await self._until(lambda: other.partitions == PARTITIONS, readers, "the other consumer did not take over")
            self._story.step(
                f"consumer {other.pid} has its partitions {time.monotonic() - killed_at:.1f} s later (a session lasts "
                f"{_SESSION_S:g} s),",
                "and goes on in them at the offsets that were stored",
            )

        self._taking_over = asyncio.create_task(take_over())

    async def _send(self, producer: Producer, file: SourceFile, lines: list[bytes]) -> asyncio.Task[None]:
        key = file.name.encode()
        sent_at = time.monotonic()
        deliveries = await producer.send_many(TOPIC, [NewRecord(line, key) for line in lines])
        return asyncio.create_task(self._acknowledgements.follow(deliveries, sent_at))

    async def _kill_busiest_leader(self, client: Client, readers: list[Reader]) -> LocalBroker:
        described = await client.admin.describe_topic(TOPIC)
        leaders = Counter(partition.leader_id for partition in described.partitions if partition.leader_id >= 0)
        broker_id, partitions = leaders.most_common(1)[0]
        victim = self._cluster.broker(broker_id)
        acknowledged = self._acknowledgements.acknowledged
        read = sum(reader.records for reader in readers)
        self._acknowledgements.killed_at = time.monotonic()
        await asyncio.to_thread(self._cluster.kill, victim)
        self._story.step(
            f"kill -9 broker {broker_id}, which leads {partitions} of {PARTITIONS} partitions: "
            f"{acknowledged:,} lines acknowledged, {read:,} read so far"
        )
        return victim

    def _bring_back(self, victim: LocalBroker) -> bool:
        self._cluster.launch(victim)
        away_s = time.monotonic() - (self._acknowledgements.killed_at or 0)
        self._story.step(f"broker {victim.broker_id} comes back after {away_s:.1f} s, with what its disk holds")
        return True

    async def _ends(self, client: Client) -> dict[int, int]:
        return {one.partition: end for one, end in (await client.groups.resolve(TOPIC, END)).items()}

    async def _replay(self, client: Client) -> Assembly:
        assembly = Assembly()
        async for record in client.read(TOPIC, "start", "end"):
            assembly.take(record.partition, (record,))
        return assembly

    async def _wait_until_whole(self) -> None:
        begun_at = time.monotonic()
        health = await wait_until(self._cluster.addresses, lambda health: health.whole, timeout_s=_CATCH_UP_TIMEOUT_S)
        if not health.whole:
            raise Refused(f"the cluster is not whole again: {health.reason}")
        self._story.step(f"the cluster is whole again, {time.monotonic() - begun_at:.1f} s later")

    async def _verdict(self, client: Client, ends: dict[int, int], account: Account, replayed: Assembly) -> bool:
        by_readers = account.files
        by_replay = replayed.digests()
        empty = hashlib.sha256().hexdigest()
        wrong = []
        for file in self._sources.files:
            on_disk = digest_of(file.path)
            if not on_disk == by_readers.get(file.name, empty) == by_replay.get(file.name, empty):
                wrong.append(file)
        in_log = sum(ends.values())
        lost = doubled = 0
        if wrong or in_log != self._sources.lines:
            lost, doubled = await self._compare_lines(client)
        lost += account.lost + replayed.gaps
        doubled += replayed.duplicates
        good = not wrong and not lost and not doubled and not account.unexplained and in_log == self._sources.lines
        files = len(self._sources.files)
        tell = self._story.tell
        tell()
        tell(f"    records       {in_log:,} in the log, {self._acknowledgements.acknowledged:,} acknowledged")
        tell(f"    files         {files - len(wrong):,} of {files:,} put together again, SHA-256 equal to the disk")
        tell(f"    bytes         {size(self._sources.size_bytes)} of source")
        tell(f"    time          {time.monotonic() - self._begun_at:.1f} s in all")
        tell(f"    longest wait  {self._acknowledgements.longest_wait_s:.2f} s for an acknowledgement, around the kill")
        tell(f"    lost          {lost:,}")
        tell(f"    doubled       {doubled:,} in the log")
        explained = ", all behind what the dead consumer had stored" if account.duplicates else ""
        if account.unexplained:
            explained = f", and {account.unexplained:,} times NOT behind what was stored"
        tell(f"    handled twice {account.duplicates:,}{explained}")
        tell()
        for file in wrong[:5]:
            tell(f"    DIFFERENT     {file.name}")
        tell(
            "nothing was lost, nothing stands twice in the log, nothing changed"
            if good
            else "NOT what was sent: see above"
        )
        return good

    async def _compare_lines(self, client: Client) -> tuple[int, int]:
        """Lines that the log lacks, and lines that it has too often. Only called when something is wrong."""
        logged: dict[bytes, Counter[bytes]] = {}
        async for record in client.read(TOPIC, "start", "end"):
            logged.setdefault(record.key or b"", Counter())[record.value or b""] += 1
        lost = too_many = 0
        for file in self._sources.files:
            sent = Counter(split_lines(file.path.read_bytes()))
            found = logged.pop(file.name.encode(), Counter())
            lost += (sent - found).total()
            too_many += (found - sent).total()
        return lost, too_many + sum(found.total() for found in logged.values())


@contextmanager
def _temporary_cluster() -> Iterator[LocalCluster]:
    """A cluster on free ports in a directory of its own; both are gone when the block is left."""
    base_port = ports.free_base_port(BROKERS, 19_600)
    if base_port is None:
        raise Refused("no free ports for three brokers were found")
    directory = Path(tempfile.mkdtemp(prefix="lograft-demo-"))
    cluster = LocalCluster.new(directory, BROKERS, base_port)
    try:
        cluster.prepare(more_config=_CONFIG)
        yield cluster
    finally:
        # From here on an impatient Ctrl-C must not leave brokers behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        cluster.stop("demo", timeout_s=5.0)
        shutil.rmtree(directory, ignore_errors=True)
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> int:
    stdlib = Path(sysconfig.get_path("stdlib"))
    parser = argparse.ArgumentParser(prog="make demo", description="Real input, a cluster, a dead leader.")
    parser.add_argument("--source", type=Path, default=stdlib, help="where the *.py files are")
    parser.add_argument("--files", type=int, default=None, help="use only the first so many files")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        sources = Sources(options.source, options.files)
        if sources.lines < _LINES_MIN:
            raise Refused(
                f"{sources.root} has only {count(sources.lines, 'line')} in *.py files",
                f"name a directory that has {_LINES_MIN:,} or more with --source",
            )
        story = Story(sources.lines)
        story.tell(
            f"{count(len(sources.files), 'file')}, {count(sources.lines, 'line')}, {size(sources.size_bytes)} "
            f"from {sources.root}"
        )
        with _temporary_cluster() as cluster:
            try:
                good = asyncio.run(Demo(sources, cluster, story).run())
            except (Refused, LograftError):
                for line in explain(cluster.brokers):  # before the logs are gone with the rest
                    story.tell(line)
                raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted; everything is stopped and removed", file=sys.stderr)
        return INTERRUPTED
    except (Refused, LograftError) as error:
        print(f"demo: {one_line(str(error))}", file=sys.stderr)
        return FAILED
    return DONE if good else FAILED


if __name__ == "__main__":
    sys.exit(main())
