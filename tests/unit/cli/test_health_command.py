from __future__ import annotations

from typing import Any

import pytest
from lograft.client.admin import ClusterDescription
from lograft.client.cli.endings import FAILED, INTERRUPTED, OUTPUT_CLOSED, WRONG_USAGE
from lograft.client.cli.health_command import Condition, _health_text, health_as_json
from lograft.client.cli.main import main

WELL = {"healthy": True, "brokers_alive": 3, "losses_borne": 1, "frail_partitions": 0}


def test_a_healthy_cluster_says_how_many_brokers_it_can_lose() -> None:
    assert _health_text(WELL) == "healthy: 3 brokers, of which 1 can be lost without the cluster stopping"


def test_partitions_with_too_few_copies_to_lose_a_broker_are_told() -> None:
    told = _health_text({**WELL, "frail_partitions": 2}).splitlines()
    assert told[1].startswith("but 2 partitions have fewer than three copies, and stop with one broker")
    assert "but 1 partition has fewer than three copies, and stops" in _health_text({**WELL, "frail_partitions": 1})


def test_a_cluster_that_can_lose_nobody_says_only_that() -> None:
    told = _health_text({**WELL, "losses_borne": 0, "frail_partitions": 2})
    assert told == "healthy: 3 brokers, of which none can be lost without the cluster stopping"


def described(**facts: Any) -> ClusterDescription:
    brokers = ()
    well = {"healthy": False, "reasons": ("because",), "losses_borne": 1, "topics": 1, "partitions": 6}
    standing = {"leaderless_partitions": 0, "under_replicated_partitions": 0, "controller_id": 1, "controller_term": 1}
    return ClusterDescription(**{"cluster_id": "c", "brokers": brokers, **well, **standing, **facts})


@pytest.mark.parametrize(
    ("facts", "condition"),
    [
        ({"healthy": True, "reasons": ()}, Condition.healthy),
        ({"under_replicated_partitions": 3}, Condition.degraded),
        ({"controller_id": -1}, Condition.undecided),
        ({"leaderless_partitions": 2, "under_replicated_partitions": 3}, Condition.leaderless),
        ({"leaderless_partitions": 2, "controller_id": -1}, Condition.leaderless),
    ],
)
def test_the_exit_code_is_of_the_worst_that_is_true(facts: dict[str, Any], condition: Condition) -> None:
    assert Condition.of(described(**facts)) is condition
    assert health_as_json(described(**facts))["condition"] == condition.name


def test_no_condition_has_the_exit_code_of_another_ending() -> None:
    assert {FAILED, WRONG_USAGE, INTERRUPTED, OUTPUT_CLOSED} & set(Condition) == {Condition.silent}


def test_a_time_limit_without_anything_to_wait_for_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "health", "--timeout", "5"]) == 2
    assert "--timeout" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_no_reason_to_wait_longer_than_was_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["cluster", "health", "-e", "--timeout", "0", "--brokers", "127.0.0.1:1"]) == Condition.silent
    assert capsys.readouterr().out.startswith("not healthy: no answer\n  ")
