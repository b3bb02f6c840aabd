"""When followers hear what is committed."""

from __future__ import annotations

from typing import Any, cast

from lograft.partitions.commit_news import CommitNews
from lograft.partitions.raft.events import Event, TellCommitted
from lograft.partitions.raft.messages import AppendRequest

from tests.unit.raft.group import Group
from tests.unit.storage.fakes import FakeDisk, FakeEnvironment


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def take(self, event: Event) -> None:
        self.events.append(event)


def test_what_many_logs_have_committed_is_told_once_and_together() -> None:
    environment = FakeEnvironment(FakeDisk())
    news = CommitNews(environment)
    logs = [Told(), Told(), Told()]
    for log in (logs[0], logs[1], logs[0]):
        news.note(cast(Any, log))
    assert len(environment.timers) == 1 and not logs[0].events
    environment.run_timers()
    assert [log.events for log in logs] == [[TellCommitted()], [TellCommitted()], []]
    assert not environment.timers, "nothing is left to tell"
    news.note(cast(Any, logs[2]))
    environment.run_timers()
    assert logs[2].events == [TellCommitted()]


def appends_to(group: Group, broker_id: int) -> list[AppendRequest]:
    return [
        message for message in group.network if isinstance(message, AppendRequest) and message.to.broker_id == broker_id
    ]


def test_a_follower_hears_of_a_commit_with_the_items_that_come_next_or_once_it_is_told() -> None:
    group = Group.of(3)
    group.elect(1)
    group.tells_at_once = False
    first = group.propose(1)
    group.settle()
    assert group.core(1).committed == first
    assert group.core(2).committed < first, "it was told though nobody said so"
    second = group.propose(1)
    assert [request.committed for request in appends_to(group, 2)] == [first]
    group.settle()
    group.step(1, TellCommitted())
    assert [(request.committed, request.items) for request in appends_to(group, 2)] == [(second, ())]
    group.settle()
    assert group.core(2).committed == group.core(3).committed == second
    group.step(1, TellCommitted())
    assert not group.network, "all was told already"
