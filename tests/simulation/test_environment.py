from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest
from lograft.partitions.environment import PartitionId
from lograft.partitions.raft.messages import CampaignNow, Voter

from tests.simulation.disk import ROOT, SimulatedDisk
from tests.simulation.environment import Clock, SimulatedEnvironment
from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import VirtualLoop


class Machine:
    """A machine and the incarnation that runs on it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.loop = VirtualLoop()
        self.disk = SimulatedDisk(Random(1))
        self.sent: list[object] = []
        self.ends: list[str] = []
        self.failures: list[BaseException] = []
        self.environment = SimulatedEnvironment(
            name="broker 1",
            loop=self.loop,
            random=Random(2),
            disk=self.disk,
            clock=clock or Clock(),
            trace=Trace(self.loop.now_ms),
            deliver=lambda _environment, _partition, message: self.sent.append(message),
            on_end=lambda _environment, why: self.ends.append(why),
            on_failure=lambda _environment, failure: self.failures.append(failure),
        )

    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.loop.close()


def test_after_a_crash_no_timer_task_or_message_of_the_incarnation_goes_on(machine: Machine) -> None:
    environment = machine.environment
    done: list[str] = []

    async def sleep_and_note() -> None:
        await asyncio.sleep(1)
        done.append("task")

    environment.call_later(1000, lambda: done.append("timer"))
    environment.call_soon(lambda: done.append("soon"))
    environment.spawn(sleep_and_note())
    environment.crash()
    voter = Voter(1, "d", 1)
    environment.transport.send(PartitionId("0", 0), CampaignNow(voter, voter, 1))
    machine.wait(5)
    assert (done, machine.sent, machine.ends, machine.failures) == ([], [], [], [])


def test_a_task_that_cleans_up_after_a_crash_cannot_reach_the_disk(machine: Machine) -> None:
    environment = machine.environment
    file = environment.disk.open(f"{ROOT}/f", create=True)

    async def write_when_cancelled() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            file.write(0, [b"too late"])

    environment.spawn(write_when_cancelled())
    machine.wait(0.1)
    environment.crash()
    machine.wait(5)
    assert machine.disk.files[f"{ROOT}/f"].cache == b""
    assert machine.failures == []


def test_a_planned_crash_unwinds_out_of_the_code_that_touched_the_disk(machine: Machine) -> None:
    environment = machine.environment
    file = environment.disk.open(f"{ROOT}/f", create=True)
    environment.crash_at_operation = environment.disk_operations + 2
    reached: list[str] = []

    def write_twice() -> None:
        try:
            file.write(0, [b"one"])
            reached.append("one")
            file.write(3, [b"two"])
            reached.append("two")
        except Exception:
            reached.append("handled")

    environment.enter(write_twice)
    assert reached == ["one"]
    assert machine.ends == [f"crashed at write {ROOT}/f 3+3"]
    assert not environment.is_alive


def test_halt_ends_the_incarnation_and_says_why(machine: Machine) -> None:
    environment = machine.environment
    environment.call_soon(lambda: environment.halt("fsync failed"))
    machine.wait(1)
    assert machine.ends == ["halted: fsync failed"]
    assert not environment.is_alive


def test_an_exception_that_the_code_lets_out_is_reported(machine: Machine) -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    machine.environment.spawn(fail())
    machine.environment.call_soon(lambda: 1 // 0)  # type: ignore[arg-type]
    machine.wait(1)
    assert sorted(type(failure).__name__ for failure in machine.failures) == ["ValueError", "ZeroDivisionError"]


def test_a_paused_broker_takes_everything_in_order_when_it_goes_on(machine: Machine) -> None:
    environment = machine.environment
    seen: list[int] = []
    environment.call_later(300, lambda: seen.append(3))
    environment.call_later(100, lambda: seen.append(1))
    environment.call_later(200, lambda: seen.append(2))
    environment.pause()
    machine.wait(1)
    assert seen == []
    environment.resume()
    assert seen == [1, 2, 3]


def test_clocks_of_machines_run_apart() -> None:
    machine = Machine(Clock(rate=1.5, monotonic_offset_ms=1000, wall_offset_ms=-5000))
    environment = machine.environment
    wall_at_first = environment.wall_ms()
    fired_at: list[float] = []
    environment.call_later(150, lambda: fired_at.append(machine.loop.now_ms()))
    machine.wait(1)
    assert fired_at == [pytest.approx(100)]
    assert environment.monotonic_ms() == pytest.approx(1000 + 1500)
    assert environment.wall_ms() - wall_at_first == 1000
    machine.loop.close()
