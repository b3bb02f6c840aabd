"""Group commit tells the truth, shares syncs, and never tries a failed one again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from lograft.partitions.flusher import Flusher
from lograft.partitions.raft.points import ORIGIN, Point
from lograft.partitions.storage.log import Ticket

from tests.unit.storage.fakes import (
    LOG_DIRECTORY,
    FakeDisk,
    FakeEnvironment,
    a_log,
    items_of,
    turns,
)


@dataclass(eq=False)
class CountingLog:
    """Syncs when the test says so."""

    written: int = 0
    begun: int = 0
    gates: list[asyncio.Event] = field(default_factory=list)

    def ticket(self) -> Ticket:
        return Ticket(0, self.written, ORIGIN)

    async def sync(self) -> None:
        self.begun += 1
        gate = asyncio.Event()
        self.gates.append(gate)
        await gate.wait()

    def write_and_request(self, flusher: Flusher, answers: list[int]) -> None:
        self.written += 1
        flusher.request(self, lambda ticket: answers.append(ticket.written))  # type: ignore[arg-type]


def test_what_is_answered_survives_a_power_cut() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        log = await a_log(env)
        flusher = Flusher(env)
        log.append(items_of(log.end, "T1", 1), 5)
        answers: list[tuple[Ticket, int]] = []
        file = disk.names[f"{LOG_DIRECTORY}/{0:020d}.log"]
        flusher.request(log, lambda ticket: answers.append((ticket, len(file.synced))))
        assert not answers
        await flusher.drain()
        ((ticket, synced_bytes),) = answers
        assert ticket == log.ticket() and synced_bytes == log.size_bytes

    asyncio.run(scenario())


def test_requests_that_come_during_a_round_share_the_next_one() -> None:
    async def scenario() -> None:
        flusher, log, answers = Flusher(FakeEnvironment(FakeDisk())), CountingLog(), []
        for _ in range(3):
            log.write_and_request(flusher, answers)
        await turns(3)
        for _ in range(4):
            log.write_and_request(flusher, answers)
        await turns(3)
        assert log.begun == 1
        log.gates[0].set()
        await turns(3)
        # The first round answers for what was written before it began, not for what came since.
        assert answers == [3] * 3 and log.begun == 2
        log.gates[1].set()
        await flusher.drain()
        assert answers == [3] * 3 + [7] * 4 and log.begun == 2

    asyncio.run(scenario())


def test_no_more_logs_are_synced_at_once_than_allowed_and_each_gets_its_turn() -> None:
    async def scenario() -> None:
        flusher = Flusher(FakeEnvironment(FakeDisk()), syncs_at_once=2)
        logs, answers = [CountingLog() for _ in range(5)], []
        for log in logs:
            log.write_and_request(flusher, answers)
        await turns(3)
        assert [log.begun for log in logs] == [1, 1, 0, 0, 0]
        logs[0].write_and_request(flusher, answers)  # queues behind those that wait
        logs[0].gates[0].set()
        await turns(3)
        assert [log.begun for log in logs] == [1, 1, 1, 0, 0]
        for _ in range(10):
            for log in logs:
                for gate in log.gates:
                    gate.set()
            await turns(3)
        assert [log.begun for log in logs] == [2, 1, 1, 1, 1] and len(answers) == 6

    asyncio.run(scenario())


def test_a_sync_that_fails_ends_the_process_and_answers_nobody() -> None:
    async def scenario() -> None:
        disk = FakeDisk()
        env = FakeEnvironment(disk)
        log = await a_log(env, "T1")
        answers: list[Ticket] = []
        disk.syncs_that_fail = lambda path: True
        Flusher(env).request(log, answers.append)
        await turns()
        assert not answers and env.halted is not None and env.halted.startswith("fsync failed")

    asyncio.run(scenario())


def test_an_answer_that_a_cut_overtook_bears_the_old_count_of_cuts() -> None:
    async def scenario() -> None:
        env = FakeEnvironment(FakeDisk())
        log = await a_log(env, "T1", 1, 1)
        flusher, answers = Flusher(env), []
        flusher.request(log, answers.append)
        await asyncio.sleep(0)
        await log.cut(Point(1, 1, 1))
        await flusher.drain()
        assert [ticket.cuts == log.cuts for ticket in answers] == [False]

    asyncio.run(scenario())


def test_drain_returns_at_once_when_nothing_is_under_way() -> None:
    async def scenario() -> None:
        await Flusher(FakeEnvironment(FakeDisk())).drain()

    asyncio.run(scenario())


def test_a_log_that_was_let_go_is_not_flushed_again_and_no_flush_of_it_is_in_flight() -> None:
    async def scenario() -> None:
        flusher = Flusher(FakeEnvironment(FakeDisk()))
        log, answers = CountingLog(), list[int]()
        log.write_and_request(flusher, answers)
        await turns()
        log.write_and_request(flusher, answers)
        letting_go = asyncio.ensure_future(flusher.let_go(log))  # type: ignore[arg-type]
        await turns()
        assert not letting_go.done(), "its files are still being synced"
        log.gates[0].set()
        await letting_go
        await flusher.drain()
        assert (log.begun, answers) == (1, [1])

    asyncio.run(scenario())


def test_a_log_that_is_asked_about_again_after_it_was_let_go_has_one_round_in_flight() -> None:
    async def scenario() -> None:
        flusher = Flusher(FakeEnvironment(FakeDisk()), syncs_at_once=2)
        busy, log, answers = [CountingLog(), CountingLog()], CountingLog(), []
        for other in busy:
            other.write_and_request(flusher, answers)
        log.write_and_request(flusher, answers)
        await flusher.let_go(log)  # type: ignore[arg-type]
        log.write_and_request(flusher, answers)
        await turns(3)
        busy[0].gates[0].set()
        await turns(3)
        assert log.begun == 1
        log.write_and_request(flusher, answers)
        busy[1].gates[0].set()
        await turns(3)
        assert log.begun == 1
        log.gates[0].set()
        await turns(3)
        log.gates[1].set()
        await flusher.drain()
        assert log.begun == 2 and answers == [1, 1, 2, 3]

    asyncio.run(scenario())
