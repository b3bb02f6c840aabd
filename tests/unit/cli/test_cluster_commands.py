from __future__ import annotations

from lograft.client.cli.cluster_commands import _health_text

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
