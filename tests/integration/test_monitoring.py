"""A real Prometheus watches three real brokers while they are hurt in turn: the right alert fires, and clears.

The rules are the users' own, with time going twenty times as fast. At the end the alerts seen are listed (`pytest -s`).
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lograft import sync
from lograft.client.cli import monitoring_files
from lograft.proto.errors import LograftError
from lograft.v1 import admin_service_pb2 as admin_pb

from tests.integration.brokers import Brokers, a_batch, eventually
from tests.monitoring.install import CannotBeHad, install
from tests.monitoring.server import Ledger, Prometheus

pytestmark = [pytest.mark.long, pytest.mark.alerting, pytest.mark.timeout(300)]

TIME_SCALE = 0.05
"""A minute of the rules is three seconds, a quarter of an hour forty-five."""
SCRAPE_S = 1.0
LAG_GOAL_S = 5.0
TOPIC, GROUP = "orders", "billing"
EMPTY_WHEN_ALL_IS_WELL = {
    "Calls that failed, by code",
    "Batches refused, by reason",
    "Dropped by retention",
    "Replicas behind, worst",
    "Time to catch up",
    "Partitions furthest behind",
}
"""Panels of the dashboards."""
OF_A_BUSY_MACHINE = {"LograftProduceSlow", "LograftFsyncSlow", "LograftEventLoopStall"}
"""These fire wherever the brokers get too little of the machine, as in a test run they may."""


class Traffic:
    """A producer that goes on whatever happens, and a member of a group that can be told to stop reading."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._over = threading.Event()
        self.reads = threading.Event()
        self.reads.set()
        self._threads = [threading.Thread(target=work) for work in (self._produce, self._consume)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join()

    def _produce(self) -> None:
        with sync.Client(self._addresses) as client:
            while not self._over.is_set():
                try:
                    with client.producer(linger_ms=0) as producer:
                        while not self._over.wait(0.05):
                            producer.send(TOPIC, b"x" * 100)
                except LograftError:
                    continue  # with a majority away that is as it should be

    def _consume(self) -> None:
        with sync.Client(self._addresses) as client:
            while not self._over.wait(0.1):
                if not self.reads.is_set():
                    continue
                try:
                    with client.consumer(TOPIC, group_id=GROUP, auto_offset_reset="earliest") as consumer:
                        while self.reads.is_set() and not self._over.is_set():
                            consumer.getmany(timeout_ms=200)
                            consumer.commit()
                except LograftError:
                    continue


class Watched:
    """The cluster, its Prometheus, its traffic, and what has been seen so far."""

    def __init__(self, directory: Path, program: Path) -> None:
        self.brokers = Brokers(directory, settings="[scrub]\ninterval_ms = 1000\nbytes_per_s = 100000000\n")
        rules = monitoring_files.alerts(
            lag_goals_s={GROUP: LAG_GOAL_S}, time_scale=TIME_SCALE, scrape_interval_s=SCRAPE_S
        )
        self.prometheus = Prometheus(program, directory / "prometheus", scrape_interval_s=SCRAPE_S, rules=rules)
        self.ledger = Ledger(self.prometheus)
        self.traffic = Traffic([broker.address for broker in self.brokers.all])

    @property
    def targets(self) -> list[str]:
        return [f"127.0.0.1:{broker.http_port}" for broker in self.brokers.all]

    def start(self) -> None:
        self.brokers.start()
        self.brokers.create_topic(TOPIC, partitions=6)
        self.traffic.start()
        self.prometheus.watch(self.targets)

    def stop(self) -> None:
        self.traffic.stop()
        self.brokers.stop()
        self.prometheus.stop()

    def value(self, expression: str) -> float:
        """Of the one series that the expression gives; -1 for none."""
        found = self.prometheus.query(expression)
        return found[0][1] if found else -1.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    try:
        program = install().prometheus
    except CannotBeHad as why:
        pytest.skip(str(why))
    watched = Watched(tmp_path_factory.mktemp("watched"), program)
    try:
        watched.start()
        yield watched
    finally:
        watched.stop()
        print(f"\n{watched.ledger.table()}")


@pytest.fixture
def watched(shared: Watched) -> Watched:
    """All brokers up and heard, the group at the end of the log, nothing firing but what a busy machine explains."""
    shared.traffic.reads.set()
    shared.brokers.start()
    shared.prometheus.watch(shared.targets)
    eventually(lambda: shared.value('sum(up{job=~"lograft.*"})') == 6.0, 30)
    shared.ledger.await_quiet(besides=OF_A_BUSY_MACHINE, seconds=120)
    return shared


def test_prometheus_reads_all_brokers_and_a_cluster_that_is_well_is_quiet(watched: Watched) -> None:
    eventually(lambda: watched.value("sum(rate(lograft_produce_records_total[10s]))") > 0, 30)
    eventually(lambda: watched.value(f'max(lograft_group_members{{group="{GROUP}"}})') == 1, 30)
    assert watched.value("sum(lograft_controller_active)") == 1
    assert watched.value('count(count by (topic, partition) (lograft_raft_is_leader{topic="orders"}))') == 6
    assert watched.ledger.look() <= OF_A_BUSY_MACHINE


def test_every_panel_of_the_dashboards_shows_something(watched: Watched) -> None:
    def empty_panels() -> set[str]:
        found = set()
        for name in monitoring_files.DASHBOARDS:
            for panel in json.loads(monitoring_files.dashboard(name))["panels"]:
                for target in panel["targets"]:
                    asked = target["expr"].replace("$__rate_interval", "10s").replace("$cluster", "lograft")
                    if not watched.prometheus.query(re.sub(r"\$(topic|group)", ".+", asked)):
                        found.add(panel["title"])
        return found - EMPTY_WHEN_ALL_IS_WELL

    try:
        eventually(lambda: not empty_panels(), 60)
    except AssertionError:
        assert empty_panels() == set()


def test_a_killed_broker_is_told_and_so_is_what_cannot_bear_another_loss(watched: Watched) -> None:
    watched.brokers[1].kill()
    watched.ledger.await_firing("LograftBrokerDown", "LograftAtMinimumQuorum", "LograftUnderReplicated", seconds=60)
    watched.brokers.start()
    watched.ledger.await_quiet(
        "LograftBrokerDown", "LograftAtMinimumQuorum", "LograftUnderReplicated", "LograftLeaderChurn", seconds=60
    )


def test_a_majority_that_is_gone_leaves_no_leader_and_no_controller(watched: Watched) -> None:
    watched.brokers[0].kill()
    watched.brokers[1].kill()
    watched.ledger.await_firing("LograftLeaderlessPartitions", "LograftNoController", seconds=60)
    watched.brokers[2].stop()
    watched.brokers[2].start()  # it was ready; but one that starts alone waits for the others
    watched.ledger.await_firing("LograftBrokerNotReady", seconds=60)
    watched.brokers.start()
    watched.ledger.await_quiet(
        "LograftLeaderlessPartitions", "LograftNoController", "LograftBrokerNotReady", seconds=60
    )


def test_a_member_that_prometheus_does_not_know_is_missed_by_the_others(watched: Watched) -> None:
    watched.prometheus.watch(watched.targets[:2])
    eventually(lambda: watched.value('count(up{job="lograft"})') == 2, 30)
    watched.brokers[2].kill()
    watched.ledger.await_firing("LograftBrokersOutOfTouch", seconds=60)
    assert "LograftBrokerDown" not in watched.ledger.look()
    watched.brokers.start()
    watched.ledger.await_quiet("LograftBrokersOutOfTouch", seconds=60)


def test_a_prometheus_without_brokers_says_so(watched: Watched) -> None:
    watched.prometheus.watch([])
    watched.ledger.await_firing("LograftNotWatched", seconds=60)
    watched.prometheus.watch(watched.targets)
    watched.ledger.await_quiet("LograftNotWatched", seconds=60)


def test_a_group_that_stops_reading_is_behind_and_its_lag_grows_until_it_reads_again(watched: Watched) -> None:
    eventually(lambda: watched.value(f'max(lograft_group_lag_records{{group="{GROUP}"}})') >= 0, 30)
    watched.traffic.reads.clear()
    watched.ledger.await_firing("LograftGroupBehind", "LograftGroupLagGrowing", seconds=180)
    watched.traffic.reads.set()
    watched.ledger.await_quiet("LograftGroupBehind", "LograftGroupLagGrowing", seconds=90)


def test_records_that_are_trimmed_before_a_group_read_them_are_missed(watched: Watched) -> None:
    eventually(lambda: watched.value(f'max(lograft_group_lag_records{{group="{GROUP}"}})') >= 0, 30)
    watched.traffic.reads.clear()
    time.sleep(2)
    admin = watched.brokers[0].admin
    found = admin.DescribeTopic(admin_pb.DescribeTopicRequest(name=TOPIC), timeout=15).topic.partitions
    ends = [admin_pb.TrimmedPartition(partition=one.number, offset=one.committed_offset) for one in found]
    admin.TrimTopic(admin_pb.TrimTopicRequest(name=TOPIC, partitions=ends), timeout=15)
    watched.ledger.await_firing("LograftGroupMissedRecords", seconds=60)
    watched.traffic.reads.set()
    watched.ledger.await_quiet("LograftGroupMissedRecords", "LograftGroupBehind", seconds=60)


def test_a_full_disk_is_told_while_it_refuses_and_no_longer(watched: Watched, tmp_path: Path) -> None:
    # Full is where we say: little more than is free now is kept as a reserve once a file takes some of that.
    broker = watched.brokers[2]
    broker.stop()
    free = shutil.disk_usage(broker.data_directory).free
    filling = 3 << 30
    if free < 3 * filling:
        pytest.skip(f"too little is free on this disk ({free >> 20} MiB) to fill some of it")
    before = broker.config_path.read_text()
    broker.config_path.write_text(f"{before}[disk]\nproduce_stop_free_bytes = {free - filling // 2}\n")
    file = tmp_path / "filling"
    try:
        broker.start()
        watched.brokers.await_ready()
        with file.open("wb") as filled:
            os.posix_fallocate(filled.fileno(), 0, filling)
        watched.ledger.await_firing("LograftDiskFull", "LograftDiskLow", seconds=90)
        file.unlink()
        watched.ledger.await_quiet("LograftDiskFull", seconds=60)
    finally:
        file.unlink(missing_ok=True)
        broker.stop()
        broker.config_path.write_text(before)
        broker.start()
        watched.brokers.await_ready()
    watched.ledger.await_quiet("LograftDiskLow", seconds=60)


def test_a_disk_that_takes_long_for_each_sync_is_told(watched: Watched) -> None:
    process = watched.brokers[0].process
    if shutil.which("strace") is None or process is None:
        pytest.skip("there is no strace here to slow the disk down with")
    delay = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=700000"]
    slowing = subprocess.Popen(
        ["strace", "-f", "-p", str(process.pid), *delay, "-o", "/dev/null"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with suppress(subprocess.TimeoutExpired):
            slowing.wait(2)
            pytest.skip("strace may not look at other processes here")
        watched.ledger.await_firing("LograftFsyncSlow", seconds=90)
    finally:
        slowing.send_signal(signal.SIGINT)
        slowing.wait(20)
    watched.ledger.await_quiet("LograftFsyncSlow", seconds=90)


def test_decay_of_a_disk_is_told_at_once_and_no_more_once_it_is_repaired(watched: Watched) -> None:
    topic_id = watched.brokers.create_topic("decaying").topic_id
    leader = watched.brokers.leader_of("decaying")
    for number in range(20):
        assert not leader.produce("decaying", a_batch(b"%d" % number * 500)).error.reason
    follower = next(broker for broker in watched.brokers.all if broker is not leader)
    (log,) = (follower.data_directory / "partitions" / f"{topic_id}-0").glob("*.log")
    eventually(lambda: log.stat().st_size > 5_000)
    with log.open("r+b") as file:
        file.seek(2_000)
        (byte,) = file.read(1)
        file.seek(2_000)
        file.write(bytes([byte ^ 8]))
    watched.ledger.await_firing("LograftDamage", seconds=60)
    watched.ledger.await_quiet("LograftDamage", seconds=90)
    assert watched.value("sum(lograft_repair_holes_filled_total)") > 0


def test_corrupt_batches_of_a_client_are_told(watched: Watched) -> None:
    watched.brokers.create_topic("strange")
    batch = bytearray(a_batch(b"as it was written"))
    batch[-1] ^= 1
    assert watched.brokers.leader_of("strange").produce("strange", bytes(batch)).error.reason == "CORRUPT_BATCH"
    watched.ledger.await_firing("LograftCorruptTraffic", seconds=30)
    watched.ledger.await_quiet("LograftCorruptTraffic", seconds=60)


def test_file_handles_that_run_out_are_told(watched: Watched) -> None:
    process = watched.brokers[0].process
    assert process is not None
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    taken = len(os.listdir(f"/proc/{process.pid}/fd"))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken + taken // 10, before[1]))
    try:
        watched.ledger.await_firing("LograftFewFileHandles", seconds=60)
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
    watched.ledger.await_quiet("LograftFewFileHandles", seconds=60)


def test_a_replica_that_cannot_be_made_is_told_until_it_can(watched: Watched) -> None:
    topic_id = os.urandom(16).hex()
    in_the_way = watched.brokers[0].data_directory / "partitions" / f"{topic_id}-0"
    in_the_way.write_text("a file where a directory should be made")
    try:
        request = admin_pb.CreateTopicRequest(name="hindered", partitions=1, replication=3, topic_id=topic_id)
        watched.brokers[1].admin.CreateTopic(request, timeout=20)
        watched.ledger.await_firing("LograftUnopenedReplicas", seconds=60)
    finally:
        in_the_way.unlink(missing_ok=True)
        watched.brokers[0].stop()
        watched.brokers.start()
    watched.ledger.await_quiet("LograftUnopenedReplicas", seconds=60)


def test_replicas_that_a_power_failure_leaves_in_doubt_are_told_until_the_others_are_back(
    watched: Watched, tmp_path: Path
) -> None:
    if (
        os.geteuid() != 0
        or shutil.which("unshare") is None
        or subprocess.run(["unshare", "--mount", "true"]).returncode
    ):
        pytest.skip("only root, and not everywhere, can show a broker another boot id")
    watched.brokers.create_topic("fleeting", config={"durability": "memory"})
    leader = watched.brokers.leader_of("fleeting")
    for _ in range(20):
        assert not leader.produce("fleeting", a_batch(b"not on a disk yet")).error.reason
    for broker in watched.brokers.all:
        broker.kill()
    # As after a reboot: what was written and not synced may be lost, and the others that could tell are not there.
    other_boot = tmp_path / "boot_id"
    other_boot.write_text(f"{uuid.uuid4()}\n")
    broker_command = [sys.executable, "-m", "lograft.node", "-c", str(watched.brokers[2].config_path)]
    hidden = f"mount --bind {other_boot} /proc/sys/kernel/random/boot_id"
    broker = watched.brokers[2]
    with broker.log_path.open("ab") as log:
        broker.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f'{hidden} && exec "$@"', "sh", *broker_command],
            stdout=log,
            stderr=log,
        )
    watched.ledger.await_firing("LograftDoubtfulReplicas", seconds=60)
    watched.brokers.start()
    watched.ledger.await_quiet("LograftDoubtfulReplicas", seconds=60)


def test_a_broker_that_starts_again_and_again_is_told(watched: Watched) -> None:
    broker = watched.brokers[2]

    def started_at() -> float:
        return watched.value(f'process_start_time_seconds{{job="lograft", instance="{watched.targets[2]}"}}')

    for _ in range(3):
        known = started_at()
        broker.stop()
        broker.start()
        eventually(lambda known=known: started_at() not in (known, -1.0), 30)  # type: ignore[misc]
    watched.ledger.await_firing("LograftBrokerRestarts", seconds=30)
    watched.ledger.await_quiet("LograftBrokerRestarts", seconds=90)


def test_brokers_that_stand_still_now_and_then_are_late_slow_and_lose_what_they_lead(watched: Watched) -> None:
    wanted = {"LograftEventLoopStall", "LograftProduceSlow", "LograftLeaderChurn"}
    over = threading.Event()

    def stall() -> None:
        turn = 0
        while not over.wait(0.5):
            # Two at once: where one of them leads, it loses that; where the third does, it waits for both.
            two = [watched.brokers[(turn + which) % 3] for which in range(2)]
            turn += 1
            for broker in two:
                broker.pause()
            over.wait(0.9)
            for broker in two:
                broker.resume()

    stalling = threading.Thread(target=stall)
    stalling.start()
    try:
        watched.ledger.await_firing(*wanted, seconds=120)
    finally:
        over.set()
        stalling.join()
    watched.ledger.await_quiet(*wanted, seconds=150)
