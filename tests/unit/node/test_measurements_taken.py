"""What is measured of the process, and which events are warnings."""

from __future__ import annotations

import gc
import logging

from lograft.node.logs import level_of
from lograft.node.outside import Outside


def test_collections_are_told_with_generation_and_seconds_until_nobody_watches() -> None:
    told: list[tuple[int, float]] = []
    unwatch = Outside().watch_collections(lambda generation, seconds: told.append((generation, seconds)))
    gc.collect(1)
    unwatch()
    seen = len(told)
    gc.collect(2)
    assert len(told) == seen
    assert any(generation == 1 and 0 <= seconds < 60 for generation, seconds in told)


def test_what_somebody_should_look_at_is_a_warning_and_the_course_of_things_is_not() -> None:
    assert level_of("replica_damaged", {}) == logging.WARNING
    assert level_of("leading", {"partition": "p"}) == logging.INFO
    assert level_of("disk_space", {"produce_stopped": True}) == logging.WARNING
    assert level_of("disk_space", {"produce_stopped": False}) == logging.INFO
