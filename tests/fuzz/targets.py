"""The registry of all that is fuzzed. The quick suite and `make fuzz` both go by it."""

from __future__ import annotations

from tests.fuzz.console_targets import CONSOLE_TARGETS
from tests.fuzz.kafka_targets import KAFKA_TARGETS
from tests.fuzz.link_targets import LINK_TARGETS
from tests.fuzz.record_targets import RECORD_TARGETS
from tests.fuzz.storage_targets import STORAGE_TARGETS
from tests.fuzz.target import Target
from tests.fuzz.text_targets import TEXT_TARGETS

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*CONSOLE_TARGETS, *KAFKA_TARGETS, *LINK_TARGETS, *RECORD_TARGETS, *STORAGE_TARGETS, *TEXT_TARGETS)
}
