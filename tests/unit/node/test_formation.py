from __future__ import annotations

import msgspec
import pytest
from lograft.node.formation import ClusterSet, Formation, MalformedSet, WrongCluster
from lograft.partitions.raft.messages import Voter


def voter(broker_id: int, directory: str = "") -> Voter:
    return Voter(broker_id, directory or f"directory-{broker_id}", 1)


SET = ClusterSet((voter(1), voter(2), voter(3)))


class Scene:
    """One broker's formation, and what it asked for."""

    def __init__(self, own: Voter, initial: tuple[int, ...] = (1, 2, 3), held: ClusterSet | None = None) -> None:
        self.chosen: list[ClusterSet] = []
        self.told: list[tuple[int, bytes]] = []
        self.formation = Formation(own, initial, held, self.chosen.append, lambda *told: self.told.append(told))
        self.formation.start()

    def meet(self, broker_id: int, cluster_id: str = "") -> None:
        self.formation.session_up(broker_id, f"directory-{broker_id}", cluster_id)


def test_the_lowest_initial_voter_writes_the_set_once_it_has_sessions_with_all() -> None:
    scene = Scene(voter(1))
    scene.meet(2)
    assert not scene.chosen and scene.formation.missing() == [3]
    scene.meet(3)
    assert scene.chosen == [SET]


def test_nobody_else_writes_the_set() -> None:
    for own, others in ((2, (1, 3)), (3, (1, 2)), (7, (1, 2, 3))):
        scene = Scene(voter(own))
        for other in others:
            scene.meet(other)
        assert not scene.chosen


def test_the_set_is_not_written_while_one_of_them_holds_one() -> None:
    scene = Scene(voter(1, "wiped"))
    scene.meet(2, SET.cluster_id)
    scene.meet(3)
    assert not scene.chosen


def test_a_session_that_is_over_does_not_count() -> None:
    scene = Scene(voter(1))
    scene.meet(2)
    scene.formation.session_down(2)
    scene.meet(3)
    assert not scene.chosen
    scene.meet(2)
    assert scene.chosen == [SET]


def test_a_cluster_of_one_needs_nobody() -> None:
    assert Scene(voter(1), initial=(1,)).chosen == [ClusterSet((voter(1),))]


def test_whoever_holds_none_takes_the_set_that_is_told_and_votes_only_if_it_is_named() -> None:
    named, later, wiped = Scene(voter(2)), Scene(voter(9)), Scene(voter(2, "wiped"))
    for scene in (named, later, wiped):
        scene.formation.told(1, SET.encode())
        assert scene.chosen == [SET]
        scene.formation.settled(SET)
    assert named.formation.is_voter
    assert not later.formation.is_voter and not wiped.formation.is_voter


def test_a_set_is_told_to_those_who_hold_none_before_and_after_it_is_settled() -> None:
    scene = Scene(voter(1))
    scene.meet(2)
    scene.meet(3)
    assert not scene.told  # not durable here yet
    scene.formation.settled(SET)
    assert scene.told == [(2, SET.encode()), (3, SET.encode())]
    scene.meet(9)
    scene.meet(4, SET.cluster_id)
    assert scene.told[2:] == [(9, SET.encode())]


def test_a_set_once_chosen_is_not_chosen_again() -> None:
    scene = Scene(voter(2))
    scene.formation.told(1, SET.encode())
    scene.formation.told(3, SET.encode())
    assert scene.chosen == [SET]


def test_another_clusters_set_is_refused_naming_both() -> None:
    other = ClusterSet((voter(1, "other"),))
    scene = Scene(voter(2), held=SET)
    with pytest.raises(WrongCluster) as refused:
        scene.formation.told(1, other.encode())
    assert refused.value.facts == {"ours": SET.cluster_id, "theirs": other.cluster_id}
    assert scene.formation.held == SET


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        SET.encode()[:-1],
        ClusterSet(()).encode(),
        ClusterSet((voter(2), voter(1))).encode(),
        ClusterSet((voter(1), voter(1, "twice"))).encode(),
    ],
)
def test_a_body_that_is_no_set_is_refused(body: bytes) -> None:
    scene = Scene(voter(2))
    with pytest.raises(MalformedSet):
        scene.formation.told(1, body)
    assert not scene.chosen


def test_clusters_of_different_directories_have_different_ids() -> None:
    assert SET.cluster_id == ClusterSet(SET.voters).cluster_id
    assert SET.cluster_id != ClusterSet((*SET.voters[:2], voter(3, "other"))).cluster_id
    assert len(SET.cluster_id) == 32


def test_a_cluster_whose_decisions_were_recovered_is_another_one_and_the_others_ids_stay_as_they_were() -> None:
    recovered = ClusterSet(SET.voters[:1], 1)
    assert ClusterSet.decode(recovered.encode()) == recovered != ClusterSet(SET.voters[:1])
    assert recovered.cluster_id != ClusterSet(SET.voters[:1]).cluster_id
    assert msgspec.msgpack.decode(SET.encode()) == [[list(voter) for voter in SET.voters]]
    scene = Scene(voter(2), held=SET)
    with pytest.raises(WrongCluster):
        scene.formation.told(1, recovered.encode())
