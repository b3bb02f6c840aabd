"""Where copies count once they are written: what is committed by them, and what still is by synced ones alone."""

from __future__ import annotations

from lograft.partitions.raft.core import RaftCore
from lograft.partitions.raft.events import CountWritten, DamageFound, LogRecovered, Persisted, Propose
from lograft.partitions.raft.messages import AppendReply, AppendRequest, HeadOffer
from lograft.partitions.raft.points import ORIGIN, Item, ItemKind, Point

from .group import Group, a_core, items_of_terms, journal_of, voter

N1, N2, N3 = voter(1), voter(2), voter(3)


def a_leader(*, own: bool = True) -> tuple[Group, RaftCore, int]:
    """Broker 1 leads, nothing it appends from now on is synced or delivered; and the session with broker 2."""
    group = Group.of(3)
    group.elect(1)
    group.slow_disks.add(1)
    group.step(1, CountWritten(copies=True, own=own))
    core = group.core(1)
    return group, core, core.progress[N2].session


def written(core: RaftCore, session: int, match: Point, synced: Point) -> AppendReply:
    return AppendReply(N2, N1, core.term, session, accepted=True, match=match, committed=ORIGIN, synced=synced)


def test_record_is_committed_once_a_majority_has_written_it() -> None:
    group, core, session = a_leader()
    before = core.last
    end = group.propose(1)
    assert core.committed == before, "one copy of three"
    group.step(1, written(core, session, end, before))
    assert (core.committed, core.committed_synced) == (end, before)
    assert core.copies_of(end) == 2


def test_own_copy_waits_for_the_disk_until_it_is_promised_that_memory_counts() -> None:
    group, core, session = a_leader(own=False)
    before = core.last
    end = group.propose(1)
    group.step(1, written(core, session, end, before))
    assert core.committed == before
    group.step(1, CountWritten(copies=True, own=True))
    assert core.committed == end


def test_leader_of_a_topic_with_fsync_counts_only_what_a_follower_has_synced() -> None:
    group, core, session = a_leader()
    group.step(1, CountWritten(copies=False, own=False))
    before = core.last
    end = group.propose(1)
    group.flush(1)
    group.step(1, written(core, session, end, before))
    assert core.committed == before
    group.step(1, AppendReply(N2, N1, core.term, session, accepted=True, match=end, committed=ORIGIN))
    assert core.committed == core.committed_synced == end


def test_item_without_width_and_what_follows_it_is_committed_only_once_a_majority_has_synced_it() -> None:
    group, core, session = a_leader()
    before = core.last
    move = Point(core.term, before.offset, before.rank + 1)
    group.step(1, Propose((Item(move, ItemKind.LOG_START, b""),)))
    end = group.propose(1)
    group.step(1, written(core, session, end, before))
    assert core.committed == before, "both have written it, nobody has synced it"
    group.step(1, Persisted(end))
    group.step(1, written(core, session, end, move))
    assert (core.committed, core.committed_synced) == (end, move)


def test_leader_looks_after_a_follower_until_that_has_synced_everything() -> None:
    group, core, session = a_leader()
    before = core.last
    end = group.propose(1)
    group.step(1, written(core, session, end, before))
    group.step(1, AppendReply(N2, N1, core.term, session, accepted=True, match=end, committed=end, synced=before))
    assert core._followers.is_behind(core.progress[N2])
    group.step(1, AppendReply(N2, N1, core.term, session, accepted=True, match=end, committed=end))
    assert not core._followers.is_behind(core.progress[N2])


def test_nothing_is_compacted_beyond_what_a_loss_of_power_cannot_take_back() -> None:
    group, core, session = a_leader()
    before = core.last
    end = group.propose(1)
    group.step(1, written(core, session, end, before))
    core.step(Persisted(end))
    assert core.persisted == core.committed == end
    assert core.cleanable_to == before


def append(term: int, prev: Point, *items: Item, committed: Point, synced: Point | None = None) -> AppendRequest:
    end = items[-1].point if items else prev
    return AppendRequest(N2, N1, term, 1, end, prev, committed, tuple(items), 1, synced)


def test_one_that_does_not_vote_gives_up_what_the_voters_had_in_memory_alone_and_lost() -> None:
    core = a_core(learner=True)
    items = items_of_terms(1, 1, 1)
    core.step(append(1, ORIGIN, *items, committed=items[-1].point, synced=items[1].point))
    assert (core.committed, core.committed_synced) == (items[3].point, items[1].point)
    start = Item(Point(2, 2, 1), ItemKind.TERM_START, b"")
    effects = core.step(append(2, items[2].point, start, committed=items[1].point))
    assert effects.cut == core.committed == items[2].point and effects.commits_lost
    assert core.last == start.point


def test_one_that_holds_what_the_voters_lost_copies_a_log_that_was_cleaned_where_it_went_on_without_that() -> None:
    core = a_core(learner=True)
    items = items_of_terms(1, 1, 1)
    core.step(append(1, ORIGIN, *items, committed=items[-1].point, synced=items[1].point))
    assert core.committed == Point(1, 3, 1)
    # The leader's log parts from this one at offset 1, and lacks tombstones up to offset 2.
    effects = core.step(HeadOffer(N2, N1, 2, 1, ORIGIN, cleaned_to=2))
    assert effects.reset is not None and core.cleaned_to == 2


def test_late_offer_is_not_taken_by_one_that_knows_what_was_cleaned_to_be_committed() -> None:
    core = a_core(learner=True)
    items = items_of_terms(1, 1, 1)
    core.step(append(1, ORIGIN, *items, committed=items[-1].point, synced=items[2].point))
    assert core.step(HeadOffer(N2, N1, 1, 1, ORIGIN, cleaned_to=2)).reset is None


def test_log_that_was_read_anew_is_committed_as_far_as_before() -> None:
    core = a_core(learner=True)
    items = items_of_terms(1, 1, 1)
    core.step(append(1, ORIGIN, *items, committed=items[-1].point, synced=items[2].point))
    committed = core.committed
    for log in (items[:2], items):
        core.step(DamageFound(items[-1].point))
        core.step(LogRecovered(journal_of(log), core.voter_sets, items[-1].point, False, False, 0, committed))
    assert (core.committed, core.committed_synced) == (items[3].point, items[2].point)


def test_what_the_voters_lost_is_not_committed_again_when_the_log_that_took_its_place_is_read_anew() -> None:
    core = a_core(learner=True)
    items = items_of_terms(1, 1, 1)
    core.step(append(1, ORIGIN, *items, committed=items[-1].point, synced=items[1].point))
    core.step(DamageFound(core.last))
    core.step(LogRecovered(journal_of(items), core.voter_sets, core.last, False, False, 0, core.committed))
    core.step(HeadOffer(N2, N1, 2, 1, ORIGIN, cleaned_to=2))
    others = items_of_terms(1, 2, 2, 2)
    core.step(append(2, ORIGIN, *others, committed=ORIGIN))
    core.step(DamageFound(core.last))
    core.step(LogRecovered(journal_of(others), core.voter_sets, core.last, False, False, 2, core.committed))
    assert core.journal.holds(core.committed)
