from __future__ import annotations

from random import Random

import pytest
from lograft.client.grants import Grant, GrantKey, Grants, Told

A1, A2, B1 = Grant("id", 0, 1, "t"), Grant("id", 0, 2, "t"), Grant("id", 1, 1, "t")
NOTHING = Told((), (), ())


def take_in(
    grants: Grants, granted: list[Grant], revoked: list[Grant] | None = None, at: float = 0.0
) -> list[list[Grant]]:
    """What an answer to a heartbeat changes that was sent, and answered, at `at`: lost, to give up, taken up."""
    return list(grants.take_in(granted, revoked or [], told=grants.to_tell(), sent_at=at, now=at))


def test_a_grant_is_taken_up_once_and_owned_from_then_on() -> None:
    grants = Grants(session_s=10)
    assert take_in(grants, [A1, B1]) == [[], [], [A1, B1]]
    assert take_in(grants, [A1, B1]) == [[], [], []]
    assert grants.to_tell() == Told((A1.key, B1.key), (), ())


def test_what_is_in_no_list_is_lost_at_once() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A1, B1])
    take_in(grants, [A1], [B1])
    assert take_in(grants, []) == [[A1, B1], [], []]
    assert grants.to_tell() == NOTHING


def test_a_partition_granted_anew_is_lost_and_taken_up_in_one() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A1])
    assert take_in(grants, [A2]) == [[A1], [], [A2]]


def test_what_is_revoked_is_given_up_and_told_as_released_until_that_was_answered() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A1, B1])
    assert take_in(grants, [B1], [A1]) == [[], [A1], []]
    assert take_in(grants, [B1], [A1]) == [[], [], []]
    assert grants.to_tell() == Told((B1.key,), (A1.key,), ())
    before = grants.to_tell()
    grants.release([A1.key])
    grants.take_in([B1], [A1], told=before, sent_at=0, now=0)  # the answer to one that did not tell of it yet
    assert grants.to_tell().released == (A1.key,)
    assert take_in(grants, [B1]) == [[], [], []]
    assert not grants.has_released


def test_what_is_revoked_before_it_was_taken_up_is_released_at_once() -> None:
    grants = Grants(session_s=10)
    assert take_in(grants, [], [A1]) == [[], [], []]
    assert grants.to_tell() == Told((), (), (A1.key,))


def test_a_grant_given_back_is_never_taken_up_again_but_a_newer_one_of_the_partition_is() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A1])
    take_in(grants, [], [A1])
    grants.release([A1.key])
    assert take_in(grants, []) == [[], [], []]
    assert take_in(grants, [A1]) == [[], [], []]
    assert grants.to_tell().released == (A1.key,), "told again: the coordinator thinks it is ours"
    assert take_in(grants, [A2]) == [[], [], [A2]]


def test_what_was_lost_while_it_was_given_up_is_not_released() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A1])
    take_in(grants, [], [A1])
    assert take_in(grants, []) == [[A1], [], []]
    grants.release([A1.key])
    assert not grants.has_released


def test_a_grant_is_taken_up_once_the_name_of_its_topic_is_told() -> None:
    grants = Grants(session_s=10)
    nameless = A1._replace(topic="")
    assert take_in(grants, [nameless, B1]) == [[], [], [B1]]
    assert take_in(grants, [A1, B1]) == [[], [], [A1]]
    assert take_in(grants, [nameless, B1]) == [[], [], []], "who holds it knows what it is"
    assert take_in(grants, [B1], [nameless]) == [[], [A1], []]


def test_the_session_counts_from_the_sending_of_what_was_answered() -> None:
    grants = Grants(session_s=10)
    grants.take_in([A1], [], told=NOTHING, sent_at=100, now=104)
    assert not grants.is_over(109.9)
    assert grants.is_over(110)
    assert grants.lose_all() == [A1]
    assert not grants.is_over(200), "there is none any more"


def test_an_answer_that_comes_after_its_own_session_is_void() -> None:
    grants = Grants(session_s=10)
    assert grants.take_in([A1], [], told=NOTHING, sent_at=0, now=10) == ([], [], [])
    assert grants.to_tell() == NOTHING
    grants.take_in([A1], [], told=NOTHING, sent_at=20, now=20)
    assert grants.take_in([A1], [], told=NOTHING, sent_at=20, now=30) == ([A1], [], [])
    assert not grants.holds(A1.key)


def test_after_a_session_that_ended_here_alone_what_was_held_is_given_back_and_must_be_granted_anew() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A1])
    assert grants.lose_all() == [A1]
    assert grants.to_tell().released == (A1.key,)
    before = Told((), (), ())
    assert grants.take_in([A1], [], told=before, sent_at=11, now=11) == ([], [], [])
    assert take_in(grants, [A2], at=11) == [[], [], [A2]]
    assert not grants.has_released


def test_a_coordinator_that_does_not_know_the_member_may_begin_to_count_anew() -> None:
    grants = Grants(session_s=10)
    take_in(grants, [A2])
    take_in(grants, [], [A2])
    grants.release([A2.key])
    assert grants.forget_all() == []
    assert not grants.has_released
    assert take_in(grants, [A1]) == [[], [], [A1]]


# Against a coordinator ---------------------------------------------------------------------------------------------

SESSION_S = 10.0


class Coordinating:
    """The rules of the other side, as far as members depend on them. Whoever is not heard in time is out."""

    def __init__(self, partitions: int, chance: Random) -> None:
        self.generation = 0
        self.heard_at: dict[int, float] = {}
        self.grants: dict[int, tuple[int, int]] = {}  # partition -> member, generation
        self.revoked: set[int] = set()
        self._partitions = partitions
        self._chance = chance

    def pass_time(self, now: float) -> None:
        for member in [member for member, heard_at in self.heard_at.items() if now > heard_at + SESSION_S]:
            del self.heard_at[member]
            for partition in [p for p, (owner, _) in self.grants.items() if owner == member]:
                self._free(partition)
        self.grant()

    def grant(self) -> None:
        for partition in range(self._partitions):
            if partition not in self.grants and self.heard_at:
                self.generation += 1
                self.grants[partition] = (self._chance.choice(sorted(self.heard_at)), self.generation)

    def seek(self, partition: int) -> None:
        if partition in self.grants:
            self.generation += 1
            self.grants[partition] = (self.grants[partition][0], self.generation)

    def _free(self, partition: int) -> None:
        del self.grants[partition]
        self.revoked.discard(partition)

    def hear(self, member: int, told: Told, join: bool, now: float) -> tuple[list[Grant], list[Grant]] | None:
        """The answer; None: UNKNOWN_MEMBER."""
        if member not in self.heard_at and not join:
            return None
        self.heard_at[member] = now
        for key in told.released:
            if self.grants.get(key.partition) == (member, key.generation):
                self._free(key.partition)
        self.grant()
        mine = {p: Grant("id", p, generation, "t") for p, (owner, generation) in self.grants.items() if owner == member}
        return (
            [grant for p, grant in mine.items() if p not in self.revoked],
            [grant for p, grant in mine.items() if p in self.revoked],
        )


class Member:
    """A member whose heartbeats are handed over by hand."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.grants = Grants(SESSION_S)
        self.join = True
        self.to_give_up: list[GrantKey] = []
        self.released: set[GrantKey] = set()
        self.sent: tuple[Told, bool, float] | None = None
        self.answer: tuple[list[Grant], list[Grant]] | str | None = None

    def pass_time(self, now: float) -> None:
        if self.grants.is_over(now):
            self.grants.lose_all()
            self.join = True

    def hears(self, now: float) -> None:
        assert self.sent is not None and self.answer is not None
        (told, joined, sent_at), answer = self.sent, self.answer
        self.sent = self.answer = None
        if isinstance(answer, str):
            self.grants.forget_all()
            self.join = True
            return
        self.join &= not joined
        changes = self.grants.take_in(answer[0], answer[1], told=told, sent_at=sent_at, now=now)
        assert not self.released & {grant.key for grant in changes.take_up}, "what was given back is taken up again"
        self.to_give_up += [grant.key for grant in changes.give_up]

    def gives_back(self) -> None:
        key = self.to_give_up.pop(0)
        if self.grants.holds(key):
            self.released.add(key)
        self.grants.release([key])

    def held(self) -> tuple[GrantKey, ...]:
        told = self.grants.to_tell()
        return told.owned + told.giving_up


@pytest.mark.parametrize("seed", range(150))
def test_two_members_never_hold_one_partition_whatever_is_late_or_lost(seed: int) -> None:
    chance = Random(seed)
    coordinator = Coordinating(6, chance)
    members = [Member(number) for number in range(3)]
    now = 0.0
    for step in range(600):
        calm = step > 450  # nothing is late or lost any more
        now += chance.choice((0.0, 0.1, 1.0)) if calm else chance.choice((0.0, 0.1, 1.0, 1.0, 4.0, 11.0))
        coordinator.pass_time(now)
        for member in members:
            member.pass_time(now)
        for member in members if calm else [chance.choice(members)]:
            if member.sent is None:
                member.sent = (member.grants.to_tell(), member.join, now)
            elif member.answer is None and (calm or chance.random() < 0.7):
                told, join, _ = member.sent
                member.answer = coordinator.hear(member.number, told, join, now) or "unknown"
            elif member.answer is None or (not calm and chance.random() < 0.2):
                member.sent = member.answer = None  # the question was lost, or its answer
            else:
                member.hears(now)
            if member.to_give_up and (calm or chance.random() < 0.5):
                member.gives_back()
        if chance.random() < 0.1 and not calm:
            coordinator.revoked.add(chance.randrange(6))
            coordinator.revoked &= coordinator.grants.keys()
        if chance.random() < 0.05 and not calm:
            coordinator.seek(chance.randrange(6))
        held = [key.partition for member in members for key in member.held()]
        assert len(held) == len(set(held)), f"step {step}: {[member.held() for member in members]}"
    for member in members:
        mine = {(p, generation) for p, (owner, generation) in coordinator.grants.items() if owner == member.number}
        assert {(key.partition, key.generation) for key in member.held()} == mine, "it settles"
