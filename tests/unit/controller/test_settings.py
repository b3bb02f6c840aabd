from __future__ import annotations

import pytest
from lograft.node.controller.facts import SettingFact
from lograft.node.controller.settings import BYTES_PER_SECOND, GONE_AFTER_MS, OFF, SETTINGS, known_setting, value_of
from lograft.proto.errors import InvalidConfig


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        (BYTES_PER_SECOND, "20MB/s", 20_000_000),
        (BYTES_PER_SECOND, "1.5 MiB/s", 1_572_864),
        (BYTES_PER_SECOND, "5000000", 5_000_000),
        (BYTES_PER_SECOND, "unlimited", OFF),
        (BYTES_PER_SECOND, "default", 50_000_000),
        (GONE_AFTER_MS, "45min", 2_700_000),
        (GONE_AFTER_MS, "2h", 7_200_000),
        (GONE_AFTER_MS, "10000", 10_000),
        (GONE_AFTER_MS, "never", OFF),
    ],
)
def test_a_value_is_read_with_its_unit_and_shown_so_that_it_can_be_read_again(name: str, text: str, value: int) -> None:
    setting = SETTINGS[name]
    assert setting.parse(text) == value and setting.parse(setting.shown(value)) == value


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "text", ["0", "", "-1", "1", "nan", "1e9", "20 parsecs", "20Mb/s", "9" * 40, "99999999999999999", "off", "٣٠000000"]
)
def test_a_value_that_is_none_or_out_of_bounds_is_refused_with_how_to_write_one(name: str, text: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        SETTINGS[name].parse(text)
    assert name in str(refused.value) and SETTINGS[name].off in str(refused.value)


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidConfig, match=r"moves\.bytes_per_second"):
        known_setting("moves.bytes")


@pytest.mark.parametrize(("decided", "value"), [(7_000_000, 7_000_000), (OFF, None), (0, 50_000_000), (-7, 50_000_000)])
def test_what_was_decided_is_in_force_and_what_cannot_be_meant_is_the_default(decided: int, value: int | None) -> None:
    facts = {BYTES_PER_SECOND: SettingFact(name=BYTES_PER_SECOND, value=decided)}
    assert value_of(facts, BYTES_PER_SECOND) == value
    assert value_of({}, BYTES_PER_SECOND) == 50_000_000
