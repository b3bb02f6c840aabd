"""What a seed that fails says of how to see it again."""

from __future__ import annotations

from tests.simulation.world.__main__ import replay


def test_a_seed_that_failed_under_a_planted_bug_is_replayed_with_it() -> None:
    assert replay(7, "a-bug") == ".venv/bin/python -m tests.simulation.world --from 7 --seeds 1 --plant a-bug"


def test_a_seed_that_differed_from_itself_is_replayed_twice() -> None:
    assert replay(7, None, twice=True) == ".venv/bin/python -m tests.simulation.world --from 7 --seeds 1 --twice"


def test_a_seed_that_failed_is_replayed_by_make() -> None:
    assert replay(7, None) == "make world FROM=7 SEEDS=1"
